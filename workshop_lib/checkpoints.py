"""Checkpoints: what a chapter promises, compared with what was measured, and kept on a scorecard.

    checkpoint("1.3", "Forecaster trained", [
        at_least("forecaster.test_r2", r2, settings.thresholds.test_r2, "R² on the held-out weeks"),
        at_most("forecaster.train_seconds", seconds, 60, "training time", unit="s", speed=True),
    ])

A condition is required unless it says otherwise. One that depends on the machine's speed
(``speed=True``) is recorded and shown as missed without stopping a class. One whose value may differ a little
between machines for other reasons, such as what a language model writes, says ``varies=True``.
"""

from __future__ import annotations

import html
import json
import math
import operator
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from workshop_lib.files import locked, write_text
from workshop_lib.messages import translate
from workshop_lib.settings import settings

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
}
SCORECARD_KEYS = (
    "id", "module", "label", "comparison", "target", "measured", "unit", "met", "required", "measured_at",
)  # fmt: skip


WORDS = ("Checkpoint", "condition", "target", "measured", "result", "met", "missed", "no value")
"""What a checkpoint says itself, beside its labels."""


class CheckpointFailed(AssertionError):
    """A required condition of a checkpoint was not met."""


class ScorecardError(ValueError):
    """The scorecard file cannot be read."""


class Change(NamedTuple):
    """The same figure twice: without an optimisation, and with it."""

    what: str
    unit: str
    before: float
    after: float


@dataclass(frozen=True)
class Condition:
    """One promise: a measured value compared with a target."""

    key: str
    """Identifier on the scorecard, such as ``forecaster.test_r2``."""
    measured: float
    comparison: str
    target: float
    label: str
    unit: str = ""
    required: bool = True
    speed: bool = False
    """Whether the value depends on how fast this machine is."""
    varies: bool = False
    """Whether the value may differ between machines, by speed or otherwise."""
    details: tuple[str, ...] = ()
    """What was found in single cases; told when the condition stops the notebook."""
    change: Change | None = None
    """What was measured before and after; for the overview of what an optimisation brought."""

    @property
    def met(self) -> bool:
        """Whether the comparison holds; a NaN meets nothing."""
        return not math.isnan(self.measured) and bool(_COMPARE[self.comparison](self.measured, self.target))


class About(TypedDict, total=False):
    """What may be said of a condition; see the fields of :class:`Condition`."""

    required: bool
    speed: bool
    varies: bool
    details: Sequence[str]
    change: Change


def at_least(key: str, measured: float, target: float, label: str, unit: str = "", **about: Unpack[About]) -> Condition:
    """The measured value must be ``target`` or more."""
    return _condition(key, measured, ">=", target, label, unit, about)


def at_most(key: str, measured: float, target: float, label: str, unit: str = "", **about: Unpack[About]) -> Condition:
    """The measured value must be ``target`` or less."""
    return _condition(key, measured, "<=", target, label, unit, about)


def equals(key: str, measured: float, target: float, label: str, unit: str = "", **about: Unpack[About]) -> Condition:
    """The measured value must be ``target`` exactly (counts and yes/no facts)."""
    return _condition(key, measured, "==", target, label, unit, about)


def _condition(
    key: str, measured: float, comparison: str, target: float, label: str, unit: str, about: About
) -> Condition:
    speed = about.get("speed", False)
    required = about.get("required", True) and not speed  # a slow machine stops no class
    varies = about.get("varies", False) or speed
    details, change = tuple(about.get("details", ())), about.get("change")
    return Condition(
        key, float(measured), comparison, float(target), label, unit, required, speed, varies, details, change
    )


@dataclass(frozen=True)
class Checkpoint:
    """A recorded checkpoint; JupyterLab shows it as a table."""

    number: str
    label: str
    conditions: Sequence[Condition]
    measured_at: str = field(compare=False)

    @property
    def met(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions)

    def __repr__(self) -> str:
        """A line per condition; what differs between machines stands in braces."""
        rows = [f"{translate('Checkpoint')} {self.number} {translate(self.label)}"]
        for c in self.conditions:
            measured = f"{number(c.measured, c.unit)}, {verdict(c.met)}"
            if c.varies:
                measured = f"{{{measured}}}"
            target = f"{translate('target')} {c.comparison} {number(c.target, c.unit)}"
            rows.append(f"  {translate(c.label)}: {measured} ({target})")
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{translate(name)}</th>" for name in ("condition", "target", "measured", "result"))
        rows = []
        for c in self.conditions:
            # The class lets the suite tell figures that depend on the machine from those that do not.
            kind = ' class="varies"' if c.varies else ""
            rows.append(
                f'<tr><td style="text-align:left">{html.escape(translate(c.label))}</td>'
                f"<td>{html.escape(c.comparison)} {number(c.target, c.unit)}</td>"
                f"<td{kind}>{number(c.measured, c.unit)}</td><td{kind}>{verdict(c.met)}</td></tr>"
            )
        title = f"{translate('Checkpoint')} {html.escape(self.number)}"
        caption = f"<b>{title}</b> · {html.escape(translate(self.label))}"
        return (
            f'<table><caption style="text-align:left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )


def verdict(met: bool) -> str:
    """How a comparison is worded wherever it is shown."""
    return translate("met" if met else "missed")


def number(value: float, unit: str = "") -> str:
    """A value for reading: four significant digits, thousands separated, the unit behind it."""
    if math.isnan(value):
        return translate("no value")
    if float(value).is_integer() and abs(value) < 1e12:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{text} {unit}".rstrip()


def checkpoint(number: str, label: str, conditions: Sequence[Condition]) -> Checkpoint:
    """Record the conditions on the scorecard and return them as a table.

    Args:
        number: module and step, such as ``"1.3"``; the part before the point is the module.
        label: what the learner has achieved.
        conditions: made by :func:`at_least`, :func:`at_most` and :func:`equals`.

    Raises:
        CheckpointFailed: when a required condition is not met. The values are recorded all the same.
        ValueError: without conditions, or when two share a key.
    """
    keys = [condition.key for condition in conditions]
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"Checkpoint {number} needs one or more conditions with different keys, got {keys}.")
    result = Checkpoint(number, label, tuple(conditions), datetime.now(UTC).isoformat(timespec="seconds"))
    _record(result)
    failed = [condition for condition in conditions if condition.required and not condition.met]
    if failed:
        raise CheckpointFailed(_explain(result, failed))
    return result


def _explain(result: Checkpoint, failed: list[Condition]) -> str:
    lines = [f"Checkpoint {result.number} ({result.label}) is not reached."]
    for c in failed:
        measured, target = number(c.measured, c.unit), number(c.target, c.unit)
        lines.append(f"  {c.label}: measured {measured}, needed {c.comparison} {target}.")
        lines += [f"  - {detail}" for detail in c.details]
        lines.append(f"  Look at the cells that compute it ({c.key}), then run the notebook from the top.")
    return "\n".join(lines)


def read_scorecard(path: Path | None = None) -> list[dict[str, object]]:
    """Every recorded condition, in the order of the course.

    Args:
        path: the scorecard file; the default is the one in :data:`settings`.

    Returns:
        One dictionary per condition with :data:`SCORECARD_KEYS`, ``checkpoint`` (number and label),
        ``speed`` and ``machine``. Empty when nothing was measured yet.

    Raises:
        ScorecardError: when the file is not a scorecard.
    """
    path = path or settings.scorecard_file
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return sorted(records, key=lambda record: (record["checkpoint"]["number"], record["order"]))
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise ScorecardError(
            f"{path} is not a scorecard ({error}). Delete it, then run the notebooks again to measure anew."
        ) from error


def forget(module: str, path: Path | None = None) -> None:
    """Remove a module's records from the scorecard, e.g. ``forget("1-predictive")``."""
    path = path or settings.scorecard_file
    with locked(path):
        kept = [record for record in read_scorecard(path) if record["module"] != module]
        write_text(path, json.dumps(kept, indent=1, ensure_ascii=False))


def _record(result: Checkpoint) -> None:
    """Replace the records of this checkpoint, keep all others."""
    path = settings.scorecard_file
    with locked(path):
        kept = [record for record in read_scorecard(path) if record["checkpoint"]["number"] != result.number]  # type: ignore[index]
        for order, condition in enumerate(result.conditions):
            kept.append(
                asdict(condition)
                | {
                    "id": condition.key,
                    "module": module_of(result.number),
                    "met": condition.met,
                    # JSON has neither NaN nor infinity: a value that could not be measured is null.
                    "measured": condition.measured if math.isfinite(condition.measured) else None,
                    "measured_at": result.measured_at,
                    "checkpoint": {"number": result.number, "label": result.label},
                    "order": order,
                    "machine": machine(),
                }
            )
        write_text(path, json.dumps(kept, indent=1, ensure_ascii=False))


def module_of(number: str) -> str:
    """The module folder of a checkpoint's number: ``"1.3"`` belongs to ``1-predictive``."""
    from workshop_lib.settings import MODULES

    for module in MODULES:
        if module.split("-")[0] == number.split(".")[0]:
            return module
    raise ValueError(f"Checkpoint number {number!r} starts with no module's number (1 to {len(MODULES)}).")


@cache
def machine() -> str:
    """This machine in a line: processor, cores, memory, system, Python."""
    import psutil

    processor = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as stream:
            models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
        processor = models[0] if models else processor
    except OSError:
        pass  # other systems have no /proc: the name above stands
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
