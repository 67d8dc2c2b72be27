"""A line for every forecast and score that was given: what for, by which version, to whom. No personal data.

    {"at": "2026-11-22T07:00:00Z", "kind": "churn", "key": "crm-1", "request": "5e…", "household": "9f…",
     "version": "2", "probability": 0.31, "contact": true}

A household stands here under a *pseudonym*, a keyed hash (HMAC-SHA-256). Whoever has the log alone cannot turn it
back, not even by trying all numbers of households, which would undo a plain hash in a second. Who also has the key can
find the lines of one household, to show them or to erase them (GDPR, articles 15 and 17). Features of a household are
not kept at all, nor is the request ID as it came: a client may have written a name into it.

Each day has a file of its own, and files older than ``settings.prediction_log_days`` are deleted. A line is written
before the answer goes out: when it cannot be written, there is no answer.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from workshop_lib.files import atomic_path, locked, secret
from workshop_lib.serving.api_schemas import ChurnResponse, DayForecast
from workshop_lib.settings import settings

_NAME = "predictions-{:%Y-%m-%d}.jsonl"
_LOCK = "predictions"


def log_key() -> bytes:
    """What makes pseudonyms: the key of the settings, or one made at random once."""
    if settings.prediction_log_key:
        return settings.prediction_log_key.get_secret_value().encode()
    return secret(settings.home / "services" / "prediction-log-key.txt").encode()


def pseudonym(value: object, key: bytes | None = None) -> str:
    """What stands in the log for a household or a request: 128 bits in hexadecimal digits."""
    return hmac.new(key or log_key(), str(value).encode(), hashlib.sha256).hexdigest()[:32]


class PredictionLog:
    """Writes the lines.

    Args:
        folder: for the files.
        days: after which a file is deleted.
    """

    def __init__(self, folder: Path, days: int) -> None:
        self._folder, self._days, self._key = folder, days, log_key()
        self._day: dt.date | None = None

    def forecast(
        self,
        trace: Mapping[str, str],
        category: str,
        days: Sequence[DayForecast],
        version: str | None,
        planned: bool = False,
    ) -> None:
        """Note a forecast.

        Args:
            trace: of the request.
            category: whose units.
            days: what was answered.
            version: that made it.
            planned: whether prices or promotions were given.

        Raises:
            OSError: when the line cannot be written.
        """
        dates, units = [f"{day.date}" for day in days], [round(day.units, 3) for day in days]
        self._write(
            "forecast", trace, version, {"category": category, "dates": dates, "planned": planned, "units": units}
        )

    def churn(self, trace: Mapping[str, str], answer: ChurnResponse) -> None:
        """Note a score; one for given features belongs to no household.

        Raises:
            OSError: when the line cannot be written.
        """
        household = None if answer.household_id is None else pseudonym(answer.household_id, self._key)
        about = {"household": household, "probability": round(answer.probability, 4), "contact": answer.contact}
        self._write("churn", trace, answer.model.version, about)

    def _write(self, kind: str, trace: Mapping[str, str], version: str | None, about: Mapping[str, Any]) -> None:
        now = dt.datetime.now(dt.UTC)
        if now.date() != self._day:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_old(now.date())
            self._day = now.date()
        line = {
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "kind": kind,
            "key": trace.get("key"), "request": pseudonym(trace["request_id"], self._key), "version": version, **about,
        }  # fmt: skip
        with locked(self._folder / _LOCK):
            file = os.open(self._folder / _NAME.format(now), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, orjson.dumps(line) + b"\n")
            finally:
                os.close(file)

    def _delete_old(self, today: dt.date) -> None:
        oldest = _NAME.format(today - dt.timedelta(days=self._days))
        for path in _files(self._folder):
            if path.name < oldest:
                path.unlink(missing_ok=True)


def read_log(folder: Path, household: object = None) -> list[dict[str, Any]]:
    """The lines of a log, oldest first.

    Args:
        folder: of the log.
        household: only the lines about this one; needs the log's key.
    """
    lines = [orjson.loads(line) for path in _files(folder) for line in path.read_bytes().splitlines()]
    if household is None:
        return lines
    wanted = pseudonym(household)
    return [line for line in lines if line.get("household") == wanted]


def erase(folder: Path, household: object) -> int:
    """Take a household out of a log: its lines stay, because answers were given, but no longer say about whom.

    Returns:
        How many lines were changed.
    """
    wanted, changed = pseudonym(household).encode(), 0
    with locked(folder / _LOCK):  # the API may be about to write
        for path in _files(folder):
            content = path.read_bytes()
            if wanted in content:
                changed += content.count(wanted)
                with atomic_path(path) as draft:
                    draft.touch(mode=0o600)
                    draft.write_bytes(content.replace(wanted, b"erased"))
    return changed


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("predictions-*.jsonl"))
