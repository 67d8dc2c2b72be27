"""What the optimisations of this module brought, as a table in its README: made from the scorecard, never by hand.

    python -m workshop_lib.optimization.overview --write

The notebooks hand over what they measured before and after, in the conditions of their checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workshop_lib.checkpoints import Change, number, read_scorecard, verdict
from workshop_lib.files import write_text
from workshop_lib.settings import ROOT

README = ROOT / "5-monitoring-optimization" / "README.md"
BEGIN, END = "<!-- overview: begin -->", "<!-- overview: end -->"
"""The table stands between these lines."""


class OverviewError(ValueError):
    """There is nothing to make the table of, or no place for it; the message says what to do."""


def overview(records: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown.

    Args:
        records: of the scorecard; those without a change are left out.

    Raises:
        OverviewError: when no record has one.
    """
    changed = [(record, Change(*record["change"])) for record in records if record.get("change")]
    if not changed:
        raise OverviewError("The scorecard has nothing of this module yet: ./workshop run 5-monitoring-optimization")
    rows = ["| what | before | after | change | target |", "|---|---|---|---|---|"]
    for record, change in changed:
        unit = str(record["unit"])
        target = f"{record['label']}: {record['comparison']} {number(float(record['target']), unit)}"
        rows.append(
            f"| {change.what} | {number(change.before, change.unit)} | {number(change.after, change.unit)}"
            f" | {_share(change)} | {target}: {verdict(bool(record['met']))} |"
        )
    return "\n".join([*rows, "", f"Measured on {changed[-1][0]['machine']}."])


def _share(change: Change) -> str:
    """By how much the figure went up or down; nothing for one that began at zero."""
    return f"{change.after / change.before - 1:+.0%}" if change.before else ""


def with_table(text: str, table: str) -> str:
    """A text with the table in its place.

    Raises:
        OverviewError: when it has no place for one.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise OverviewError(f"The table's place is missing: the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(arguments: Sequence[str], readme: Path = README) -> int:
    """Show the table, or write it into the README; for the command line."""
    try:
        table = overview(read_scorecard())
        if "--write" in arguments:
            write_text(readme, with_table(readme.read_text(encoding="utf-8"), table))
        else:
            print(table)
    except OverviewError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
