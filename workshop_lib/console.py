"""What ``./workshop`` prints: lines and tables, in the learner's language.

    say("Nothing was measured yet.")
    found = table("Doctor", "check", "found")
    add_row(found, "memory", "7.6 of 15.6 GiB free")
    out.print(found)

Texts are looked up by :func:`workshop_lib.messages.translate`; what a program or a server says itself stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from workshop_lib.messages import translate

if TYPE_CHECKING:
    from workshop_lib.doctor import Finding

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)
WORDS = (
    *("healthy", "starting", "stopped", "port taken", "was not running"),
    *("ok", "note", "problem", "open", "done", "done, {0} missed"),
    *("never ran", "with an error", "long ago", "error"),
    *("MLflow server", "business API", "Its log {0} ends with: {1}"),
)
"""What tables show and errors end with, beside the texts of the subcommands: states, verdicts, names of servers."""
_COLOURS = {
    "ok": "green", "met": "green", "done": "green", "note": "yellow", "problem": "red", "missed": "red", "open": "dim"
}  # fmt: skip


def say(text: str) -> None:
    """A line as it is: paths are not broken, brackets are no markup."""
    out.print(translate(text), markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """The same on the error stream."""
    err.print(translate(text), markup=False, soft_wrap=True)


def table(title: str, *columns: str | Column) -> Table:
    """An empty table.

    Args:
        title: above it; empty for none.
        columns: their headings, left to right; a :class:`rich.table.Column` where one has a look of its own.
    """
    made = [Column(column) if isinstance(column, str) else column for column in columns]
    for column in made:
        column.header = translate(str(column.header))
    return Table(*made, title=translate(title) or None, title_justify="left")


def add_row(rows: Table, *cells: str, state: int | None = None) -> None:
    """A row of plain texts.

    Args:
        rows: from :func:`table`.
        cells: from left to right.
        state: place of the cell that is coloured by what it says.
    """
    shown = [escape(translate(cell)) for cell in cells]
    if state is not None:
        colour = _COLOURS.get(cells[state], "yellow")
        shown[state] = f"[{colour}]{shown[state]}[/]"
    rows.add_row(*shown)


def add_heading(rows: Table, text: str) -> None:
    """A line of its own between the rows."""
    rows.add_section()
    rows.add_row(f"[bold]{escape(translate(text))}[/]")


def findings(title: str) -> Table:
    """An empty table for :func:`add_finding`."""
    return table(title, "check", "found", "result", "what to do")


def add_finding(rows: Table, finding: Finding) -> None:
    """What a check found, with its verdict in colour."""
    add_row(rows, finding.check, finding.found, finding.verdict, finding.advice, state=2)
