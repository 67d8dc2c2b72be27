"""The table of what the optimisations brought."""

from pathlib import Path
from typing import Any

import pytest

from workshop_lib.checkpoints import Change, at_least, checkpoint, read_scorecard
from workshop_lib.optimization.overview import BEGIN, END, README, OverviewError, main, overview, with_table


def measured(before: float, after: float) -> list[dict[str, Any]]:
    saved = 1 - after / before if before else after
    checkpoint("5.6", "Answers that are there already", [
        at_least("cache.lower.forecast", saved, 0.8, "time saved", change=Change("a forecast", "ms", before, after)),
        at_least("cache.hits", 1, 0, "hits"),
    ])  # fmt: skip
    return read_scorecard()


def test_a_row_shows_both_figures_and_whether_the_target_is_met() -> None:
    _, _, row, empty, machine = overview(measured(33, 1.4)).splitlines()
    assert row == "| a forecast | 33 ms | 1.4 ms | -96% | time saved: >= 0.8: met |"
    assert not empty and machine.startswith("Measured on ")


def test_what_began_at_zero_has_no_relative_change() -> None:
    assert "| 0 ms | 0.9 ms |  |" in overview(measured(0, 0.9))


def test_without_measurements_there_is_no_table() -> None:
    with pytest.raises(OverviewError, match="workshop run 5-monitoring-optimization"):
        overview([record | {"change": None} for record in measured(2, 0.1)])


def test_the_table_goes_between_its_marks_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nan old table\n{END}\nbelow\n", encoding="utf-8")
    table = overview(measured(33, 1.4))
    assert main(["--write"], readme) == 0
    assert readme.read_text(encoding="utf-8") == f"above\n{BEGIN}\n{table}\n{END}\nbelow\n"
    assert main([], readme) == 0 and capsys.readouterr().out == table + "\n"
    readme.write_text("no place", encoding="utf-8")
    assert main(["--write"], readme) == 1 and "place is missing" in capsys.readouterr().err
    assert readme.read_text(encoding="utf-8") == "no place"


def test_the_readme_shows_what_the_notebooks_measure() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2].partition(END)[0]
    assert with_table(text, table.strip("\n")) == text
    rows = [line for line in table.splitlines()[3:] if line.startswith("| ")]
    assert len(rows) >= 8
    assert all(line.removesuffix(" |").endswith((": met", ": missed")) for line in rows)
    notebooks = "".join(path.read_text(encoding="utf-8") for path in (README.parent / "optimization").glob("*.ipynb"))
    targets = [line.split(" | ")[4].rsplit(": ", 2)[0] for line in rows]
    assert [one for one in targets if f">{one}<" not in notebooks] == [], "of no checkpoint that a notebook shows"
