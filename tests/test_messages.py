"""Texts that the library and the code cells show: found in the code, looked up where they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text

from workshop_lib import exercises, messages, plots, shown_texts
from workshop_lib.checkpoints import Checkpoint, at_least
from workshop_lib.messages import translate

CODE = """
axis.set(title="Units per day", ylabel=f"units, {where}")
axis.plot(x, y, label="sold")
axis.set_title("Two " "parts")
checkpoint("1.1", "It works", [at_least("a.b", value, 0.5, "share of x", "h"), at_most("c", 1, 2, label)])
print("not shown"); frame.rename(columns={"a": "b"})
"""


@pytest.fixture
def spanish(use_settings: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(lang="es")
    known = (
        {"sold": "vendido", "units": "unidades"},
        [(messages.re.compile("loss of (.*?), (.*?)"), "{1}: pierde {0}")],
    )
    monkeypatch.setattr(messages, "_catalogue", lambda language: known)


def test_texts_are_found_where_they_are_shown() -> None:
    found = {text for _, text in shown_texts._in_code(Path("x.py"), CODE)}
    assert found == {"Units per day", "units, {0}", "sold", "Two parts", "It works", "share of x"}


def test_every_hint_is_there() -> None:
    found = shown_texts.shown_texts()
    for exercise in exercises.all_exercises().values():
        assert exercise.hint in found and all(hint in found for _, hint in exercise.near_misses)
    assert len(exercises.all_exercises()) > 60


def test_english_stays_english() -> None:
    assert translate("sold") == "sold" and translate("", "es") == ""


def test_texts_and_texts_with_gaps(spanish: None) -> None:
    assert translate("sold") == "vendido"
    assert translate("loss of 12%, sold") == "vendido: pierde 12%"
    assert translate("nobody knows this") == "nobody knows this"


def test_the_catalogue_is_read() -> None:
    assert translate("missed", "es") != "missed" and translate("hello", "no such language") == "hello"


def test_pictures_checkpoints_and_hints_speak_spanish(spanish: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Text, "set_text", Text.set_text)  # put back after the test
    plots.use_course_style()
    figure, axis = plt.subplots()
    axis.plot([1, 2], label="sold")
    axis.set(title="units", ylabel="something else")
    legend = axis.legend()
    assert (axis.get_title(loc="left"), axis.get_ylabel()) == ("unidades", "something else")
    assert [text.get_text() for text in legend.get_texts()] == ["vendido"]
    plt.close(figure)
    shown = Checkpoint("1.1", "units", [at_least("a.b", 1, 2, "sold")], "now")
    assert "vendido" in repr(shown) and "vendido" in shown._repr_html_()
    assert "vendido" in repr(exercises.Feedback("1.1.a", False, "sold"))
