"""The catalogue of labels: complete in both languages, used by the code, and free of leftovers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from workshop_lib.orchestration import labels
from workshop_lib.orchestration.assistant_texts import _PARTS
from workshop_lib.orchestration.labels import LANGUAGES, LabelError, Labels, catalogue, gaps

FOLDER = Path(labels.__file__).parent
CODE = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted([*FOLDER.glob("dashboard*.py"), FOLDER / "labels.py"])
)
CODE = CODE.replace("'", '"')
SAME_IN_BOTH = {"unit.none", "unit.ms", "customers.choice", "steps.busy"}
"""Labels without a word."""


@pytest.fixture
def small_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue of the test's own."""
    path = tmp_path / "labels.yaml"
    monkeypatch.setattr(labels, "CATALOGUE", path)
    catalogue.cache_clear()
    yield path
    catalogue.cache_clear()


def test_every_label_is_there_in_both_languages_with_the_same_gaps() -> None:
    assert len(catalogue()) > 300
    for key, both in catalogue().items():
        assert set(both) == set(LANGUAGES), key
        assert gaps(both["en"]) == gaps(both["es"]), key


def test_no_label_was_left_untranslated() -> None:
    same = {key for key, both in catalogue().items() if both["en"] == both["es"] and re.search("[a-z]{4}", both["en"])}
    # Words that both languages share.
    assert {key.rpartition(".")[2] for key in same - SAME_IN_BOTH} <= {"none", "formal", "total"}


def test_every_label_that_the_code_names_exists() -> None:
    named = set(re.findall(r'say\(\s*"([a-z_.0-9]+)"', CODE)) | set(re.findall(r'say, "((?:\w+\.)+\w+)"', CODE))
    assert len(named) > 100
    assert named - set(catalogue()) == set()


def test_every_family_of_labels_that_the_code_names_exists() -> None:
    families = set(re.findall(r'say\(\s*f"([a-z_.0-9]+)\.\{', CODE))
    known = {key.rpartition(".")[0] for key in catalogue()}
    assert len(families) > 15
    assert families - known == set()


def test_no_label_is_left_over() -> None:
    named = set(re.findall(r'"([a-z_.0-9]+)"', CODE))
    families = tuple(f"{family}." for family in re.findall(r'f"([a-z_]+(?:\.[a-z_]+)*)\.\{', CODE))
    unused = {key for key in catalogue() if key not in named and not key.startswith(families)}
    assert unused == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {en: Soup}", "a needs a text in each of en, es"),
        ("a: {en: Soup, es: ' '}", "a needs a text in each of en, es"),
        ("a: {en: Soup, es: Sopa, fr: Soupe}", "a needs a text in each of en, es"),
        ("a: {b: {en: '{count} soups', es: '{cuenta} sopas'}}", "a.b has other gaps"),
        ("a: Soup", "a is a text without a language"),
    ],
)
def test_a_catalogue_that_is_not_complete_is_refused(small_catalogue: Path, text: str, expected: str) -> None:
    small_catalogue.write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=re.escape(expected)):
        catalogue()


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(LabelError, match=r"no label 'soup\.of\.the\.day'"):
        Labels("en")("soup.of.the.day")
    with pytest.raises(LabelError, match="'count'"):
        Labels("en")("unit.days")
    with pytest.raises(LabelError, match="'fr', only in en, es"):
        Labels("fr")  # type: ignore[arg-type]


def test_numbers_are_written_as_each_language_does() -> None:
    en, es = Labels("en"), Labels("es")
    assert (en.number(1234.56, 1), es.number(1234.56, 1)) == ("1,234.6", "1.234,6")
    assert (en.percent(0.125, 1), es.percent(0.125, 1)) == ("12.5%", "12,5 %")
    assert (en.dollars(1234.5), es.dollars(1234.5)) == ("$1,234.50", "1.234,50 $")
    assert (en.dollars(-2), es.dollars(-2)) == ("-$2.00", "-2,00 $")
    assert [en.signed(value) for value in (3, -3, 0.2, -0.2)] == ["+3", "-3", "0", "0"]
    assert (en.change(0.36), es.change(-0.1)) == ("+36%", "-10 %")
    assert en.number(float("nan")) == "–"
    assert (en.percent(-0.001), en.percent(12.5)) == ("0%", "1,250%")


@pytest.mark.parametrize(
    ("english", "spanish"),
    [
        ("$1.99", "1,99 $"), ("$1,234.50.", "1.234,50 $."), ("2.5 ounces", "2,5 ounces"), ("12 x 2.5", "12 x 2,5"),
        ("1,99", "1,99"), ("1.000", "1.000"), ("free", "free"), ("", ""),
    ],
)  # fmt: skip
def test_figures_of_the_catalogue_are_rewritten(english: str, spanish: str) -> None:
    assert Labels("es").rewritten(english) == spanish
    assert Labels("en").rewritten(english) == english


def test_every_part_of_an_answer_has_a_name() -> None:
    parts = {key.removeprefix("part.") for key in catalogue() if key.startswith("part.")}
    assert _PARTS.keys() <= parts and "headline" in _PARTS


def test_days_and_ages_are_written_as_each_language_does() -> None:
    en, es = Labels("en"), Labels("es")
    day = dt.date(2018, 1, 3)
    assert (en.day(day), es.day(day)) == ("Wed 3 Jan", "mié 3 ene")
    assert (en.date(day), es.date(day)) == ("3 Jan 2018", "3 ene 2018")
    ages = [en.age(seconds) for seconds in (12, 60, 150, 3600, 86_400, 200_000)]
    assert ages == ["12 seconds", "1 minute", "2 minutes", "1 hour", "1 day", "2 days"]
    assert es.age(7200) == "2 horas"


def test_the_file_reads_as_it_looks() -> None:
    raw = yaml.safe_load(labels.CATALOGUE.read_text(encoding="utf-8"))
    assert all(isinstance(key, str) for key in _keys(raw)), "quote yes, no, on and off"


def _keys(branch: object) -> list[object]:
    return [key for name, value in branch.items() for key in (name, *_keys(value))] if isinstance(branch, dict) else []
