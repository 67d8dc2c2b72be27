"""How often the router is right: labelled questions in two languages, half of them held out.

questions = load_questions()
decided = decide_all(questions[questions["split"] == "test"], models.chat, shop)
accuracy(decided, by="language"), confusion(decided, "rules, then model")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pandas as pd
import yaml
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from statsmodels.stats.proportion import proportion_confint

from workshop_lib.orchestration.router import make
from workshop_lib.orchestration.router_choice import NoChoice, choice
from workshop_lib.orchestration.router_rules import Chain, decide, possible, read
from workshop_lib.orchestration.shop import Shop
from workshop_lib.progress import track
from workshop_lib.settings import settings

QUESTIONS = Path(__file__).with_name("questions.yaml")
CHAINS: tuple[Chain, ...] = get_args(Chain)
WAYS = ("commonest", "model", "rules", "model, then rules", "rules, then model")
"""Ways to decide: always the commonest label; the language model alone; the rules alone; the model unless the words of
the question forbid its choice; the rules, and the model only where these are in doubt."""


def load_questions(path: Path = QUESTIONS) -> pd.DataFrame:
    """The labelled questions.

    Returns:
        One row per question: ``text``, ``language``, ``chain`` (the label), ``kind``, ``split`` (``tune`` or ``test``)
        and ``expect``, a dict of what the typed question must hold.
    """
    table = pd.DataFrame(yaml.safe_load(path.read_text(encoding="utf-8")))
    table["expect"] = [found if isinstance(found, dict) else {} for found in table["expect"]]
    return table


def decide_all(questions: pd.DataFrame, chat: ChatOpenAI | None, shop: Shop) -> pd.DataFrame:
    """What each of :data:`WAYS` makes of each question.

    Args:
        questions: from :func:`load_questions`.
        chat: the language model; without one only the rules decide.
        shop: what questions may name.

    Returns:
        The questions with one more column per way. Where the model gives no choice, its column is empty.
    """
    readings = [read(text, shop) for text in questions["text"]]
    verdicts = [decide(reading) for reading in readings]
    commonest = questions["chain"].mode().iloc[0]
    decided = questions.assign(commonest=commonest, rules=[verdict.chain for verdict in verdicts])
    if chat is None:
        return decided
    model = ask_model([reading.text for reading in readings], chat)
    decided["model"] = model
    decided["model, then rules"] = [
        chosen if chosen in possible(reading) else verdict.chain
        for chosen, reading, verdict in zip(model, readings, verdicts, strict=True)
    ]
    decided["rules, then model"] = [
        chosen if chosen == verdict.doubt else verdict.chain for chosen, verdict in zip(model, verdicts, strict=True)
    ]
    return decided


def ask_model(texts: Iterable[str], chat: ChatOpenAI) -> list[Chain | None]:
    """The language model's choice for each text, in their order; None where it gave none."""
    texts = list(texts)
    choices: list[Chain | None] = [None] * len(texts)
    config: RunnableConfig = {"max_concurrency": settings.chain_concurrency}
    done = choice(chat).batch_as_completed(texts, config=config, return_exceptions=True)
    for place, chosen in track(done, "choices", total=len(texts)):
        if isinstance(chosen, Exception) and not isinstance(chosen, NoChoice):
            raise chosen
        choices[place] = None if isinstance(chosen, NoChoice) else chosen
    return choices


def accuracy(decided: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Share of the questions whose chain is the label: one row per way, one column per value of ``by`` and ``all``."""
    ways = [way for way in WAYS if way in decided]
    right = decided[ways].eq(decided["chain"], axis=0)
    table = right.mean().to_frame("all")
    if by:
        table = right.groupby(decided[by]).mean().T.join(table)
    return table


def confusion(decided: pd.DataFrame, way: str) -> pd.DataFrame:
    """Number of questions by label (rows) and by what one way made of them (columns)."""
    table = pd.crosstab(decided["chain"], decided[way].fillna("no choice"))
    return table.reindex(index=list(CHAINS), fill_value=0).reindex(
        columns=[*CHAINS, *(name for name in table if name not in CHAINS)], fill_value=0
    )


def typed_right(questions: pd.DataFrame, shop: Shop) -> pd.Series:
    """For each question with an expectation, whether the typed question that the rules make holds what it should.

    A question that the rules send elsewhere counts as wrong. The index is that of ``questions``.
    """
    expected = questions.loc[questions["expect"].map(bool), ["text", "expect"]]
    right = {}
    for place, text, expect in expected.itertuples():
        reading = read(text, shop)
        question = make(decide(reading), reading, shop).question
        right[place] = question is not None and expect.items() <= question.model_dump().items()
    return pd.Series(right, dtype=bool)


def interval(right: int, asked: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share: how far a figure from so few questions can be trusted."""
    low, high = proportion_confint(right, asked, method="wilson")
    return float(low), float(high)
