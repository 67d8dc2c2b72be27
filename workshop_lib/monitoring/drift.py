"""The drift job: one week of arrivals against the model in service, a decision, a file for the others.

    python -m workshop_lib.monitoring.drift                 # the newest whole week, the model that is served
    python -m workshop_lib.monitoring.drift --week 48 --model models:/sales-forecaster@monitored --report

It replaces ``drift.json`` below ``settings.home / "monitoring"`` and keeps every week's result in ``history``. When
the job fails, the last good result stays, the reason goes to standard error, and the exit code is 1. With
``--exit-code`` the decision is the exit code (see :data:`EXIT_CODES`), so that a pipeline can go on from there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import mlflow.sklearn
import pandas as pd

from workshop_lib.data.schemas import DataError
from workshop_lib.files import locked
from workshop_lib.monitoring.config import ConfigError, load_config
from workshop_lib.monitoring.drift_data import Weeks, load_weeks
from workshop_lib.monitoring.drift_result import (
    Decision,
    DriftFileError,
    DriftResult,
    drift_file,
    now,
    read_result,
    write_result,
)
from workshop_lib.monitoring.drift_watch import Watch, decide, look, watch
from workshop_lib.predictive import champion
from workshop_lib.predictive.tracking import TrackingError, use_tracking
from workshop_lib.settings import settings

EXIT_CODES: dict[Decision, int] = {"nothing": 0, "watch": 3, "retrain": 4}
"""1 is a failure of the job and 2 a wrong argument."""
_HISTORY = re.compile(r"version-(?P<version>\w+)-week-(?P<week>\d+)\.json")


class DriftError(RuntimeError):
    """The job cannot look at what it was asked for; the message says why."""


def history_dir() -> Path:
    """Where the result of every week lies."""
    return drift_file().parent / "history"


def run(week: int | None = None, uri: str = settings.forecaster_model, *, report: bool = False) -> DriftResult:
    """Look at a week, decide, and write the result.

    Args:
        week: number of the week; by default the newest whole one of the data.
        uri: the model in service, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        report: whether to write Evidently's report as well.

    Raises:
        DriftError: when the model's training weeks reach the week, or the data does not have it.
        ConfigError, DataError, TrackingError: when configuration, data or registry cannot be used.
    """
    limits = load_config().forecaster.drift
    use_tracking(champion.EXPERIMENT)
    version, package = package_of(uri)
    weeks = weeks_of(package["categories"])
    training = training_weeks(weeks, package["first_day"], package["last_day"])
    first = weeks.week_of(package["last_day"]) + 1
    week = weeks.newest if week is None else week
    if not first <= week <= weeks.newest:
        arrived = f"its arrivals are weeks {first} to {weeks.newest}" if first <= weeks.newest else "nothing came since"
        raise DriftError(f"Version {version} was trained until {package['last_day']}: {arrived}, not week {week}.")
    service = watch(mlflow.sklearn.load_model(uri), weeks, training, limits)
    seen = [look(service, weeks, one, limits) for one in range(max(first, week + 1 - limits.weeks), week + 1)]
    decision, reasons = decide(seen, limits)
    days = weeks.days(week, week)
    result = DriftResult(
        model_version=version,
        week=week,
        first_day=days[0].date(),
        last_day=days[-1].date(),
        reference_first_day=weeks.days(*training)[0].date(),
        reference_last_day=weeks.days(*training)[-1].date(),
        made_at=now(),
        rows=seen[-1].rows,
        distances=seen[-1].distances,
        wape=seen[-1].wape,
        reference_wape=service.reference_wape,
        decision=decision,
        reasons=reasons,
        report=_report(service, weeks, week) if report else None,
    )
    with locked(drift_file()):
        write_result(result, history_dir() / f"version-{version}-week-{week}.json")
        write_result(result)
    return result


def read_history(version: str | None = None) -> pd.DataFrame:
    """Every result that was kept, by version and week.

    Args:
        version: only those of one version of the model.

    Returns:
        Index ``version`` and ``week``; columns ``features``, ``error``, ``WAPE``, ``decision``, ``made_at``.

    Raises:
        DriftFileError: when one of the files cannot be read.
    """
    rows = {}
    for path in history_dir().glob("version-*-week-*.json"):
        if (match := _HISTORY.fullmatch(path.name)) and version in (None, match["version"]):
            one = read_result(path)
            rows[one.model_version, one.week] = {
                "features": one.drifted_features_ratio,
                "error": one.distance("concept").value,
                "WAPE": one.wape,
                "decision": one.decision,
                "made_at": one.made_at,
            }
    index = pd.MultiIndex.from_tuples(list(rows), names=["version", "week"])
    columns = ["features", "error", "WAPE", "decision", "made_at"]
    return pd.DataFrame(list(rows.values()), columns=columns, index=index).sort_index()


def training_weeks(weeks: Weeks, first_day: str, last_day: str) -> tuple[int, int]:
    """The whole weeks between two days, both included.

    Raises:
        DriftError: when there are fewer than three, too few for a reference.
    """
    first, last = pd.Timestamp(first_day), pd.Timestamp(last_day)
    opening = weeks.week_of(first) + (first.dayofweek != 0)
    closing = weeks.week_of(last) - (last.dayofweek != 6)
    if closing - opening < 2:
        raise DriftError(f"The model was trained from {first_day} to {last_day}: that is less than three whole weeks.")
    return opening, closing


def package_of(uri: str) -> tuple[str, dict]:
    """Number of a registered forecaster, and what its package says about it.

    Raises:
        TrackingError: when the registry does not have it.
    """
    if uri == champion.URI:
        champion.ensure_champion()  # the course's own is trained when nobody has
    package = champion.load_package(uri)
    return package.version, package.about


def weeks_of(categories: Sequence[str]) -> Weeks:
    """The data in a model's categories, in their order.

    Raises:
        DriftError: when the data of today chooses others.
    """
    weeks = load_weeks(len(categories))
    have = list(weeks.dataset.panel.units.columns)
    if set(have) != set(categories):
        missing = sorted(set(categories) - set(have))
        raise DriftError(f"The data of today chooses other categories than the model knows: {', '.join(missing[:3])} …")
    return weeks


def _report(service: Watch, weeks: Weeks, week: int) -> str:
    from workshop_lib.monitoring.drift_report import make_report, save_report

    return save_report(make_report(service, weeks, week, load_config().forecaster.drift), week).name


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workshop_lib.monitoring.drift", description="Look for drift.")
    parser.add_argument("--week", type=int, help="number of the week; the newest whole one by default")
    parser.add_argument("--model", default=settings.forecaster_model, help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--report", action="store_true", help="write Evidently's HTML report as well")
    parser.add_argument("--exit-code", action="store_true", help="3 for watch, 4 for retrain")
    options = parser.parse_args(arguments)
    try:
        result = run(options.week, options.model, report=options.report)
    except (DriftError, DriftFileError, ConfigError, DataError, TrackingError, ValueError, OSError) as error:
        print(f"No drift result: {error}", file=sys.stderr)
        return 1
    print(f"Week {result.week}, version {result.model_version}: {result.decision}. {' '.join(result.reasons)}")
    return EXIT_CODES[result.decision] if options.exit_code else 0


if __name__ == "__main__":
    sys.exit(main())
