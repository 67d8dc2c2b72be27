"""The retraining job: what the drift job has asked for is done, tested, and put into service if it is better.

    python -m workshop_lib.monitoring.retraining_job            # what drift.json says of the model that is served
    python -m workshop_lib.monitoring.retraining_job --week 27 --model models:/sales-forecaster@monitored

A challenger is trained until the week of the trigger; the weeks that follow decide (see
:mod:`workshop_lib.monitoring.retraining`). As long as they have not arrived, the job says so and changes nothing. The
exit code tells what came of it (see :data:`EXIT_CODES`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import mlflow.sklearn

from workshop_lib.data.schemas import DataError
from workshop_lib.monitoring import drift, retraining
from workshop_lib.monitoring.config import ConfigError, load_config
from workshop_lib.monitoring.drift_result import DriftFileError, read_result
from workshop_lib.predictive import champion
from workshop_lib.predictive.forecaster import gradient_boosting
from workshop_lib.predictive.tracking import TrackingError, use_tracking
from workshop_lib.settings import settings

Outcome = Literal["promoted", "kept", "not due", "too early"]
EXIT_CODES: dict[Outcome, int] = {"promoted": 0, "kept": 0, "not due": 3, "too early": 4}
"""1 is a failure of the job and 2 a wrong argument. That the champion is kept is a result, not a failure."""
_ALIASED = re.compile(r"models:/[^/@]+@(?P<alias>[\w.-]+)")


def run(
    week: int | None = None, uri: str = settings.forecaster_model, make: Callable[[], Any] = gradient_boosting
) -> tuple[Outcome, str]:
    """Train, compare and promote.

    Args:
        week: the last training week; by default that of the newest drift result, if it asks for a retraining.
        uri: the model in service, ``models:/NAME@ALIAS``; the alias moves to the challenger if that is better.
        make: makes the challenger's regressor.

    Returns:
        What came of it, and a sentence with the reasons.

    Raises:
        DriftError: when the data does not fit the model, or the address has no alias.
        DriftFileError: without a week, when there is no drift result.
        ConfigError, DataError, TrackingError: when configuration, data or registry cannot be used.
    """
    aliased = _ALIASED.fullmatch(uri)
    if aliased is None:
        raise drift.DriftError(f"{uri}: a model that can be replaced has an alias, as in models:/NAME@ALIAS.")
    if week is None:
        result = read_result()
        if result.decision != "retrain":
            return "not due", f"The drift job said {result.decision} of week {result.week}."
        week = result.week
    use_tracking(champion.EXPERIMENT)
    version, package = drift.package_of(uri)
    weeks, shadow_weeks = drift.weeks_of(package["categories"]), load_config().forecaster.drift.shadow_weeks
    if week < (seen := weeks.week_of(package["last_day"])):
        raise drift.DriftError(f"Version {version} has seen the sales up to week {seen}: week {week} is old.")
    if week + shadow_weeks > weeks.newest:
        return "too early", f"Week {week + shadow_weeks} decides, and the newest is {weeks.newest}."
    found = retraining.retrain(weeks, mlflow.sklearn.load_model(uri), week, shadow_weeks, make)
    said = f"Trained until week {week}: {found.comparison}."
    if not found.comparison.better:
        return "kept", f"{said} Version {version} stays."
    challenger = retraining.register(found.challenger, found.comparison.challenger_wape, said)
    holder = retraining.promote_if_better(challenger, found.comparison, aliased["alias"])
    return "promoted", f"{said} Version {holder} has replaced version {version}."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workshop_lib.monitoring.retraining_job", description="Train again if drift asks for it."
    )
    parser.add_argument("--week", type=int, help="last training week; by default that of drift.json")
    parser.add_argument("--model", default=settings.forecaster_model, help="models:/NAME@ALIAS")
    options = parser.parse_args(arguments)
    try:
        outcome, said = run(options.week, options.model)
    except (drift.DriftError, DriftFileError, ConfigError, DataError, TrackingError, ValueError, OSError) as error:
        print(f"Not retrained: {error}", file=sys.stderr)
        return 1
    print(f"{outcome.capitalize()}. {said}")
    return EXIT_CODES[outcome]


if __name__ == "__main__":
    sys.exit(main())
