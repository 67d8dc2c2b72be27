"""A household is found in every store, erased from all, stays out, and the proof does not name it."""

import datetime as dt
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data import shop
from workshop_lib import data
from workshop_lib.data import DataError, erased
from workshop_lib.mlops import audit, influence, privacy, privacy_practice
from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset
from workshop_lib.serving.api_schemas import ChurnResponse, ModelVersion
from workshop_lib.serving.cache_answers import churn_key
from workshop_lib.settings import Settings

WHO, OTHER = "h1", "h2"


@pytest.fixture
def stores(use_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """A shop of one's own whose every store knows two households."""
    folder = shop.write(tmp_path / "shop", shop.tables())
    settings = use_settings(data=folder, prediction_log=tmp_path / "home" / "predictions")
    data.prepared()
    privacy_practice.fill([
        ChurnResponse(household_id=who, probability=0.314159, horizon_days=28, threshold=0.2, contact=True,
                      as_of=dt.date(2024, 3, 1), model=ModelVersion(name="household-churn", version="1"))
        for who in (WHO, OTHER)
    ])  # fmt: skip
    return settings


def rows(found: pd.DataFrame) -> dict[str, int]:
    return dict(zip(found["place"], found["rows"], strict=True))


def test_a_household_is_found_everywhere(stores: Settings) -> None:
    found = rows(privacy.find(WHO))
    assert found == {
        "transactions": 45, "daily_sales": 0, "products": 0, "households": 1, "answers": 1, "feedback_events": 0,
        "forecasts": 0, "lines": 1, "last_known.db": 1, "conversations.db": 1,
    }  # fmt: skip
    assert sum(rows(privacy.find("h99")).values()) == 0
    copy = privacy.copy_of(WHO)
    assert {row["household_id"] for table in copy.values() for row in table} == {WHO}


def test_the_history_names_a_household_as_the_search_expects() -> None:
    asked = churn_key(WHO, "1", "data", 0.2)
    assert (asked.kind, asked.subject, asked.quick) == ("churn", WHO, True)  # quick ones never reach Valkey


def test_after_the_erasure_nothing_is_left_and_others_are_untouched(stores: Settings) -> None:
    fingerprint, neighbour = data.prepared().fingerprint, rows(privacy.find(OTHER))
    done = privacy.erase(WHO, actor="olga", reason="request of 3 May")
    assert sum(rows(done["before"]).values()) == 50
    assert sum(rows(done["after"]).values()) == 0
    assert rows(privacy.find(OTHER)) == neighbour
    assert data.prepared().fingerprint != fingerprint
    again = data.prepared(rebuild=True)  # the raw files still name it
    assert WHO not in set(data.load("transactions", ["household_id"])["household_id"])
    assert again.rows["households"] == 3


def test_campaigns_leave_the_household_out_too(use_settings: Callable[..., Settings]) -> None:
    use_settings()
    sent, _, redeemed = data.find_source().campaigns()
    who = redeemed["household_id"].iloc[0]
    erased.add(who)
    sent_after, _, redeemed_after = data.find_source().campaigns()
    for before, after in ((sent, sent_after), (redeemed, redeemed_after)):
        expected = before[before["household_id"] != who].reset_index(drop=True)
        assert len(expected) < len(before)
        pd.testing.assert_frame_equal(after, expected)


def test_the_bytes_are_gone_from_the_files(stores: Settings) -> None:
    words = f"Is household {WHO} about to leave?".encode()
    file = stores.assistant_dir / "conversations.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    assert words in file.read_bytes()
    privacy.erase(WHO, actor="olga", reason="request")
    everything = [path for path in stores.assistant_dir.iterdir() if path.is_file()]
    assert all(words not in path.read_bytes() for path in everything)


def test_the_proof_does_not_name_the_household(stores: Settings) -> None:
    privacy.erase(WHO, actor="olga", reason="request of 3 May")
    (entry,) = audit.read()
    assert entry.subject == f"household {erased.mark(WHO)}"
    kept = audit.trail_file().read_text() + erased.erased_file().read_text()
    assert f'"{WHO}"' not in kept and f" {WHO}" not in kept
    assert entry.details["transactions"] == 45


def test_what_is_left_behind_is_an_error(stores: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "_forget", lambda household: None)
    with pytest.raises(RuntimeError, match=r"answers, lines, last_known\.db, conversations\.db"):
        privacy.erase(WHO, actor="olga", reason="request")
    assert audit.read() == []


@pytest.mark.parametrize(
    ("question", "hits"),
    [
        ("Tell me about customer h1, please", 1), ("¿Se va el hogar h1?", 1), ("HOUSEHOLDS H2 and h1?", 1),
        ("household h12", 0), ("How much milk is in aisle h1?", 0),
    ],
)  # fmt: skip
def test_conversations_are_read_as_people_write(stores: Settings, question: str, hits: int) -> None:
    with closing(sqlite3.connect(stores.assistant_dir / "conversations.db")) as db, db:
        db.execute("delete from turns")
        db.execute("insert into turns (session, said_at, question, answer) values ('s', 0, ?, '')", (question,))
    assert rows(privacy.find(WHO))["conversations.db"] == hits


def test_without_a_list_nothing_changes(stores: Settings) -> None:
    assert "erased" not in data.find_source().files
    table = pd.DataFrame({"household_id": [1, 2]})
    assert erased.without(table) is table
    assert not erased.erased_file().parent.exists()


def test_a_lost_key_stops_the_preparation(stores: Settings) -> None:
    erased.add(WHO)
    erased.erased_file().with_name("key").unlink()
    with pytest.raises(DataError, match="another key"):
        data.prepared()


def test_the_command_line_wants_to_know_who_and_why(stores: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert privacy.main(["find", WHO]) == 0
    assert '"rows": 45' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        privacy.main(["erase", WHO, "--actor", "olga"])
    assert rows(privacy.find(WHO))["transactions"] == 45


def test_practice_never_touches_a_shared_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKSHOP_HISTORY_URL", "postgresql://shop@db.example.com/shop")
    monkeypatch.setenv("WORKSHOP_PREDICTION_LOG", "/shared/log")
    seen: dict[str, str] = {}

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.update(env)
        return subprocess.CompletedProcess(command, 0, stdout="{}")

    monkeypatch.setattr(privacy_practice.subprocess, "run", run)
    privacy_practice.ask(tmp_path, "erase", 1)
    places = [seen[f"WORKSHOP_{name}"] for name in ("HOME", "HISTORY_URL", "PREDICTION_LOG")]
    assert all(str(tmp_path) in place for place in places)


def test_influence_is_measured_against_chance() -> None:
    sales = data.load("daily_sales")
    whole = make_dataset(6)
    nearly = sales.assign(units=sales["units"] * (1 - 1e-3))
    model = gradient_boosting(n_estimators=15, num_parallel_tree=1, max_depth=4)
    result = influence.measure(model, whole, make_dataset(6, nearly), [1])
    assert result.share == pytest.approx(1e-3, rel=1e-6)
    assert set(result.table().index) == {"with", "without", "seed 1"}
    assert result.table().loc["with", "mean change"] == 0
    assert result.times_chance == pytest.approx(result.moved["without"] / result.moved["seed 1"])
    doubled = influence.measure(model, whole, make_dataset(6, sales.assign(units=2 * sales["units"])), [1])
    assert doubled.times_chance > 3
    assert np.isfinite(doubled.table().to_numpy()).all()
