"""Prompt files: what is wrong with one is said with its name; what is right is rendered exactly."""

from pathlib import Path

import pytest

from workshop_lib.generative import comparison, prompts
from workshop_lib.generative.client import LLM
from workshop_lib.generative.facts import choose_products
from workshop_lib.generative.prompts import FOLDER, PromptError, load, read
from workshop_lib.settings import settings

OLIVES = {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.91"}
VALUES: dict[str, object] = {"facts": OLIVES, "bought": ["tea", "soup"], "category": "olives"}

MINIMAL = """\
name: market_summary.zero_shot
version: 1
purpose: market_summary
variant: zero_shot
description: A test.
variables: {topic: what it is about}
system: Be brief.
user: "Write about {{ topic }}."
sampling: {max_tokens: 20}
"""
FEW_SHOT = """\
examples:
  - variables: {topic: tea}
    answer: Tea sells.
"""


def write(folder: Path, text: str = MINIMAL, name: str = "market_summary.zero_shot.v1.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- The course's own ones ------------------------------------------------------------------------


def test_every_purpose_has_its_variants() -> None:
    found = {(prompt.purpose, prompt.variant) for prompt in prompts.load_all()}
    assert {variant for purpose, variant in found if purpose == "product_description"} == {
        "zero_shot", "few_shot", "step_by_step",
    }  # fmt: skip
    for purpose in ("recommendation", "customer_summary", "market_summary"):
        assert {(purpose, "zero_shot"), (purpose, "few_shot")} <= found


@pytest.mark.parametrize("prompt", prompts.load_all(), ids=lambda prompt: prompt.file)
def test_a_prompt_of_the_course_shows_every_value_it_is_given(prompt: prompts.Prompt) -> None:
    conversation = prompt.render(**{name: VALUES[name] for name in prompt.variables})
    roles = [message["role"] for message in conversation]
    assert roles == ["system", *["user", "assistant"] * len(prompt.examples), "user"]
    for fact in OLIVES.values():
        assert fact in conversation[-1]["content"]
    assert not [message for message in conversation if "{" in message["content"] or not message["content"]]
    assert prompt.name == f"{prompt.purpose}.{prompt.variant}"
    assert prompt.sampling["temperature"] == 0


def test_examples_are_no_products_that_the_notebook_writes_about() -> None:
    chosen = {product.facts["product"] for product in choose_products(36)}
    for prompt in prompts.load_all():
        for example in prompt.examples:
            shown = example.variables["facts"].get("product")
            assert shown is None or shown not in chosen


def test_step_by_step_asks_only_for_facts_that_there_are() -> None:
    prompt = load("product_description.step_by_step")
    question = prompt.render(facts={"product": "tea", "price": "$1.00"})[-1]["content"]
    assert "brand" not in question and "size" not in question and "say its price." in question
    assert "Second" not in prompt.render(facts={"product": "tea"})[-1]["content"]


def test_the_table_lists_every_version() -> None:
    table = prompts.as_table()
    assert len(table) == len(list(FOLDER.glob("*.yaml")))
    few_shot = table[table["name"] == "product_description.few_shot"]
    assert few_shot["version"].to_list() == [1, 2] and few_shot["examples"].to_list() == [1, 3]


# --- Loading --------------------------------------------------------------------------------------


def test_the_latest_version_is_the_default(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        write(
            tmp_path, MINIMAL.replace("version: 1", f"version: {version}"), f"market_summary.zero_shot.v{version}.yaml"
        )
    assert load("market_summary.zero_shot", folder=tmp_path).version == 10
    assert load("market_summary.zero_shot", 2, folder=tmp_path).version == 2
    with pytest.raises(PromptError, match=r"has no version 3; it has 2, 9, 10"):
        load("market_summary.zero_shot", 3, folder=tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(PromptError, match=r"no prompt nothing in .*: market_summary\.zero_shot\."):
        load("nothing", folder=tmp_path)
    with pytest.raises(PromptError, match="there are: none"):
        load("nothing", folder=tmp_path / "empty")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: 1", "version: one", "version: Input should be a valid integer"),
        ("version: 1\n", "", "version: Field required"),
        ("purpose: market_summary", "purpose: poem", "purpose: Input should be 'product_description'"),
        ("variant: zero_shot", "variant: magic", "variant: Input should be"),
        ("description: A test.", "descripton: A test.", "descripton: Extra inputs"),
        ("{max_tokens: 20}", "{max_tokens: 0}", "sampling.max_tokens: Input should be greater than 0"),
        ("{max_tokens: 20}", "{max_tokens: 20, temprature: 1}", "sampling.temprature: Extra inputs"),
        ("{max_tokens: 20}", "{max_tokens: 20, temperature: 3}", "sampling.temperature: Input should be less than"),
        ("{{ topic }}", "{{ topic }", "user, line 1: unexpected"),
        ("{{ topic }}", "{% if topic %}", "user, line 1: Unexpected end of template"),
        ("{{ topic }}", "{{ topic }} {{ place }}", "variable place is used but not declared"),
        ("Be brief.", "Be {{ tone }}.", "variable tone is used but not declared"),
        ("{topic: what it is about}", "{topic: a, place: b}", "variable place is declared but never used"),
        ("{topic: what it is about}", "{}", "variables: "),
        ("user:", "user: [", "is not YAML"),
        (
            "name: market_summary.zero_shot",
            "name: market_summary.other",
            "name and version say market_summary.other",
        ),
        ("version: 1", "version: 2", "name and version say market_summary.zero_shot.v2"),
        ("variant: zero_shot", "variant: few_shot", "examples: a few_shot prompt has some"),
        ("sampling:", FEW_SHOT + "sampling:", "examples: a few_shot prompt has some"),
        (MINIMAL, "", "has no fields"),
        (MINIMAL, "- a list", "has no fields"),
    ],
)
def test_a_bad_file_is_named_with_its_field(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in MINIMAL
    with pytest.raises(PromptError) as caught:
        read(write(tmp_path, MINIMAL.replace(old, new)))
    assert str(caught.value).startswith("market_summary.zero_shot.v1.yaml: ") and said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{topic: tea}", "{topik: tea}", "examples.1: variable topic is missing; variable topik is unknown"),
        ("answer: Tea sells.", "answer: ''", "examples.0.answer: "),
        ("answer: Tea sells.", "anser: Tea", "examples.0.answer: Field required"),
    ],
)
def test_a_bad_example_is_found_when_the_file_is_read(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = MINIMAL.replace("zero_shot", "few_shot") + FEW_SHOT.replace(old, new)
    with pytest.raises(PromptError) as caught:
        read(write(tmp_path, text, "market_summary.few_shot.v1.yaml"))
    assert said in str(caught.value)


def test_missing_unreadable_and_wrongly_named_files(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.v1\.yaml: cannot be read"):
        read(tmp_path / "gone.v1.yaml")
    (tmp_path / "bytes.v1.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(PromptError, match="is not YAML"):
        read(tmp_path / "bytes.v1.yaml")
    (tmp_path / "bytes.v1.yaml").unlink()
    write(tmp_path, name="market_summary.yml")
    with pytest.raises(PromptError, match=r"market_summary\.yml: a prompt's file is called"):
        prompts.load_all(tmp_path)


# --- Rendering ------------------------------------------------------------------------------------


def test_rendering_is_exact(tmp_path: Path) -> None:
    text = MINIMAL.replace("zero_shot", "few_shot") + FEW_SHOT
    prompt = read(write(tmp_path, text, "market_summary.few_shot.v1.yaml"))
    assert prompt.render(topic="soup") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write about tea."},
        {"role": "assistant", "content": "Tea sells."},
        {"role": "user", "content": "Write about soup."},
    ]
    assert prompt.sampling == {"max_tokens": 20, "temperature": 0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "variable topic is missing"),
        ({"topic": "tea", "topik": "soup"}, "variable topik is unknown"),
        ({"topik": "tea"}, "variable topic is missing; variable topik is unknown"),
    ],
)
def test_missing_and_unknown_variables_are_named(values: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        read(write(tmp_path)).render(**values)
    message = str(caught.value)
    assert said in message and "market_summary.zero_shot.v1.yaml" in message
    assert "topic (what it is about)" in message


def test_a_part_that_a_value_lacks_is_named(tmp_path: Path) -> None:
    prompt = read(write(tmp_path, MINIMAL.replace("{{ topic }}", "{{ topic.name }}")))
    with pytest.raises(PromptError, match=r"v1\.yaml: user: .*no attribute 'name'"):
        prompt.render(topic={})


@pytest.mark.parametrize("attack", ["{{ topic.__class__.__mro__ }}", "{{ topic.append(1) }}", "{{ ''.__class__ }}"])
def test_a_template_cannot_reach_into_python(attack: str, tmp_path: Path) -> None:
    prompt = read(write(tmp_path, MINIMAL.replace('"Write about {{ topic }}."', f'"{attack} {{{{ topic }}}}"')))
    topic = ["tea"]
    with pytest.raises(PromptError, match=r"v1\.yaml: user"):
        prompt.render(topic=topic)
    assert topic == ["tea"]


def test_a_value_is_text_and_never_a_template(tmp_path: Path) -> None:
    assert read(write(tmp_path)).render(topic="{{ 7 * 7 }}")[-1]["content"] == "Write about {{ 7 * 7 }}."


# --- With the real model --------------------------------------------------------------------------


def test_examples_beat_the_bare_task_on_real_products(llm: LLM) -> None:
    candidates = [load("product_description.zero_shot"), load("product_description.few_shot")]
    products = choose_products(36)[16:26]
    written = comparison.write_descriptions(llm, candidates, products)
    assert written["prompt"].to_list() == ["zero_shot v1"] * 10 + ["few_shot v2"] * 10
    assert written["product_id"].to_list() == [product.product_id for product in products] * 2
    assert written["completion_tokens"].between(1, 60).all()
    table = comparison.by_prompt(written)
    assert table.index[0] == "few_shot v2" and table.loc["few_shot v2", "score"] > 0.8
    assert comparison.gain(written, "few_shot v2", "zero_shot v1").low > settings.thresholds.prompt_gain


@pytest.mark.parametrize("purpose", ["recommendation", "customer_summary", "market_summary"])
def test_the_other_purposes_name_their_facts(purpose: str, llm: LLM) -> None:
    facts = {
        "recommendation": {"product": "sandwich cookies", "size": "18 ounces", "price": "$2.42"},
        "customer_summary": {
            "baskets": "63",
            "spend": "$2214",
            "last purchase": "12 days ago",
            "risk of leaving": "low",
        },
        "market_summary": {"sold last week": "733 units", "forecast": "698 units", "change": "down 5%"},
    }[purpose]
    prompt = load(f"{purpose}.few_shot")
    given = {"facts": facts, "bought": ["coffee"], "category": "bag snacks"}
    reply = llm.chat(prompt.render(**{name: given[name] for name in prompt.variables}), **prompt.sampling)
    assert all(fact.split()[0] in reply.text for fact in facts.values()), reply.text
