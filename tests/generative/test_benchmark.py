"""The load generator: its sums on made-up records, its schedule, and what it counts against the real server."""

import asyncio
import contextlib
import http.server
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from workshop_lib.exercises import check
from workshop_lib.generative import benchmark
from workshop_lib.generative.benchmark import Record, Run, Workload
from workshop_lib.generative.client import LLM, LLMError, LLMUnavailable
from workshop_lib.generative.server_metrics import read_metrics

TWO = [
    Record(due=0.0, arrivals=[0.5, 0.6, 0.8], end=1.0, tokens=3),
    Record(due=1.0, arrivals=[1.1, 1.2, 1.3], end=1.5, tokens=3),
]
FAILED = Record(due=0.2, arrivals=[0.9], error="status 500", tokens=1)
RUN = Run("2 at once", 2, [*TWO, FAILED], seconds=2.0)


def test_the_sums_of_a_run() -> None:
    figures = RUN.summary()
    assert (figures["requests"], figures["errors"], RUN.errors) == (3, 1, {"status 500": 1})
    assert figures["tokens/s"] == 3 and figures["requests/s"] == 1  # what failed counts for nothing
    assert figures["first token ms P50"] == pytest.approx(300)
    assert figures["first token ms P99"] == pytest.approx(100 + 0.99 * 400)
    assert figures["answer s P50"] == pytest.approx(0.75)
    assert sorted(RUN.inter_token) == pytest.approx([0.1, 0.1, 0.1, 0.2])
    assert figures["between tokens ms P50"] == pytest.approx(100)
    assert figures["between tokens ms P95"] == pytest.approx(100 + 0.85 * 100)  # between the third and the last
    assert list(benchmark.table([RUN, RUN]).index) == ["2 at once", "2 at once"]


def test_two_tokens_in_one_piece_do_not_slow_the_mean() -> None:
    record = Record(due=0.0, arrivals=[0.5, 0.6, 0.8], end=1.0, tokens=4)  # the third piece held two tokens
    assert Run("x", 1, [record], 1).seconds_per_token == pytest.approx(0.1)
    assert math.isnan(Run("x", 1, [Record(due=0.0, arrivals=[0.5], end=0.5, tokens=1)], 1).seconds_per_token)


def test_a_run_without_answers_has_no_waiting_times() -> None:
    run = Run("x", 1, [FAILED], seconds=1)
    figures = run.summary()
    assert figures["tokens/s"] == 0 and figures["errors"] == 1 and run.at_once == 0
    assert math.isnan(figures["first token ms P50"]) and math.isnan(figures["between tokens ms P99"])


def test_the_schedule_is_a_poisson_process_of_the_wanted_rate() -> None:
    due = benchmark.schedule(rate=5, requests=4000, seed=1)
    gaps = np.diff(due)
    assert due[0] == 0 and len(due) == 4000 and (gaps > 0).all()
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as an exponential distribution has it
    assert due == benchmark.schedule(5, 4000, seed=1) != benchmark.schedule(5, 4000, seed=2)
    with pytest.raises(ValueError, match="must be above 0"):
        benchmark.schedule(0, 3, seed=1)


def test_answers_share_places_on_the_timeline_without_overlap() -> None:
    records = [Record(due, [due + 0.1], end, 1) for due, end in ((0, 3), (1, 2), (2, 4), (2.5, 5), (3, 6))]
    run = Run("x", 1, [*records, FAILED], 6)
    assert [lane for lane, _ in benchmark.lanes(run)] == [0, 1, 1, 2, 0]
    assert run.at_once == 3


def test_the_comparison_with_the_server_sees_a_difference() -> None:
    names = ("time_to_first_token", "inter_token_latency", "e2e_request_latency")
    before = {"vllm:generation_tokens_total": 10.0}
    after = {"vllm:generation_tokens_total": 16.0}
    for name, total, count in zip(names, (0.5, 0.5, 1.5), (2, 4, 2), strict=True):
        before |= {f"vllm:{name}_seconds_sum": 7.0, f"vllm:{name}_seconds_count": 3.0}
        after |= {f"vllm:{name}_seconds_sum": 7.0 + total, f"vllm:{name}_seconds_count": 3.0 + count}
    found = benchmark.compare_with_server(RUN, before, after)
    assert found.loc["generated tokens"].tolist() == [6, 6, 0]
    assert found.loc["first token"].tolist() == pytest.approx([300, 250, 0.2])
    assert found.loc["between tokens"].tolist() == pytest.approx([125, 125, 0])
    assert found.loc["whole answer"].tolist() == pytest.approx([750, 750, 0])


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("2.4.a", lambda waits: np.percentile(waits, 99), ""),
        ("2.4.a", np.mean, "mean"),
        ("2.4.a", lambda waits: np.percentile(waits, 95), "P95"),
        ("2.4.a", np.median, "median"),
        ("2.4.a", max, "worst"),
        ("2.4.a", lambda waits: np.percentile(waits, 0.99), "counts in percent"),
        ("2.4.b", 12, ""),
        ("2.4.b", 4 / 3, "Divided"),
        ("2.4.c", lambda f, ms: max(f.index[f["first token ms P95"] <= ms], default=0), ""),
        ("2.4.c", lambda f, ms: max(f.index[f["first token ms P95"] < ms], default=0), "exactly as long"),
        ("2.4.c", lambda f, ms: max(f.index[f["first token ms P50"] <= ms], default=0), "median"),
        ("2.4.c", lambda f, ms: min(f.index[f["first token ms P95"] <= ms], default=0), "the fewest"),
        ("2.4.c", lambda f, ms: max(f.index[f["first token ms P95"] <= ms]), "return 0"),
        ("2.4.c", lambda f, ms: f.index[f["first token ms P95"] <= ms].max(), "return 0"),
        ("2.4.c", 4, "Keep the rows"),
    ],
)
def test_the_exercises_tell_right_from_nearly_right(exercise: str, answer: object, hint: str) -> None:
    feedback = check(exercise, answer)
    assert feedback.correct == (not hint) and hint in feedback.hint


# --- Against the real server ----------------------------------------------------------------------


def test_a_closed_loop_counts_what_the_server_counts(llm: LLM) -> None:
    workload = Workload(tokens=6)
    benchmark.warm_up(llm, workload, 2)
    before = read_metrics(llm)
    run = benchmark.closed_loop(llm, workload, concurrency=3, requests=7)
    found = benchmark.compare_with_server(run, before, read_metrics(llm))
    assert len(run.answered) == len(run.records) == 7 and not run.errors
    assert all(record.tokens == 6 and len(record.arrivals) <= 6 for record in run.records)
    assert found.loc["generated tokens", ["client", "server"]].tolist() == [42, 42]
    assert run.at_once == 3 and len({record.prompt_tokens for record in run.records}) == 1
    assert all(record.due < record.arrivals[0] <= record.arrivals[-1] <= record.end for record in run.records)
    assert max(record.end for record in run.records) <= run.seconds


def test_no_more_are_under_way_than_the_loop_allows(llm: LLM) -> None:
    assert benchmark.closed_loop(llm, Workload(tokens=4), concurrency=2, requests=6).at_once == 2


def test_an_open_loop_sends_by_its_schedule(llm: LLM) -> None:
    run = benchmark.open_loop(llm, Workload(tokens=16), rate=1000, requests=6)
    due = [record.due for record in run.records]
    assert due == benchmark.schedule(1000, 6, benchmark.settings.seed)
    assert all(record.arrivals[0] > record.due for record in run.records)
    assert not run.errors and run.at_once == 6


@pytest.mark.parametrize(("changes", "error"), [({"api_key": "wrong"}, "status 401"), ({"model": "x"}, "status 404")])
def test_errors_are_counted_by_kind(llm: LLM, changes: dict[str, str], error: str) -> None:
    given = {"model": llm.model, "api_key": str(llm.openai.api_key)} | changes
    refused = LLM(llm.url, given["model"], given["api_key"])
    run = benchmark.closed_loop(refused, Workload(tokens=2), 2, requests=4)
    assert run.errors == {error: 4} and run.answered == [] and run.summary()["errors"] == 4
    with pytest.raises(LLMError, match=f"2 × {error}"):
        benchmark.warm_up(refused, Workload(tokens=2), 2)


def test_a_shared_beginning_is_read_once_unless_requests_keep_apart(llm: LLM) -> None:
    def cached(share: bool) -> int:
        rules = f"You are assistant {time.time_ns()}. " + "Be short and polite to everybody. " * 60
        workload = Workload(tokens=1, system=rules, share_prefix=share)
        benchmark.warm_up(llm, workload, 1)
        before = read_metrics(llm)["vllm:prefix_cache_hits_total"]
        run = benchmark.closed_loop(llm, workload, 1, requests=2)
        hits = sum(record.cached_tokens for record in run.records)
        assert read_metrics(llm)["vllm:prefix_cache_hits_total"] - before == hits
        assert all(record.cached_tokens < record.prompt_tokens for record in run.records)
        return hits

    assert cached(share=True) > 500
    assert cached(share=False) == 0


def test_it_runs_where_an_event_loop_is_running_already(llm: LLM) -> None:
    async def in_a_notebook() -> Run:
        return benchmark.closed_loop(llm, Workload(tokens=1), 1, requests=1)

    assert len(asyncio.run(in_a_notebook()).answered) == 1


# --- Against a server that fails on purpose -------------------------------------------------------


def _event(**content: object) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


WORD = _event(choices=[{"delta": {"content": "word "}}])
USAGE = _event(choices=[], usage={"completion_tokens": 2, "prompt_tokens": 9})
ANSWER = [WORD, WORD, USAGE]
WAIT = b""


class Scripted(http.server.BaseHTTPRequestHandler):
    """Sends the same pieces to everyone; at a ``WAIT`` it goes on when ``barrier`` lets it."""

    pieces: list[bytes]
    barrier: threading.Barrier
    whole = True

    def do_GET(self) -> None:
        self._send(b'{"object": "list", "data": []}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(threading.BrokenBarrierError, ConnectionError):
            for piece in self.pieces:
                if piece == WAIT:
                    self.barrier.wait()
            self._send(b"".join(self.pieces))

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + (0 if self.whole or self.command == "GET" else 1)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Callable[..., LLM]]:
    servers, barriers = [], []

    def serve(*pieces: bytes, whole: bool = True, together: int = 2) -> LLM:
        barriers.append(threading.Barrier(together, timeout=60))
        content = {"pieces": list(pieces), "whole": whole, "barrier": barriers[-1]}
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Script", (Scripted,), content))
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        servers.append(server)
        return LLM(f"http://127.0.0.1:{server.server_port}/v1", "m", "key")

    yield serve
    for barrier in barriers:
        barrier.abort()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("pieces", "whole", "error"),
    [
        ([WORD, USAGE[:-1]], False, "RemoteProtocolError"),
        ([WORD, _event(error={"message": "engine died", "code": 500})], True, "error within the answer"),
        ([WORD, WORD], True, "incomplete answer"),
        ([USAGE], True, "incomplete answer"),
        ([WORD, b'data: {"cho\n\n'], True, "unreadable answer"),
    ],
)
def test_an_answer_that_breaks_off_is_an_error(
    scripted: Callable[..., LLM], pieces: list[bytes], whole: bool, error: str
) -> None:
    run = benchmark.closed_loop(scripted(*pieces, whole=whole), Workload(tokens=2), 2, requests=3)
    assert run.errors == {error: 3} and run.answered == []


def test_an_answer_that_takes_too_long_is_an_error(
    scripted: Callable[..., LLM], use_settings: Callable[..., object]
) -> None:
    use_settings(llm_timeout=0.2)
    run = benchmark.closed_loop(scripted(WAIT, *ANSWER, together=3), Workload(tokens=2), 1, requests=2)
    assert run.errors == {"no answer in time": 2}


def test_an_open_loop_does_not_wait_for_answers(scripted: Callable[..., LLM]) -> None:
    llm = scripted(WAIT, *ANSWER, together=6)  # nobody is answered before the sixth has asked
    run = benchmark.open_loop(llm, Workload(tokens=2), rate=100, requests=6)
    assert not run.errors and run.at_once == 6
    assert [record.due for record in run.records] == benchmark.schedule(100, 6, benchmark.settings.seed)
    last = max(record.due for record in run.records)
    assert all(record.first_token >= last - record.due for record in run.records)  # the wait counts from the start


def test_a_load_that_is_interrupted_ends(scripted: Callable[..., LLM]) -> None:
    llm = scripted(WAIT, *ANSWER, together=2)
    stop_button = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        stop_button.start()
        begun = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            benchmark.closed_loop(llm, Workload(tokens=2), 1, requests=1)
        assert time.perf_counter() - begun < 60  # the server would have kept it that long
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_server_there_is_no_load(free_port: Callable[[], int]) -> None:
    llm = LLM(f"http://127.0.0.1:{free_port()}/v1", "m", "k", retries=0, restart="Call ./workshop up.")
    with pytest.raises(LLMUnavailable, match=r"Call \./workshop up\."):
        benchmark.closed_loop(llm, Workload(), 1, requests=2)
