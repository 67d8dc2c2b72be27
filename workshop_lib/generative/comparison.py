"""Prompts against each other: the same products, the same measure, the difference per product."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workshop_lib.generative.client import LLM
from workshop_lib.generative.facts import ProductFacts
from workshop_lib.generative.prompts import Prompt
from workshop_lib.generative.quality import measure
from workshop_lib.progress import track
from workshop_lib.settings import settings

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Gain:
    """How much better one prompt is than another on the same products."""

    mean: float
    """Mean difference of the scores."""
    low: float
    """Lower end of the 95% interval of that mean."""
    high: float
    better: int
    """Products on which it scores higher; the rest up to ``products`` are ties and losses."""
    worse: int
    products: int


def label(prompt: Prompt) -> str:
    """A prompt's variant and version, such as ``few_shot v2``: short enough for a table of one purpose."""
    return f"{prompt.variant} v{prompt.version}"


def write_descriptions(
    llm: LLM, prompts: Sequence[Prompt], products: Sequence[ProductFacts], streams: int | None = None
) -> pd.DataFrame:
    """Let the model write about every product with every prompt, and measure each text.

    Args:
        llm: the model.
        prompts: of the purpose ``product_description``; each brings its own sampling parameters.
        products: what to write about.
        streams: requests at once; the default is as many as the local server works on. A server that computes
            several requests together adds numbers in another order, so that a text may differ from run to run
            even at temperature 0; one request at a time repeats itself.

    Returns:
        A row per prompt and product, in that order: ``prompt`` (see :func:`label`), ``product_id``, ``product``,
        ``text``, the columns of :meth:`Quality.summary`, ``missing``, ``invented`` (texts, joined by semicolons),
        ``completion_tokens``, ``finish_reason`` and ``seconds`` (of the single request).

    Raises:
        LLMError: when the model gives no answer.
        PromptError: when a prompt needs something other than ``facts``.
    """
    # Product by product, so that long and short answers of different prompts share the server evenly.
    tasks = [(prompt, product) for product in products for prompt in prompts]
    conversations = [prompt.render(facts=product.facts) for prompt, product in tasks]
    with ThreadPoolExecutor(streams or settings.llm_sequences) as pool:
        futures = [
            pool.submit(llm.chat, conversation, **prompt.sampling)
            for conversation, (prompt, _) in zip(conversations, tasks, strict=True)
        ]
        try:
            replies = [future.result() for future in track(futures, "Descriptions")]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows = []
    for (prompt, product), reply in zip(tasks, replies, strict=True):
        quality = measure(reply.text, product.facts)
        rows.append(
            {
                "prompt": label(prompt),
                "product_id": product.product_id,
                "product": product.facts["product"],
                "text": reply.text,
                **quality.summary(),
                "missing": "; ".join(quality.missing),
                "invented": "; ".join(quality.invented_numbers + quality.invented_claims),
                "completion_tokens": reply.completion_tokens,
                "finish_reason": reply.finish_reason,
                "seconds": reply.seconds,
            }
        )
    order = {label(prompt): place for place, prompt in enumerate(prompts)}
    return pd.DataFrame(rows).sort_values(
        "prompt", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )


def by_prompt(written: pd.DataFrame) -> pd.DataFrame:
    """Means per prompt, best score first.

    Args:
        written: what :func:`write_descriptions` returned.

    Returns:
        Indexed by prompt: ``score``, its ``lowest`` value, the parts, ``inventions``, ``words`` and
        ``completion_tokens`` per text.
    """
    parts = ["facts", "truth", "prose", "length", "variety", "readability", "inventions", "words", "completion_tokens"]
    groups = written.groupby("prompt", sort=False)
    table = groups[["score", *parts]].mean()
    table.insert(1, "lowest", groups["score"].min())
    return table.sort_values("score", ascending=False)


def gain(written: pd.DataFrame, better: str, base: str) -> Gain:
    """How much one prompt gains over another, with an interval.

    Both wrote about the same products, so what counts is the difference per product. The interval is the percentile
    bootstrap (Efron & Tibshirani 1993, section 13): products are drawn with replacement again and again, and 95% of
    the mean differences lie in it.

    Args:
        written: what :func:`write_descriptions` returned.
        better: label of the prompt that is expected to win.
        base: label of the one it is compared with.

    Raises:
        KeyError: when a prompt is not among the results.
        ValueError: when the two did not write about the same products.
    """
    scores = written.pivot(index="product_id", columns="prompt", values="score")
    differences = (scores[better] - scores[base]).to_numpy()
    if np.isnan(differences).any():
        raise ValueError(f"{better} and {base} did not write about the same products.")
    draws = np.random.default_rng(settings.seed).choice(differences, (_RESAMPLES, len(differences)))
    low, high = np.quantile(draws.mean(axis=1), [0.025, 0.975])
    return Gain(
        mean=float(differences.mean()),
        low=float(low),
        high=float(high),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        products=len(differences),
    )
