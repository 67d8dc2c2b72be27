"""Semantic versions for models: numbers that tell a caller what a new version means for them.

The registry counts 1, 2, 3, and says nothing about the kind of a change. A semantic version ``v2.1.3`` does
(https://semver.org). For a model the three numbers mean:

* **major**: the schema changed. Callers have to change something, or their requests fail.
* **minor**: trained anew. Requests stay as they are, the answers differ.
* **patch**: configuration. The model is the same; what is said around it differs.

Rules decide, not people, so the same change always gets the same kind of number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Change = Literal["major", "minor", "patch"]
TAG = "semver"
"""Tag of a version in the registry."""


class VersionError(ValueError):
    """A text is no semantic version, or a change is no kind of change."""


@dataclass(frozen=True, order=True)
class Version:
    """A semantic version; versions compare by their numbers, so v1.10.0 comes after v1.9.0."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``v1.2.3`` or ``1.2.3``.

        Raises:
            VersionError: for any other text.
        """
        found = re.fullmatch(r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)", text)
        if not found:
            raise VersionError(f"{text!r} is no semantic version: three numbers without leading zeros, as in v1.2.3.")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    def bump(self, change: Change) -> Version:
        """The next version for a kind of change; the numbers behind the one that grows begin at 0 again.

        Raises:
            VersionError: for another kind.
        """
        if change not in get_args(Change):
            raise VersionError(f"{change!r} is no kind of change: {', '.join(get_args(Change))}.")
        if change == "major":
            return Version(self.major + 1, 0, 0)
        if change == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(1, 0, 0)
"""Of a model that callers have just begun to use."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at in a version."""

    features: tuple[str, ...]
    """Input columns in their order."""
    output: str
    """Name of what it answers."""
    categories: tuple[str, ...]
    """What it can be asked about."""
    data_fingerprint: str
    training_period: tuple[str, str]
    """First and last day, ISO 8601."""
    weights: str
    """Checksum of the file with the model's numbers."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that a server or a reader uses: intervals, thresholds, description."""


@dataclass(frozen=True)
class Decision:
    """What kind of change it is, and why."""

    change: Change
    reasons: tuple[str, ...]


def decide(before: Facts, after: Facts) -> Decision:
    """The kind of change between two versions: the gravest one that a rule finds, with all reasons of that kind.

    =======  ==========================================================================================
    major    features added, removed, renamed or in another order; another output; categories removed
    minor    other data, another training period, other weights, categories added
    patch    other configuration, or registered again without a change
    =======  ==========================================================================================
    """
    findings: dict[Change, list[str]] = {
        "major": _broken(before, after), "minor": _retrained(before, after), "patch": _configured(before, after)
    }  # fmt: skip
    for change, reasons in findings.items():
        if reasons:
            return Decision(change, tuple(reasons))
    return Decision("patch", ("registered again, nothing differs",))


def _broken(before: Facts, after: Facts) -> list[str]:
    """Why requests that worked may fail now."""
    reasons = []
    lost, new = (
        [name for name in one if name not in other]
        for one, other in ((before.features, after.features), (after.features, before.features))
    )
    if lost:
        reasons.append(f"features removed: {_named(lost)}")
    if new:
        reasons.append(f"features added: {_named(new)}")
    if not lost and not new and before.features != after.features:
        reasons.append("features in another order")
    if before.output != after.output:
        reasons.append(f"output {after.output} instead of {before.output}")
    gone = sorted(set(before.categories) - set(after.categories))
    if gone:
        reasons.append(f"categories removed: {_named(gone)}")
    return reasons


def _retrained(before: Facts, after: Facts) -> list[str]:
    """Why the same request may get another answer now."""
    reasons = []
    if before.data_fingerprint != after.data_fingerprint:
        reasons.append("other data")
    if before.training_period != after.training_period:
        reasons.append("training period " + " to ".join(after.training_period))
    if before.weights != after.weights:
        reasons.append("other weights")
    added = sorted(set(after.categories) - set(before.categories))
    if added:
        reasons.append(f"categories added: {_named(added)}")
    return reasons


def _configured(before: Facts, after: Facts) -> list[str]:
    """What else differs."""
    names = sorted({*before.configuration, *after.configuration})
    changed = [name for name in names if before.configuration.get(name) != after.configuration.get(name)]
    return [f"configuration: {', '.join(changed)}"] if changed else []


def _named(names: list[str], most: int = 3) -> str:
    """Names in a line: the first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
