"""The log of answers: complete, without personal data, and limited in time."""

import datetime as dt
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workshop_lib.serving.api_schemas import ChurnResponse, DayForecast, Interval, ModelVersion
from workshop_lib.serving.prediction_log import PredictionLog, erase, log_key, pseudonym, read_log

TRACE = {"request_id": "order-of-maria-lopez", "key": "crm-1"}


def score(household: int | str | None) -> ChurnResponse:
    return ChurnResponse(
        household_id=household, probability=0.31234, horizon_days=28, threshold=0.2, contact=True,
        as_of=dt.date(2018, 1, 1), model=ModelVersion(name="household-churn", version="2"),
    )  # fmt: skip


def day(date: dt.date) -> DayForecast:
    interval = Interval(lower=1, upper=3, coverage=0.9)
    return DayForecast(date=date, units=2.12345, interval=interval, days_ahead=1, open=True)


@pytest.fixture
def log(tmp_path: Path, home: Path) -> PredictionLog:
    return PredictionLog(tmp_path / "log", days=30)


def test_a_line_tells_what_was_answered_by_which_version_to_which_key(log: PredictionLog, tmp_path: Path) -> None:
    log.forecast(TRACE, "EGGS", [day(dt.date(2018, 1, 1)), day(dt.date(2018, 1, 2))], "7", planned=True)
    log.churn(TRACE, score(12))
    forecast, churn = read_log(tmp_path / "log")
    assert dt.datetime.fromisoformat(forecast.pop("at")) <= dt.datetime.now(dt.UTC)
    assert forecast == {
        "kind": "forecast", "key": "crm-1", "request": pseudonym(TRACE["request_id"]), "version": "7",
        "category": "EGGS", "dates": ["2018-01-01", "2018-01-02"], "planned": True, "units": [2.123, 2.123],
    }  # fmt: skip
    assert (churn["household"], churn["probability"], churn["contact"]) == (pseudonym(12), 0.3123, True)
    (file,) = (tmp_path / "log").glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_in_it_leads_to_a_household_without_the_key(log: PredictionLog, tmp_path: Path) -> None:
    log.churn(TRACE, score(4711))
    log.churn(TRACE, score(None))
    (file,) = (tmp_path / "log").glob("*.jsonl")
    text = file.read_text()
    for clear in ("4711", "maria", hashlib.sha256(b"4711").hexdigest()[:32]):
        assert clear not in text
    assert [line["household"] for line in read_log(tmp_path / "log")] == [pseudonym(4711), None]
    assert pseudonym(4711, b"another key") != pseudonym(4711) == pseudonym("4711")
    assert log_key() == log_key() and len(log_key()) >= 32


def test_the_holder_of_the_key_finds_a_household_and_erases_it(log: PredictionLog, tmp_path: Path) -> None:
    for household in (1, 2, 1, 11):
        log.churn(TRACE, score(household))
    folder = tmp_path / "log"
    assert len(read_log(folder, 1)) == 2
    assert erase(folder, 1) == 2 and read_log(folder, 1) == [] and erase(folder, 1) == 0
    assert len(read_log(folder)) == 4 and len(read_log(folder, 11)) == 1
    log.churn(TRACE, score(1))  # the file is still written to
    assert len(read_log(folder, 1)) == 1
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.jsonl")} == {0o600}


def test_files_are_deleted_when_their_time_is_over(tmp_path: Path, home: Path) -> None:
    folder, today = tmp_path / "log", dt.datetime.now(dt.UTC).date()
    folder.mkdir()
    names = [f"predictions-{today - dt.timedelta(days=age):%Y-%m-%d}.jsonl" for age in (29, 30, 31, 400)]
    for name in (*names, "notes.txt"):
        (folder / name).touch()
    PredictionLog(folder, days=30).churn(TRACE, score(1))
    assert {path.name for path in folder.iterdir() if path.suffix != ".lock"} == {
        *names[:2], "notes.txt", f"predictions-{today}.jsonl",
    }  # fmt: skip


def test_what_cannot_be_written_down_is_not_answered(tmp_path: Path, home: Path) -> None:
    (tmp_path / "log").touch()
    with pytest.raises(OSError):
        PredictionLog(tmp_path / "log", days=30).churn(TRACE, score(1))


def test_lines_of_several_threads_do_not_mix(log: PredictionLog, tmp_path: Path) -> None:
    others = [PredictionLog(tmp_path / "log", days=30) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: others[number % 4].churn(TRACE, score(number)), range(200)))
    (file,) = (tmp_path / "log").glob("*.jsonl")
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 200
    assert erase(tmp_path / "log", 7) == 1
