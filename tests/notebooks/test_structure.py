"""What every notebook, README and room of the library looks like, read from the files without running anything."""

import ast
import re
import statistics
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tests.syntax import broad_excepts
from workshop_lib.exercises import check, unsolved
from workshop_lib.notebooks import find_notebooks
from workshop_lib.settings import MODULES, ROOT

NOTEBOOKS = find_notebooks()
EXPECTED = {
    "1-predictive": {
        *("00_what_is_mlops", "01_data_exploration", "02_feature_engineering", "03_train_forecaster"),
        *("04_churn_with_mlflow", "05_export_onnx"),
    },
    "2-generative": {
        *("01_resource_planning", "02_api_testing", "03_prompt_optimization", "04_performance_benchmark"),
    },
    "3-serving": {
        *("01_openvino_for_forests", "02_serve_forecaster", "03_business_api"),
        *("04_load_test", "05_release_strategies"),
    },
    "4-langchain": {
        *("01_model_wrappers", "02_product_analysis", "03_customer_insight"),
        *("04_market_analysis", "05_dashboard", "06_end_to_end"),
    },
    "5-monitoring-optimization": {
        *("custom_metrics", "drift_and_retraining", "alerts_that_fire", "health_and_slo"),
        *("model_quantization", "caching_strategy", "autoscaling_simulation"),
    },
    "6-advanced-mlops": {
        *("model_versioning", "quality_gates", "ab_testing", "cicd_pipeline"),
        *("security", "model_governance", "business_impact"),
    },
}
"""The notebooks that each finished module has; a module that is finished joins here."""

LONGEST_CELL, MEDIAN_CELL = 25, 8
EXERCISE = re.compile(r'^check\("(\d+\.\w+\.[a-z])", .+\)$')
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=str)


@cache
def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / path, as_version=4)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path: Path, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if tag in tags(cell)]


def markdown(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def texts(cell: nbformat.NotebookNode) -> Iterator[str]:
    """All that a cell's stored outputs say in words; pictures are left out."""
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(content)


def parsed(cell: nbformat.NotebookNode) -> ast.Module:
    """A code cell's syntax tree; `%` and `!` lines become calls."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def test_every_finished_module_has_its_notebooks() -> None:
    found = {module: {path.stem for path in NOTEBOOKS if path.parts[0] == module} for module in EXPECTED}
    assert found == EXPECTED
    assert {path.parts[0] for path in NOTEBOOKS} == EXPECTED.keys(), "EXPECTED does not name every module that is here"


# --- The parts of a notebook ----------------------------------------------------------------------


@each_notebook
def test_it_is_a_valid_notebook_for_the_course_kernel(path: Path) -> None:
    nbformat.validate(read(path))
    assert read(path).metadata["kernelspec"]["name"] == "python3"


@each_notebook
def test_it_opens_with_title_minutes_needs_and_place(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source)
    assert re.search(r"^\*\*Minutes\*\* \d+ · \*\*Needs\*\* .+ · \*\*Runs on\*\* .+", first.source, re.M)


MINUTES = re.compile(r"^\*\*Minutes\*\* (\d+)", re.M)


@pytest.mark.parametrize("module", EXPECTED)
def test_readmes_and_notebooks_give_the_same_minutes(module: str) -> None:
    page, front = (Path(path).read_text(encoding="utf-8") for path in (ROOT / module / "README.md", ROOT / "README.md"))
    stated = {name: int(minutes) for name, minutes in re.findall(r"\(\w+/(\w+)\.ipynb\) \| (\d+) \|", page)}
    own = {path.stem: MINUTES.search(markdown(path)) for path in NOTEBOOKS if path.parts[0] == module}
    assert stated == {name: int(found[1]) for name, found in own.items() if found}
    total = sum(stated.values())
    assert f"**Duration** {total} minutes" in page
    assert re.search(rf"^\| \[{module}\].* \| {total} \|$", front, re.M)
    whole_course = sum(int(minutes) for minutes in re.findall(r"^\| \[.* \| (\d+) \|$", front, re.M))
    assert f"with every exercise: {whole_course} in all" in front


@each_notebook
def test_parameters_come_before_all_other_code(path: Path) -> None:
    cells = code_cells(path)
    assert [index for index, cell in enumerate(cells) if "parameters" in tags(cell)] == [0]
    for statement in parsed(cells[0]).body:  # one name each, or papermill does not know it
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        assert [type(target) for target in targets] == [ast.Name], ast.unparse(statement)


@each_notebook
def test_it_uses_the_library(path: Path) -> None:
    assert any(re.search(r"^(from|import) workshop_lib", cell.source, re.M) for cell in code_cells(path))


@each_notebook
def test_exercises_are_followed_by_their_solutions(path: Path) -> None:
    cells = code_cells(path)
    exercises = [index for index, cell in enumerate(cells) if "exercise" in tags(cell)]
    assert 1 <= len(exercises) <= 3
    assert len(tagged(path, "solution")) == len(exercises)
    numbers = []
    for exercise, solution in ((cells[index], cells[index + 1]) for index in exercises):
        checks = [EXERCISE.match(cell.source.rstrip().splitlines()[-1]) for cell in (exercise, solution)]
        assert checks[0] and checks[1], "an exercise and its solution end in check(...)"
        number = checks[0][1]
        assert checks[1][1] == number
        assert "solution" in tags(solution) and solution.metadata.get("jupyter", {}).get("source_hidden") is True
        unanswered = check(number, ...)
        assert not unanswered.correct, "it comes solved"
        assert repr(unanswered) in "".join(texts(exercise)), "the stored hint is not the one for an open exercise"
        assert exercise.source == unsolved(solution.source), "the exercise is not what is made from its solution"
        assert f"Exercise {number}: correct" in "".join(texts(solution))
        numbers.append(number)
    assert {number.split(".")[0] for number in numbers} == {path.parts[0][0]}
    assert [number.split(".")[2] for number in numbers] == list("abc"[: len(numbers)])
    others = [other for other in NOTEBOOKS if other.parts[0] == path.parts[0]]
    place = others.index(path) + (0 if others[0].stem.startswith("00_") else 1)  # an opening chapter has the number 0
    assert {number.split(".")[1] for number in numbers} == {str(place)}


@each_notebook
def test_it_has_a_section_on_openshift_ai(path: Path) -> None:
    assert "## On OpenShift AI" in markdown(path).splitlines()


@each_notebook
def test_it_reaches_a_checkpoint(path: Path) -> None:
    cells = [cell for cell in code_cells(path) if re.search(r"^(\w+ = )?checkpoint\(", cell.source, re.M)]
    assert cells
    for cell in cells:
        assert re.search(rf"^Checkpoint {path.parts[0][0]}\.\w+ .+\n  ", "\n".join(texts(cell)), re.M)
        assert "nbval-ignore-output" not in tags(cell)


@each_notebook
def test_it_ends_with_the_next_step(path: Path) -> None:
    last = read(path).cells[-1]
    assert last.cell_type == "markdown"
    assert re.match(r"## Next\n(.|\n)*\]\((?!http)", last.source), "the last cell links to what comes next"


@each_notebook
def test_headings_are_in_order(path: Path) -> None:
    levels = [len(match[0]) for match in re.finditer(r"^#+(?= )", without_code(markdown(path)), re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []


# --- Its code -------------------------------------------------------------------------------------


@each_notebook
def test_cells_are_short(path: Path) -> None:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert max(lengths) <= LONGEST_CELL
    assert statistics.median(lengths) <= MEDIAN_CELL


@each_notebook
def test_code_shows_data_rather_than_printing_sentences(path: Path) -> None:
    assert [sentence for cell in code_cells(path) for sentence in printed_sentences(parsed(cell))] == []


def printed_sentences(tree: ast.Module) -> list[str]:
    return [
        ast.unparse(call)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
        for text in call.args
        if isinstance(text, ast.JoinedStr) or (isinstance(text, ast.Constant) and " " in str(text.value).strip())
    ]


@each_notebook
def test_nothing_is_silenced_or_swallowed(path: Path) -> None:
    for cell in code_cells(path):
        assert not re.search(r"(filterwarnings|simplefilter)\(\s*[\"']ignore|%%?capture", cell.source)
        assert broad_excepts(parsed(cell)) == []


# --- Its stored outputs ---------------------------------------------------------------------------


@each_notebook
def test_it_was_executed_from_top_to_bottom(path: Path) -> None:
    assert [cell.execution_count for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))


@each_notebook
def test_stored_outputs_are_results_only(path: Path) -> None:
    machine = re.compile(rf"(?<![\w.])/(work|root|home|tmp|var|opt|Users)/|{re.escape(str(ROOT))}")
    for cell in code_cells(path):
        kinds = {(output.output_type, output.get("name", "")) for output in cell.outputs}
        assert kinds <= {("execute_result", ""), ("display_data", ""), ("stream", "stdout")}, cell.source
        bars = [output for output in cell.outputs if any("widget" in kind for kind in output.get("data", {}))]
        assert bars == [], "a progress bar or another widget, which is nothing without its kernel"
        for text in texts(cell):
            assert not machine.search(text), f"a path of one machine: {text[:300]}"
            shown = re.sub(r"<style>.*?</style>", "", text, flags=re.S)  # a style sheet for code colours tracebacks too
            assert not re.search(r"\b(\w*Warning|WARNING|Traceback)\b", shown), shown[:300]
            assert "\x1b[" not in text and not re.search(r"\bat 0x[0-9a-f]{6,}", text), text[:300]


@each_notebook
def test_ignored_outputs_are_the_exception(path: Path) -> None:
    assert len(tagged(path, "nbval-ignore-output")) <= len(code_cells(path)) / 4
    assert tagged(path, "nbval-skip") == [] and tagged(path, "raises-exception") == []


# --- Links and names, in notebooks and READMEs ----------------------------------------------------


READMES = [path.relative_to(ROOT) for folder in ("", *MODULES) for path in sorted((ROOT / folder).glob("README.md"))]
DOCUMENTS = [*READMES, *NOTEBOOKS]
# What a README describes and the checkout does not hold: a learner's own files, and what is made on the way.
NOT_OURS = re.compile(r"(transactions|products|households|promotions)\.(csv|parquet)|\.env|\.venv.*|(\./)?generated/.*")
SUFFIXES = (
    *(".py", ".ipynb", ".md", ".yaml", ".yml", ".toml", ".lock", ".txt", ".cfg", ".sh", ".json"),
    *(".csv", ".parquet", ".png", ".svg", ".onnx"),
)


def text_of(document: Path) -> str:
    return markdown(document) if document.suffix == ".ipynb" else (ROOT / document).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^(`{3,}|~{3,}).*?^\1\s*$", "", text, flags=re.M | re.S)


LINK = re.compile(
    r"""\]\( (?: <(?P<spaced>[^>\n]+)> | (?P<plain>[^)\s]+) ) (?: \s+ "[^"]*" )? \)  # [text](target "title")
      | (?: src | href )="(?P<html>[^"]+)" """,
    re.VERBOSE,
)


def links(text: str) -> list[str]:
    """Targets of links and images in Markdown and HTML, web addresses left out."""
    prose = re.sub(r"`[^`\n]+`", "", without_code(text))
    found = [unquote(str(match[match.lastgroup or 0])) for match in LINK.finditer(prose)]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Addresses of a document's headings, as GitHub and JupyterLab make them, in lower case."""
    titles = re.findall(r"^#+ +(.+?)\s*$", without_code(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(document: Path) -> list[str]:
    return [link for link in links(text_of(document)) if not resolves(link, document)]


def resolves(link: str, document: Path) -> bool:
    name, _, anchor = link.partition("#")
    target = ((ROOT / document).parent / name).resolve() if name else ROOT / document
    if name.startswith("/") or not target.exists() or not target.is_relative_to(ROOT):
        return False
    has_headings = target.suffix in (".md", ".ipynb")
    return not (anchor and has_headings) or anchor.lower() in anchors(text_of(target.relative_to(ROOT)))


def missing_files(readme: Path) -> list[str]:
    """What stands in backticks, looks like a file of the course and does not exist."""
    missing = []
    for code in re.findall(r"`([^`\n]+)`", without_code(text_of(readme))):
        words = code.split()
        name = words[0] if words and words[0].startswith("./") else code
        if not re.fullmatch(r"[\w.-]+(/[\w.-]*)*", name) or NOT_OURS.fullmatch(name):
            continue
        ours = (ROOT / name.split("/")[0]).exists() or name.endswith("/") or name.startswith("./")
        if not (name.endswith(SUFFIXES) or ("/" in name and ours)):
            continue
        if not any((base / name).exists() for base in (ROOT, (ROOT / readme).parent)):
            missing.append(name)
    return missing


def test_the_course_and_every_module_with_notebooks_have_a_readme() -> None:
    wanted = {Path("README.md")} | {Path(path.parts[0]) / "README.md" for path in NOTEBOOKS}
    assert wanted - set(READMES) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_resolves(document: Path) -> None:
    assert broken_links(document) == []


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_every_file_that_a_readme_names_exists(readme: Path) -> None:
    assert missing_files(readme) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_pictures_are_described_for_those_who_do_not_see_them(document: Path) -> None:
    text = without_code(text_of(document))
    assert re.findall(r"!\[\s*\]\([^)]*\)", text) == []
    assert [tag for tag in re.findall(r"<img[^>]*>", text) if not re.search(r"alt=\"[^\"]+\"", tag)] == []


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_headings_of_a_readme_are_in_order(readme: Path) -> None:
    levels = [len(match[0]) for match in re.finditer(r"^#+(?= )", without_code(text_of(readme)), re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []


# --- The rules above see what they are meant to see -----------------------------------------------


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (printed_sentences, "print('all is well')", "print('ok', table)"),
        (printed_sentences, "if x:\n    print(f'{a}')", "print(table)"),
        (broad_excepts, "try:\n    f()\nexcept Exception:\n    pass", "try:\n    f()\nexcept ValueError:\n    pass"),
        (broad_excepts, "try:\n    f()\nexcept:\n    pass", "try:\n    f()\nexcept Exception:\n    raise"),
    ],
)
def test_the_rules_for_code_tell_bad_from_good(rule: Callable[[ast.Module], list[object]], bad: str, good: str) -> None:
    assert rule(ast.parse(bad)) and not rule(ast.parse(good))


def test_the_rules_for_documents_tell_bad_from_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "workshop").touch()
    (tmp_path / "other.md").write_text("# One\n\n## Two (and a half)\n")
    (tmp_path / "README.md").write_text(
        "# T\n[a](other.md#two-and-a-half) [b](<a folder>) [c](https://x.example/y) [d](#t) [e](missing.md)\n"
        '[f](other.md#three) ![g](no.png) [h](/srv/x) <img src="gone.png"> [i](../..)\n```\n[j](nothing)\n```\n'
        "`[k](x)` `other.md` `./workshop run` `./nothing run` `nowhere/x.py` `generated/x.csv` `.env` `a/b`\n"
        "`America/New_York` `transactions.csv` `pip install x` `lost/` `models:/x@champion` `WORKSHOP_HOME`\n"
    )
    readme = Path("README.md")
    assert broken_links(readme) == ["missing.md", "other.md#three", "no.png", "/srv/x", "gone.png", "../.."]
    assert missing_files(readme) == ["./nothing", "nowhere/x.py", "lost/"]


def unknown_names(trees: list[ast.Module]) -> list[str]:
    """What cells ask of modules of the library that have no such name: mypy does not read notebooks."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules: dict[str, ModuleType] = {}
    missing = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workshop_lib"):
            home = import_module(node.module or "")
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = import_module(inner) if find_spec_in(home, inner) else getattr(home, alias.name, None)
                if found is None:
                    missing.append(inner)
                elif isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    asked = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    for node in asked:
        name = node.value.id  # type: ignore[attr-defined]
        if name in modules and name not in stored and not hasattr(modules[name], node.attr):
            missing.append(f"{name}.{node.attr}")
    return missing


def find_spec_in(home: ModuleType, name: str) -> bool:
    """Whether a package has a module of this name."""
    return hasattr(home, "__path__") and find_spec(name) is not None


@each_notebook
def test_what_a_cell_asks_of_the_library_is_there(path: Path) -> None:
    assert unknown_names([parsed(cell) for cell in code_cells(path)]) == []


def test_an_unknown_name_is_found() -> None:
    cells = [
        "from workshop_lib import ports, processes as p",
        "ports.free_port(); p.free_port()",
        "from workshop_lib.ports import no",
    ]
    assert unknown_names([ast.parse(cell) for cell in cells]) == ["workshop_lib.ports.no", "p.free_port"]


@each_notebook
def test_plots_are_described_for_those_who_do_not_see_them(path: Path) -> None:
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert [picture for picture in pictures if not picture.metadata.get("image/png", {}).get("alt")] == []
