"""Quizzes: complete, answered by letters, and never in a learner's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workshop_lib import quizzes
from workshop_lib.quizzes import LETTERS, QuizError, quiz
from workshop_lib.settings import MODULES

RIGHT = {
    module: "".join(LETTERS[[o.right for o in question.options].index(True)] for question in questions)
    for module, questions in quizzes.course().items()
}


def test_every_module_has_a_quiz_of_different_questions() -> None:
    assert list(quizzes.course()) == [module.split("-")[0] for module in MODULES]
    asked = [question.question for questions in quizzes.course().values() for question in questions]
    assert len(set(asked)) == len(asked) and all(text.endswith("?") for text in asked)
    assert {len(questions) for questions in quizzes.course().values()} == {6}


def test_the_right_letter_cannot_be_guessed() -> None:
    """Neither one letter nor the longest option is right much more often than chance would have it."""
    letters = "".join(RIGHT.values())
    assert max(letters.count(letter) for letter in LETTERS) <= len(letters) / 3
    questions = [question for some in quizzes.course().values() for question in some]
    longest = [max(question.options, key=lambda option: len(option.text)).right for question in questions]
    assert sum(longest) <= len(questions) / 3


@pytest.mark.parametrize("module", RIGHT)
def test_right_letters_are_right_in_any_spacing(module: str) -> None:
    for answer in (RIGHT[module], " ".join(RIGHT[module]).upper(), ", ".join(RIGHT[module])):
        found = quiz(module, answer)
        assert found.right == len(found.questions) and "6 of 6 right" in repr(found) and "not yet" not in repr(found)


def test_a_wrong_letter_gets_its_reason_and_not_the_answer() -> None:
    first = quizzes.course()["1"][0]
    wrong = next(place for place, option in enumerate(first.options) if not option.right)
    found = quiz("1", LETTERS[wrong] + RIGHT["1"][1:])
    assert found.right == 5 and repr(found).startswith(f"1. not yet. {first.options[wrong].why}")
    assert first.options[LETTERS.index(RIGHT["1"][0])].why not in repr(found)
    assert "5 of 6 right" in found._repr_html_() and "<li>" in found._repr_html_()


@pytest.mark.parametrize("answers", [..., None, "a b", "z" * 6, "abcabcabc", 7, ["a"] * 6, "a b c d e f"])
def test_what_cannot_be_read_is_told_and_the_notebook_goes_on(answers: object) -> None:
    found = quiz("1", answers)
    assert repr(found) == found._repr_html_().replace("&#x27;", "'")
    assert repr(found) == "Answer with 6 letters, one per question, such as 'a b c a b c'."


def test_a_letter_that_a_question_does_not_have() -> None:
    short = next(
        (module, place)
        for module, questions in quizzes.course().items()
        for place, question in enumerate(questions)
        if len(question.options) == 3
    )
    letters = list(RIGHT[short[0]])
    letters[short[1]] = "d"
    assert "Answer with 6 letters" in repr(quiz(short[0], "".join(letters)))


def test_questions_are_shown_without_their_answers() -> None:
    shown = quiz("2")
    for text in (repr(shown), shown._repr_html_()):
        assert text.count("why") == 0 and "right: true" not in text
    assert repr(shown).count("\n   a) ") == 6 and shown._repr_html_().count('<ol type="a">') == 6


def test_a_quiz_speaks_spanish(use_settings: Callable[..., object]) -> None:
    english = (repr(quiz("1")), repr(quiz("1", RIGHT["1"])), repr(quiz("1", ...)))
    use_settings(lang="es")
    spanish = (repr(quiz("1")), repr(quiz("1", RIGHT["1"])), repr(quiz("1", ...)))
    assert all(one != other for one, other in zip(english, spanish, strict=True))
    assert "6 de 6" in spanish[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("'1': [", "is no YAML"),
        ("'1': [{question: x}]", "1, 0, options: Field required"),
        (
            "'1': [{question: x, options: [{text: a, why: b}, {text: c, why: d}, {text: e, why: f}]}]",
            "exactly one option with right",
        ),
    ],
)
def test_a_file_that_cannot_be_used(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "quizzes.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(QuizError, match=said):
        quizzes.load(file)


def test_an_unknown_module() -> None:
    with pytest.raises(QuizError, match="no quiz '9'; known ones: 1, 2, 3, 4, 5, 6"):
        quiz("9")
