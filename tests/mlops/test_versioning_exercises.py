"""The exercises tell right from wrong."""

from __future__ import annotations

from collections.abc import Callable

from workshop_lib.exercises import check
from workshop_lib.mlops.audit import GENESIS, Entry

RIGHT = {
    "a feature gets another name": "major",
    "a wider safety margin in the prediction intervals": "patch",
    "trained again on a year more of data": "minor",
    "trained again, and two categories are no longer forecast": "major",
    "the same features in another order": "major",
    "ten more categories": "minor",
}


def _walk(*, checksums: bool = True, links: bool = True, first: bool = True) -> Callable[[list[Entry]], int]:
    """The first entry that does not fit, with single checks left out."""

    def find(entries: list[Entry]) -> int:
        previous = GENESIS if first or not entries else entries[0].previous
        for entry in entries:
            if (checksums and entry.checksum() != entry.sha256) or (links and entry.previous != previous):
                return entry.number
            previous = entry.sha256
        return 0

    return find


def _places(entries: list[Entry]) -> int:
    numbers = [entry.number for entry in entries]
    found = _walk()(entries)
    return numbers.index(found) if found else 0


def test_decide() -> None:
    assert check("6.1.a", RIGHT).correct
    lost = "trained again, and two categories are no longer forecast"
    assert "gravest" in check("6.1.a", RIGHT | {lost: "minor"}).hint
    assert "wrong place" in check("6.1.a", RIGHT | {"the same features in another order": "patch"}).hint
    assert "breaks nobody" in check("6.1.a", RIGHT | {"ten more categories": "major"}).hint
    assert "Keep the six" in check("6.1.a", {"ten more categories": "minor"}).hint
    assert "two questions" in check("6.1.a", ...).hint


def test_first_broken() -> None:
    assert check("6.1.b", _walk()).correct
    assert "Compare `previous`" in check("6.1.b", _walk(links=False)).hint
    assert "kept its old checksum" in check("6.1.b", _walk(checksums=False)).hint
    assert "Cut off the first" in check("6.1.b", _walk(first=False)).hint
    assert "entry.number" in check("6.1.b", _places).hint
    assert "Go from the first" in check("6.1.b", lambda entries: -1).hint
