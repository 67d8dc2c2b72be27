"""Conversations: bounded, kept apart, shared by threads and processes, and safe from a damaged file."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from workshop_lib.orchestration import memory as module
from workshop_lib.orchestration.memory import Memory, MemoryBroken, SessionError, new_session

ROUTE = {"chain": "product", "question": {"category": "EGGS"}}


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "folder" / "conversations.db", turns=3)


def said(memory: Memory, session: str) -> list[str]:
    return [str(message.content) for message in memory.messages(session)]


def rows(memory: Memory) -> int:
    with closing(sqlite3.connect(memory.path)) as db:
        return int(db.execute("select count(*) from turns").fetchone()[0])


def test_a_new_conversation_is_empty(memory: Memory) -> None:
    session = new_session()
    assert memory.messages(session) == []
    assert memory.last_route(session) is None


def test_it_gives_back_what_was_said_as_messages(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "¿Cuántos huevos?\n“uno”", "1,234 units", ROUTE)
    question, answer = memory.messages(session)
    assert isinstance(question, HumanMessage) and question.content == "¿Cuántos huevos?\n“uno”"
    assert isinstance(answer, AIMessage) and answer.content == "1,234 units"
    assert memory.last_route(session) == ROUTE


def test_only_the_last_turns_are_remembered_and_kept(memory: Memory) -> None:
    session = new_session()
    for number in range(8):
        memory.add(session, f"q{number}", f"a{number}")
    assert said(memory, session) == ["q5", "a5", "q6", "a6", "q7", "a7"]
    assert rows(memory) == 3


def test_the_last_route_may_lie_before_small_talk_but_within_the_window(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "eggs?", "1", ROUTE)
    memory.add(session, "thanks", "you are welcome")
    assert memory.last_route(session) == ROUTE
    for _ in range(3):
        memory.add(session, "hello", "hello")
    assert memory.last_route(session) is None


def test_a_smaller_window_holds_for_what_was_kept_before(memory: Memory) -> None:
    session = new_session()
    for number in range(3):
        memory.add(session, f"q{number}", f"a{number}")
    assert said(Memory(memory.path, turns=1), session) == ["q2", "a2"]


def test_it_lasts_longer_than_the_object(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "q", "a", ROUTE)
    assert said(Memory(memory.path), session) == ["q", "a"]


def test_the_settings_say_where_and_how_much(use_settings: Callable[..., object], tmp_path: Path) -> None:
    use_settings(memory_turns=2)
    found = Memory()
    assert found.turns == 2
    assert found.path == tmp_path / "home" / "assistant" / "conversations.db"


# Kept apart


def test_conversations_do_not_know_of_each_other(memory: Memory) -> None:
    mine, yours = new_session(), new_session()
    memory.add(mine, "mine", "a", ROUTE)
    memory.add(yours, "yours", "a")
    assert said(memory, mine) == ["mine", "a"]
    assert said(memory, yours) == ["yours", "a"]
    assert memory.last_route(yours) is None
    memory.forget(yours)
    assert said(memory, mine) == ["mine", "a"]
    assert said(memory, yours) == []


@pytest.mark.parametrize(
    "session",
    ["", "x", "' or '1'='1", "../" * 8, "%" * 32, "*" * 32, "a" * 31, "a" * 33, "a" * 31 + "\n", "a" * 32 + "\n",
     "á" * 32, "\0" * 32, "' union select question from turns --", None, 7, ["a" * 32]],
)  # fmt: skip
def test_only_a_token_opens_a_conversation(memory: Memory, session: object) -> None:
    memory.add(new_session(), "secret", "a")
    for call in (memory.messages, memory.last_route, memory.forget):
        with pytest.raises(SessionError, match="new_session"):
            call(session)  # type: ignore[arg-type]
    with pytest.raises(SessionError):
        memory.add(session, "q", "a")  # type: ignore[arg-type]
    assert rows(memory) == 1


def test_tokens_cannot_be_guessed_and_do_not_stand_in_the_file(memory: Memory) -> None:
    tokens = {new_session() for _ in range(1000)}
    assert len(tokens) == 1000
    session = tokens.pop()
    memory.add(session, "q", "a")
    everything = b"".join(file.read_bytes() for file in memory.path.parent.iterdir())
    assert session.encode() not in everything


def test_others_cannot_read_the_file(memory: Memory) -> None:
    memory.add(new_session(), "q", "a")
    assert memory.path.stat().st_mode & 0o077 == 0


def test_texts_never_become_sql(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "'); drop table turns; --", '"; delete from turns; --', {"chain": "'; drop table turns"})
    assert said(memory, session) == ["'); drop table turns; --", '"; delete from turns; --']


# Bounded


def test_long_messages_are_cut(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "q" * 10**6, "a" * 10**6)
    assert [len(text) for text in said(memory, session)] == [module.LONGEST_MESSAGE] * 2


def test_conversations_that_were_silent_longest_go_first(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 5)
    sessions = [new_session() for _ in range(8)]
    for session in sessions:
        memory.add(session, "q", "a")
        memory.add(sessions[0], "still here", "a")
    assert [bool(memory.messages(session)) for session in sessions] == [True, *[False] * 3, *[True] * 4]


def test_old_conversations_are_forgotten(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = new_session(), new_session()
    memory.add(old, "q", "a", ROUTE)
    later = time.time() + (module.OLDEST_DAYS + 1) * 86400
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert memory.messages(old) == []
    assert memory.last_route(old) is None
    memory.add(new, "q", "a")
    assert rows(memory) == 1


# Shared


def test_many_threads_write_at_once(memory: Memory) -> None:
    sessions = [new_session() for _ in range(4)]

    def talk(number: int) -> None:
        memory.add(sessions[number % 4], f"q{number}", f"a{number}")
        memory.messages(sessions[number % 4])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(talk, range(80)))
    for place, session in enumerate(sessions):
        found = said(memory, session)
        assert len(found) == 6
        assert {int(text[1:]) % 4 for text in found} == {place}
        assert all(question[1:] == answer[1:] for question, answer in zip(found[::2], found[1::2], strict=True))


def test_processes_share_a_file(memory: Memory) -> None:
    session = new_session()
    code = (
        "import sys; from pathlib import Path; from workshop_lib.orchestration.memory import Memory\n"
        "memory = Memory(Path(sys.argv[1]), turns=50)\n"
        "for number in range(10): memory.add(sys.argv[2], f'{sys.argv[3]}-{number}', 'a')"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(memory.path), session, name]) for name in ("one", "two")
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert len(said(Memory(memory.path, turns=50), session)) == 40


def test_a_reader_does_not_wait_for_a_writer(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 30)
    session = new_session()
    memory.add(session, "q", "a")
    with closing(sqlite3.connect(memory.path, isolation_level=None)) as writer:
        writer.execute("begin immediate")
        begun = time.perf_counter()
        assert said(memory, session) == ["q", "a"]
        assert time.perf_counter() - begun < 25  # a writer is waited for thirty seconds


def test_a_file_that_is_locked_for_long_is_no_damage(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    session = new_session()
    memory.add(session, "q", "a")
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(memory.path, isolation_level=None)) as writer:
        writer.execute("begin immediate")
        with pytest.raises(MemoryBroken, match=r"cannot be used now \(database is locked\)"):
            memory.add(session, "q", "a")
    assert said(memory, session) == ["q", "a"]
    assert not list(memory.path.parent.glob("*broken*"))


# Damaged


@pytest.mark.parametrize("damage", [b"not a database at all, sorry" * 200, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside_and_the_next_call_begins_anew(memory: Memory, damage: bytes) -> None:
    session = new_session()
    memory.add(session, "q", "a")
    for file in memory.path.parent.iterdir():
        file.unlink()
    memory.path.write_bytes(damage)
    with pytest.raises(MemoryBroken, match=r"was damaged .* kept as conversations\.broken-\d+\.db; .* begin anew"):
        memory.messages(session)
    (aside,) = memory.path.parent.glob("conversations.broken-*.db")
    assert aside.read_bytes() == damage
    memory.add(session, "again", "a")
    assert said(memory, session) == ["again", "a"]


def test_damage_in_the_middle_of_the_file_is_noticed(memory: Memory) -> None:
    session = new_session()
    for number in range(3):
        memory.add(session, f"q{number}" * 900, "a")
    with closing(sqlite3.connect(memory.path)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(memory.path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    memory.path.write_bytes(content)
    with pytest.raises(MemoryBroken, match="was damaged"):
        memory.messages(session)
    assert memory.messages(session) == []


def test_two_threads_that_meet_the_same_damage_put_it_aside_once(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "q", "a")
    memory.path.write_bytes(b"broken" * 2000)
    with ThreadPoolExecutor(8) as pool:
        ends = [pool.submit(memory.add, session, f"q{number}", "a").exception() for number in range(8)]
    assert {type(end) for end in ends} <= {MemoryBroken, type(None)}
    assert len(list(memory.path.parent.glob("conversations.broken-*.db"))) == 1
    memory.add(session, "again", "a")
    assert "again" in said(memory, session)


def test_half_characters_are_kept_as_text(memory: Memory) -> None:
    session = new_session()
    memory.add(session, "half \ud800 emoji", "\0 zero")
    assert said(memory, session) == ["half \\ud800 emoji", "\0 zero"]


@pytest.mark.parametrize("route", ["no json", "[1]", "7"])
def test_a_route_that_somebody_else_wrote_is_none(memory: Memory, route: str) -> None:
    session = new_session()
    memory.add(session, "q", "a", ROUTE)
    with closing(sqlite3.connect(memory.path)) as db, db:
        db.execute("update turns set route = ?", (route,))
    assert memory.last_route(session) is None


def test_a_file_without_the_table_is_put_aside(memory: Memory) -> None:
    memory.path.parent.mkdir()
    with closing(sqlite3.connect(memory.path)) as db:
        db.execute("create table other (id)")
    with pytest.raises(MemoryBroken, match="was damaged"):
        memory.messages(new_session())
    assert memory.messages(new_session()) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MemoryBroken, match="not remembered"):
        Memory(tmp_path / "file" / "conversations.db").messages(new_session())
