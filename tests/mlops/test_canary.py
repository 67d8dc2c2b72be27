"""A canary by the file's rules: first with a Prometheus that says what the test wants, then with real servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client import generate_latest
from sqlalchemy.exc import SQLAlchemyError

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.mlops import audit, canary_stand
from workshop_lib.mlops.canary import Analysis, Gate, Pace, Phase, Plan, Step, analyse, read_plan
from workshop_lib.mlops.canary_run import CanaryRun, Shift, members
from workshop_lib.mlops.canary_stand import Stand, open_stand
from workshop_lib.mlops.judge import Judge, registry
from workshop_lib.monitoring.prometheus import PrometheusError
from workshop_lib.serving import history
from workshop_lib.serving.feedback import FORECASTS
from workshop_lib.serving.release_report import Release
from workshop_lib.serving.routing import Backend, Routes

GATE = Gate(
    "errors", "errors", "len(result) > 0 && result[0] <= 0.1", "len(result) > 0 && result[0] > 0.1",
    delay="2m", interval="1m", count=3, failure_limit=1, inconclusive_limit=1,
)  # fmt: skip
DAILY = Gate("accuracy", "accuracy", GATE.success, GATE.failure, delay="48h")
PACE = Pace(minute=1, day=3)


class Script:
    """A Prometheus and a clock that follow a script."""

    def __init__(self, answers: Mapping[str, Sequence[list[float] | Exception]]) -> None:
        self.now, self._answers = 0.0, {query: iter(values) for query, values in answers.items()}

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, query: str) -> list[float]:
        found = next(self._answers[query])
        if isinstance(found, Exception):
            raise found
        return found

    def analyse(self, *gates: Gate) -> Analysis:
        return analyse(gates, self.ask, PACE, self.clock, self.sleep)


@pytest.mark.parametrize(
    ("answers", "phase", "seconds"),
    [
        ([[0.0], [0.0], [0.1]], "successful", 4),
        ([[0.5], [0.0], [0.0]], "successful", 4),  # one bad measurement is allowed
        ([[0.5], [0.5]], "failed", 3),
        ([[0.5], [], [0.5]], "failed", 4),
        ([[], [0.0], [0.0]], "successful", 4),
        ([[], [nan]], "inconclusive", 3),
        ([PrometheusError("gone"), PrometheusError("gone")], "inconclusive", 3),
    ],
)
def test_measurements_and_what_follows(answers: Sequence[list[float]], phase: Phase, seconds: float) -> None:
    script = Script({"errors": answers})
    found = script.analyse(GATE)
    assert (found.phase, script.now) == (phase, seconds)
    assert found.gate == ("" if phase == "successful" else "errors")
    assert [one.at for one in found.measurements] == [2.0, 3.0, 4.0][: len(answers)]


def test_gates_run_side_by_side_and_each_has_its_own_time() -> None:
    script = Script({"errors": [[0.0]] * 3, "accuracy": [[0.4]]})
    found = script.analyse(GATE, DAILY)
    assert (found.phase, found.gate, script.now) == ("failed", "accuracy", 6)
    assert [(one.gate, one.at) for one in found.measurements][-1] == ("accuracy", 6.0)


def test_a_failed_gate_counts_more_than_one_that_says_nothing() -> None:
    silent, failing = replace(GATE, name="silent", query="silent"), GATE
    found = Script({"silent": [[], []], "errors": [[0.5], [0.5]]}).analyse(silent, failing)
    assert (found.phase, found.gate) == ("failed", "errors")


def test_the_bound_grows_with_rate_share_and_time() -> None:
    plan = Plan((Step(20, (GATE, DAILY)), Step(100, (GATE,))))
    assert 0.2 * 40 * 8 < plan.most_bad(40, PACE, lag=2) < 2 * 0.2 * 40 * 8
    assert plan.most_bad(80, PACE, lag=2) > 1.5 * plan.most_bad(40, PACE, lag=2)


# --- Who belonged to which version


def release(rows: Sequence[tuple[float, str, str]]) -> Release:
    """A release from (sent, error, version) per request."""
    frame = pd.DataFrame(
        [(sent, sent, 500.0 if error else 10.0, 503 if error else 200, error, tag) for sent, error, tag in rows],
        columns=["due", "sent", "ms", "status", "error", "tag"],
    )
    return Release("canary", frame, (), 1.0, 9.0, 0.0, None, 2)


def test_a_request_without_an_answer_is_counted_by_the_rule_that_chose() -> None:
    done = release([(number / 10, "status 503", "") for number in range(100)])
    rows = members(done, [Shift(1, 20), Shift(5, 60), Shift(8, 0)], "load-7-", "1", "2")
    assert rows["sent"].between(1, 8, inclusive="left").all() and len(rows) == 70
    routes = {
        weight: Routes(backends=tuple(Backend(name=name, url="http://a", weight=share) for name, share in shares))
        for weight, shares in {20: (("1", 80), ("2", 20)), 60: (("1", 40), ("2", 60))}.items()
    }
    for number, row in rows.iterrows():
        assert (routes[row["weight"]].choose(f"load-7-{number}").name == "2") is (row["arm"] == "canary")
    assert 0.05 < (rows.loc[rows["weight"] == 20, "arm"] == "canary").mean() < 0.4


def test_an_answer_names_its_version() -> None:
    rows = members(release([(2, "", "1"), (2.1, "", "2")]), [Shift(1, 20), Shift(8, 0)], "x", "1", "2")
    assert list(rows["arm"]) == ["stable", "canary"]


def run_of(phase: Phase, rows: Sequence[tuple[float, str, str]], settled: pd.DataFrame | None = None) -> CanaryRun:
    done = release(rows)
    empty = pd.DataFrame({"forecast": [], "sold": [], "version": []})
    analysis = Analysis(phase, "" if phase == "successful" else "slow-share", ())
    return CanaryRun(
        "slower", "1", "2", done, ((20, analysis),), (1.0,),
        members(done, [Shift(1, 20), Shift(8, 0)], "x", "1", "2"), empty if settled is None else settled, 50,
    )  # fmt: skip


def test_after_a_rollback_every_request_of_the_canary_counts_as_bad() -> None:
    rows = [(2, "", "1"), (3, "", "2"), (4, "", "2")]
    back, forth = run_of("failed", rows), run_of("successful", rows)
    assert (back.decision, back.bad_requests) == ("rolled back", 2)
    assert (forth.decision, forth.bad_requests) == ("promoted", 0)
    assert run_of("inconclusive", rows).decision == "rolled back"


def test_a_decision_is_recorded_with_its_statistics(tmp_path: Path) -> None:
    settled = pd.DataFrame({"forecast": [1.0, 2, 3, 4], "sold": [1.0, 3, 3, 9], "version": ["1", "1", "2", "2"]})
    run = run_of("failed", [(2, "", "1"), (2.5, "", "1"), (3, "", "2"), (4, "", "2")], settled)
    path = tmp_path / "audit.jsonl"
    entry = run.record("sales-forecaster, slower", path)
    assert audit.verify(path) == 1 and audit.read(path) == [entry]
    assert (entry.action, entry.reason) == ("rolled back", "slow-share failed at 20% of the requests")
    assert entry.details["bad requests"] == 2 and 0 < entry.details["sample ratio p"] <= 1
    assert set(entry.details["tests"]) == {"failed", "waiting ms", "error units"}
    assert entry.details["tests"]["waiting ms"]["low"] is None


# --- The judge


def test_the_judge_sums_up_by_version_and_forgets_what_is_old(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/forecasts.db"
    judge = Judge(url, hours=1)
    own = registry(judge)
    assert b"settled_units{" not in generate_latest(own), "an empty database is no error"
    engine = history.connect(url)
    date, now = pd.Timestamp("2017-12-01").date(), pd.Timestamp.now().timestamp()
    rows = [("A", "1", 10, 12, now), ("B", "1", 10, 4, now), ("C", "2", 5, None, now), ("D", "2", 9, 9, now - 7200)]
    with engine.begin() as connection:
        connection.execute(FORECASTS.insert(), [
            {"category": name, "date": date, "units": units, "lower": 0, "upper": 99, "days_ahead": 1,
             "version": version, "made_at": made_at, "sold": sold}
            for name, version, units, sold, made_at in rows
        ])  # fmt: skip
    engine.dispose()
    said = {
        (sample.name, sample.labels["version"], sample.labels["day"]): sample.value
        for family in own.collect()
        for sample in family.samples
    }
    judge.close()
    day = "2017-12-01"
    assert said == {
        ("settled_forecasts", "1", day): 2, ("settled_units", "1", day): 16, ("settled_error_units", "1", day): 8,
        ("settled_short_units", "1", day): 2,
    }  # fmt: skip


def test_a_judge_without_its_database_is_down(tmp_path: Path) -> None:
    (tmp_path / "forecasts.db").mkdir()
    with pytest.raises(SQLAlchemyError):
        generate_latest(registry(Judge(f"sqlite:///{tmp_path}/forecasts.db")))


# --- For real


def shortened(plan: Plan) -> Plan:
    return Plan((*plan.steps[:2], plan.steps[-1]))


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """Three servers, a proxy, an API, callers and a Prometheus, shared by the tests below."""
    skip_without("prometheus")
    with open_stand(kinds=("good", "failing")) as opened:
        yield opened


@pytest.mark.long
def test_a_failing_version_is_taken_back_by_itself_and_hurts_few(stand: Stand) -> None:
    run = stand.run("failing")
    assert (run.decision, run.gate) == ("rolled back", "error-share")
    assert 0 < run.bad_requests <= run.most_bad
    after = run.release.frame[run.release.frame["sent"] > run.release.ended]
    assert after["error"].eq("").all() and set(after["tag"]) == {run.stable}
    mine = run.rows[run.rows["arm"] == "canary"]
    assert mine["error"].ne("").all() and run.rows.loc[run.rows["arm"] == "stable", "error"].eq("").all()
    assert run.statistics().loc["failed", "p_value"] < 0.001


@pytest.mark.long
def test_a_good_version_passes_every_gate_up_to_all_requests(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two steps and the last one; the notebook goes through all five."""
    monkeypatch.setattr(canary_stand, "read_plan", lambda *arguments: shortened(read_plan(*arguments)))
    run = stand.run("good")
    assert run.decision == "promoted", run.table().to_string()
    weights = [20, 40, 100]
    assert [weight for weight, _ in run.analyses] == weights
    shares = run.rows.groupby("weight")["arm"].apply(lambda arm: (arm == "canary").mean())
    assert list(shares) == pytest.approx([weight / 100 for weight in weights], abs=0.12)
    assert run.sample_ratio() > 1e-4
    assert set(run.settled["version"]) == {run.stable, run.canary}
    measured = run.table()
    assert measured.loc[measured["gate"] == "accuracy-loss", "value"].notna().all()
    with pytest.raises(ValueError, match="kind: one of good, slower"):
        stand.run("perfect")  # type: ignore[arg-type]


def test_without_prometheus_nothing_is_started_and_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PrometheusError, match="sudo apt install prometheus"), open_stand():
        pass
