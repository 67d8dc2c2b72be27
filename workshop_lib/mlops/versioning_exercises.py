"""Exercises of the notebook on versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.mlops.audit import GENESIS, Entry

_CHANGES = {
    "a feature gets another name": "major",
    "a wider safety margin in the prediction intervals": "patch",
    "trained again on a year more of data": "minor",
    "trained again, and two categories are no longer forecast": "major",
    "the same features in another order": "major",
    "ten more categories": "minor",
}


def _chain(length: int = 5) -> list[Entry]:
    """A sound trail of some entries."""
    entries, previous = [], GENESIS
    for number in range(1, length + 1):
        draft = Entry(number, "2017-10-02T08:00:00+00:00", "ana", "build", f"v1.{number}.0", "exercise", {}, previous)
        entries.append(replace(draft, sha256=draft.checksum()))
        previous = entries[-1].sha256
    return entries


def _forged(entries: Sequence[Entry], place: int, *, checksum: bool) -> list[Entry]:
    """The same trail with another actor in one entry, with or without a new checksum of that entry."""
    changed = replace(entries[place], actor="mallory")
    if checksum:
        changed = replace(changed, sha256=changed.checksum())
    return [*entries[:place], changed, *entries[place + 1 :]]


def _finds(*cases: tuple[Sequence[Entry], int]) -> Callable[[Any], bool]:
    return lambda answer: all(answer(list(entries)) == expected for entries, expected in cases)


_SOUND = _chain()
_CHANGED = (_forged(_SOUND, 2, checksum=False), 3)
_RECOMPUTED = (_forged(_SOUND, 1, checksum=True), 3)
_REMOVED = ([*_SOUND[:1], *_SOUND[2:]], 3)
_FIRST_GONE = (_SOUND[1:], 2)


def _says(situation: str, wrong: str) -> Callable[[Any], bool]:
    return lambda answer: bool(answer[situation] == wrong)


EXERCISES = {
    "6.1.a": Exercise(
        right=lambda answer: answer == _CHANGES,
        hint="Ask two questions. Do requests that worked before fail now? Major. If not: do answers differ? Minor.",
        near_misses=[
            (lambda answer: answer.keys() != _CHANGES.keys(), "Keep the six changes as keys."),
            (
                _says("trained again, and two categories are no longer forecast", "minor"),
                "The gravest change decides: who asks for one of the two categories gets an error now.",
            ),
            (
                lambda answer: answer["the same features in another order"] in ("minor", "patch"),
                "Callers send rows of plain numbers. In another order each number lands in the wrong place.",
            ),
            (
                _says("ten more categories", "major"),
                "More than before breaks nobody: all requests that worked still work.",
            ),
        ],
    ),
    "6.1.b": Exercise(
        right=_finds((_SOUND, 0), ([], 0), _CHANGED, _RECOMPUTED, _REMOVED, _FIRST_GONE),
        hint="Go from the first entry to the last and keep the checksum of the one before; the first has GENESIS.",
        near_misses=[
            (
                _finds((_SOUND, 0), _CHANGED, (_RECOMPUTED[0], 0)),
                "Somebody may compute the checksum of a changed entry anew. Compare `previous` with the entry before.",
            ),
            (
                _finds((_SOUND, 0), (_CHANGED[0], 0), _RECOMPUTED),
                "Your chain holds together, but a changed entry that kept its old checksum is not found."
                " Compare `entry.checksum()` with `entry.sha256`.",
            ),
            (
                _finds((_SOUND, 0), _CHANGED, _RECOMPUTED, _REMOVED, (_FIRST_GONE[0], 0)),
                "Cut off the first entry: the new first one still names the lost one. What should it name?",
            ),
            (
                _finds((_SOUND, 0), (_CHANGED[0], 2), (_REMOVED[0], 1)),
                "Return the entry's own number, `entry.number`, and not its place in the list.",
            ),
        ],
    ),
}
