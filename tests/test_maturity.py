"""The questions on maturity: checked when read, assessed by the weakest answer, and proved by what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

from workshop_lib import catalogues, maturity
from workshop_lib.checkpoints import ScorecardError
from workshop_lib.editions import REST
from workshop_lib.exercises import check
from workshop_lib.maturity import MET, MISSED, MISSING, NOT_RUN, THERE
from workshop_lib.maturity_questions import MaturityError, Questionnaire, course, load
from workshop_lib.predictive import mlops_exercises
from workshop_lib.settings import MODULES


def question(name: str, area: str, level: int = 2, **evidence: object) -> dict[str, Any]:
    proof: dict[str, object] = {"level": level, "files": ["proof.txt"], "limit": "" if level == 3 else "Not yet."}
    levels = [f"{name} at {level}" for level in range(4)]
    return {"id": name, "area": area, "text": f"{name}?", "levels": levels, "evidence": proof | evidence}


def content() -> dict[str, Any]:
    return {
        "levels": ["a", "b", "c", "d"],
        "areas": {"data": "about data", "release": "about releases"},
        "questions": [question("rules", "data"), question("copies", "data"), question("gates", "release", level=3)],
    }


@pytest.fixture
def asked() -> Questionnaire:
    return Questionnaire.model_validate(content())


def write(folder: Path, given: object) -> Path:
    path = folder / "questions.yaml"
    path.write_text(given if isinstance(given, str) else yaml.safe_dump(given), encoding="utf-8")
    return path


# --- Reading --------------------------------------------------------------------------------------


def test_a_good_file_is_read(tmp_path: Path) -> None:
    assert list(load(write(tmp_path, content())).by_id()) == ["rules", "copies", "gates"]


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    given = content()
    change(given)
    return given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a: [", r"questions.yaml is no YAML: .*line"),
        ("just text", "the whole file: .*dictionary"),
        ("", "the whole file: "),
        (edited(lambda c: c.pop("areas")), "areas: Field required"),
        (edited(lambda c: c["areas"].update(code="about code")), "areas that are listed, but code$"),
        (edited(lambda c: c["questions"][0].update(area="taste")), "areas that are listed, but taste$"),
        (edited(lambda c: c["questions"][1].update(id="rules")), "every id once, but there are several of rules$"),
        (edited(lambda c: c["questions"][1].pop("text")), "question 'copies', text: Field required"),
        (edited(lambda c: c["questions"][1].update(text=" ")), "question 'copies', text: "),
        (edited(lambda c: c["questions"][1].update(note="x")), "question 'copies', note: Extra inputs"),
        (edited(lambda c: c["questions"][1]["levels"].pop()), "question 'copies', levels, 3: Field required"),
        (edited(lambda c: c["questions"][2].pop("id")), "question 3, id: Field required"),
        (edited(lambda c: c["questions"].append("no entry")), "questions, 3: "),
        (edited(lambda c: c["questions"][0]["evidence"].update(level=4)), "question 'rules', evidence, level: .*3"),
        (
            edited(lambda c: c["questions"][0]["evidence"].update(files=[])),
            "at least one file or checkpoint as a proof",
        ),
        (edited(lambda c: c["questions"][0]["evidence"].update(limit="")), "'rules', evidence: a limit below level 3"),
        (edited(lambda c: c["questions"][2]["evidence"].update(limit="x")), "'gates', evidence: .*and none at it"),
        (edited(lambda c: c["questions"][0]["evidence"].update(files=["/etc/hosts"])), "not /etc/hosts"),
        (
            edited(lambda c: c["questions"][0]["evidence"].update(files=["../x", "y"])),
            r"within the checkout, not \.\./x",
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_entry(given: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(MaturityError, match=said):
        load(write(tmp_path, given))


# --- Assessing ------------------------------------------------------------------------------------


def test_the_weakest_answer_is_the_level_of_an_area(asked: Questionnaire) -> None:
    levels = maturity.assess({"rules": 3, "copies": 1, "gates": 2}, asked)
    assert levels["level"].to_dict() == {"data": 1, "release": 2}
    assert levels["weakest"].to_dict() == {"data": "copies", "release": "gates"}
    assert levels.loc["data", "why"] == "copies? copies at 1"
    assert maturity.overall(levels) == 1


def test_equally_weak_answers_are_all_named(asked: Questionnaire) -> None:
    assert maturity.assess({"rules": 2, "copies": 2}, asked).loc["data", "weakest"] == "rules, copies"


def test_what_nobody_answers_is_level_zero(asked: Questionnaire) -> None:
    answers: dict[str, Any] = {"rules": 3, "gates": np.int64(3)}
    levels = maturity.assess(answers, asked)
    assert levels.loc["data"].tolist() == [0, "copies", "copies? No answer."]
    assert levels.loc["release", "level"] == 3
    assert maturity.overall(maturity.assess({})) == 0


@pytest.mark.parametrize("level", [-1, 4, 1.5, "2", True, None, []], ids=repr)
def test_no_level_but_the_four(level: Any, asked: Questionnaire) -> None:
    with pytest.raises(MaturityError, match="copies: a level is 0, 1, 2 or 3, not "):
        maturity.assess({"copies": level}, asked)


def test_an_unknown_question_names_the_known_ones(asked: Questionnaire) -> None:
    with pytest.raises(MaturityError, match=r"no_such.*The ids are: rules, copies, gates"):
        maturity.assess({"no_such": 1}, asked)


def test_the_questions_as_a_table() -> None:
    table = maturity.questions()
    assert list(table.columns) == ["question", 0, 1, 2, 3] and list(table.index) == list(course().by_id())
    assert list(maturity.questions("release").index) == ["packaging", "gates", "rollout"]
    with pytest.raises(MaturityError, match=r"There is no area 'taste'\. The areas are: data, code"):
        maturity.questions("taste")


# --- Proofs ---------------------------------------------------------------------------------------


def states(given: dict[str, Any], root: Path, records: object) -> dict[str, str]:
    scorecard = root / "scorecard.json"
    if records is not None:
        scorecard.write_text(json.dumps(records), encoding="utf-8")
    proofs = maturity.this_system(Questionnaire.model_validate(given), root, scorecard)
    assert (proofs["counts"] == proofs["state"].isin([THERE, MET])).all()
    return dict(zip(proofs["proof"], proofs["state"], strict=True))


def record(key: str, met: bool) -> dict[str, object]:
    return {"id": key, "met": met, "checkpoint": {"number": "1.1", "label": "x"}, "order": 0, "module": "1-predictive"}


def test_only_files_that_are_there_and_conditions_that_are_met_count(tmp_path: Path) -> None:
    given = content()
    given["questions"][0]["evidence"].update(files=["there.py", "gone.py", "folder"], checkpoints=["a.met", "a.missed"])
    given["questions"][1]["evidence"].update(files=[], checkpoints=["a.never"])
    (tmp_path / "there.py").touch()
    (tmp_path / "folder").mkdir()
    found = states(given, tmp_path, [record("a.met", True), record("a.missed", False), record("b.other", True)])
    assert found == {
        **{"there.py": THERE, "gone.py": MISSING, "folder": MISSING},
        **{"a.met": MET, "a.missed": MISSED, "a.never": NOT_RUN, "proof.txt": MISSING},
    }


def test_without_a_scorecard_nothing_was_run(tmp_path: Path) -> None:
    given = content()
    given["questions"][0]["evidence"].update(checkpoints=["a.met"])
    assert states(given, tmp_path, None)["a.met"] == NOT_RUN
    with pytest.raises(ScorecardError):
        states(given, tmp_path, {"no": "list"})


def test_every_proof_of_this_system_is_there() -> None:
    proofs = maturity.this_system()
    files = proofs[proofs["kind"] == "file"]
    assert list(files.loc[~files["counts"], "proof"]) == []
    assert set(proofs["question"]) == set(course().by_id())


def test_every_proof_goes_with_an_edition_of_the_course() -> None:
    """An edition in another language has the modules and the library, and not the tests."""
    folders = {name.split("/")[0] for one in course().questions for name in one.evidence.files}
    assert folders - {*MODULES, *REST} == set()


def test_every_checkpoint_that_is_named_stands_in_a_notebook() -> None:
    keys = maturity.checkpoint_keys()
    assert [key for one in course().questions for key in one.evidence.checkpoints if key not in keys] == []
    assert "data.completeness" in keys and "maturity.files_missing" in keys


def test_keys_are_found_in_code_only(tmp_path: Path) -> None:
    cells = [
        {
            "cell_type": "code",
            "source": ["checkpoint('1', 'x', [at_least(\n", '    "a.b", 1, 1, "x"), equals("c.d_e", 1)])'],
        },
        {"cell_type": "markdown", "source": ['at_most("no.key", 1)']},
    ]
    for folder in ("1-predictive/notebooks", "1-predictive/.ipynb_checkpoints", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.ipynb").write_text(json.dumps({"cells": cells}))
        cells = [{"cell_type": "code", "source": ['at_most("not.here", 1)']}]
    assert maturity.checkpoint_keys(tmp_path) == {"a.b", "c.d_e"}


def test_this_system_does_not_flatter_itself() -> None:
    """Nothing runs on a cluster and nobody uses it: no area is at the highest level, and each gap has its reason."""
    levels, measured = (
        maturity.assess(maturity.system_answers()),
        {one.id for one in course().questions if one.evidence.checkpoints},
    )
    assert levels["level"].max() < 3 and levels.loc["serving", "weakest"] == "platform"
    top = {name for name, level in maturity.system_answers().items() if level == 3}
    assert top <= measured and set(maturity.gaps().index) == set(maturity.system_answers()) - top
    assert (maturity.gaps()["missing"] != "").all()


# --- Showing --------------------------------------------------------------------------------------


def test_the_plot_has_a_mark_for_each_area_and_side() -> None:
    team, system = maturity.assess({}), maturity.assess(maturity.system_answers())
    figure = maturity.plot_maturity(team, system)
    axes = figure.axes[0]
    ours, theirs = (np.asarray(dots.get_offsets())[:, 0].tolist() for dots in axes.collections[1:])
    assert ours == [0] * len(team) and theirs == system["level"].tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(team.index)
    circle, diamond = (np.asarray(dots.get_paths()[0].vertices) for dots in axes.collections[1:])
    assert circle.shape != diamond.shape, "told apart by shape as well as by colour"
    plt.close(figure)
    with pytest.raises(MaturityError, match="other areas"):
        maturity.plot_maturity(team, system.iloc[1:])


def test_every_text_can_be_translated() -> None:
    known = catalogues.shown_texts()
    shown = maturity.questions().to_numpy().ravel().tolist() + maturity.gaps()["missing"].tolist()
    assert [text for text in shown if text not in known] == []
    assert "No answer." in known and "controlled" in known


# --- Exercises ------------------------------------------------------------------------------------


PRACTICES = dict(mlops_exercises._PRACTICES)


def renamed(**names: str) -> dict[str, str]:
    return {what: names.get(name, name) for what, name in PRACTICES.items()}


def test_the_right_answers_are_right() -> None:
    assert check("1.0.a", PRACTICES).correct
    for kind in (list, set, tuple, sorted):
        assert check("1.0.b", lambda team, kind=kind: kind(q for q in team if team[q] == min(team.values()))).correct


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (renamed(CI="CD", CD="CI"), "the other way round"),
        (renamed(CT="CD"), "without any change of the code"),
        (renamed(CT="CD", CD="CT"), "without any change of the code"),
        (renamed(monitoring="CT"), "changes no model"),
        (renamed(monitoring="CT", CT="monitoring"), "changes no model"),
        (renamed(CI="CT"), "Keep the four keys"),
        ("CI", "Keep the four keys"),
        (None, "Keep the four keys"),
    ],
)
def test_a_practice_by_another_name_gets_its_hint(answer: object, hint: str) -> None:
    feedback = check("1.0.a", answer)
    assert not feedback.correct and hint in feedback.hint


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda team: min(team, key=team.get), "only the first one"),
        (lambda team: [min(team, key=team.get)], "only the first one"),
        (lambda team: min(team.values()), "That is the level"),
        (lambda team: [q for q in team if team[q] < sum(team.values()) / len(team)], "below the mean"),
        (lambda team: [q for q in team if team[q] < 3], "min(answers.values())"),
        (lambda team: max(team, key=team.get), "min(answers.values())"),
        (lambda team: {q: level for q, level in team.items() if level == min(team.values())}, "min(answers.values())"),
        (lambda team: ..., "min(answers.values())"),
        (["data_quality"], "min(answers.values())"),
    ],
)
def test_what_holds_a_team_back_is_the_lowest_level(answer: object, hint: str) -> None:
    feedback = check("1.0.b", answer)
    assert not feedback.correct and hint in feedback.hint
