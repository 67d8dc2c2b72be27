"""Stealing a model by asking it: answers are collected through the API, and a model of one's own is fitted to them.

After Tramèr et al. (2016), "Stealing Machine Learning Models via Prediction APIs". The target is the churn model. The
*outsider* knows the names of the features from the API's documentation and guesses their ranges. The *insider* has
real rows of households, as a partner or a former employee may have. How good the copy is, is measured on households
that neither has asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import spearmanr
from xgboost import XGBRegressor

from workshop_lib.predictive import churn
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.input_guard import HEADER
from workshop_lib.settings import settings

GIVE_UP = 3
"""Refusals in a row after which an attacker stops asking."""
SUREST = 1e-4
"""No answer counts as surer than this: a forest, or a linear model far from what it has seen, says 0 and 1, which have
no logit."""
GUESSES: dict[str, tuple[float, float]] = {
    "recency_days": (1, 84), "recency_vs_gap": (0, 8), "recency_z": (-3, 8), "recency_vs_longest_gap": (0, 3),
    "visits": (1, 80), "visits_14": (0, 14), "visits_28": (0, 28), "visit_rate": (0, 1), "visit_trend": (0, 3),
    "gap_mean": (1, 84), "gap_std": (0, 40), "gap_max": (1, 84), "spend": (0, 3000), "spend_28": (0, 1000),
    "spend_trend": (0, 3), "basket_value": (1, 150), "basket_units": (1, 60), "discount_share": (0, 0.5),
    "categories": (1, 150), "departments": (1, 15), "categories_28": (0, 80), "categories_per_basket": (1, 30),
    "weekend_share": (0, 1), "evening_share": (0, 1), "tenure_days": (1, 112), "age": (18, 70), "income": (0, 250),
    "household_size": (1, 5), "demographics_known": (0, 1),
}  # fmt: skip
"""What somebody would guess who has read the names."""


@dataclass(frozen=True)
class Loot:
    """What an attack brought."""

    questions: np.ndarray
    """Features of the answered questions, shape (n, features)."""
    answers: np.ndarray
    """Probabilities, shape (n,)."""
    refused: int
    marked: float
    """Share of the answers whose input the guard marked."""


def guesses(count: int, seed: int = settings.seed) -> np.ndarray:
    """An outsider's questions: every feature anywhere in its range; shape (count, features)."""
    low, high = np.array([GUESSES[name] for name in churn.FEATURES]).T
    return np.random.default_rng(seed).uniform(low, high, (count, len(churn.FEATURES)))


def households(seed: int = settings.seed) -> tuple[np.ndarray, np.ndarray]:
    """Rows of real households: half of them for an insider, the other half to judge copies by; in random order."""
    table = churn.load_current().sample(frac=1, random_state=seed)
    rows = table[list(churn.FEATURES)].to_numpy()
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def steal(api: Api, questions: np.ndarray) -> Loot:
    """Ask the API one question after the other, until it refuses for good.

    Args:
        api: with the attacker's key.
        questions: features, shape (n, features).

    Raises:
        httpx.HTTPStatusError: for any refusal but 429.
    """
    answers, refused, marked, row = [], 0, 0, 0
    with httpx.Client(base_url=api.url, headers=api.headers, timeout=30) as client:
        while row < len(questions) and refused < GIVE_UP:
            body = {"features": dict(zip(churn.FEATURES, questions[row].tolist(), strict=True))}
            reply = client.post("/churn", json=body)
            if reply.status_code == 429:
                refused += 1
                continue
            answers.append(reply.raise_for_status().json()["probability"])
            marked, refused, row = marked + (HEADER in reply.headers), 0, row + 1
    return Loot(questions[:row], np.array(answers), refused, marked / max(row, 1))


def copies(loot: Loot, sizes: Sequence[int], rows: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """How faithful a copy is that was trained on the first answers.

    Args:
        loot: of an attack.
        sizes: numbers of answers; what exceeds the loot uses all of it.
        rows: households that were not asked about, shape (n, features).
        truth: the real model's probabilities for them.

    Returns:
        Per size ``answers`` (those that there were), ``agreement`` (share of the decisions "contact or not" that are
        the same) and ``order`` (rank correlation of the probabilities, after Spearman).
    """
    threshold, found = settings.churn_threshold, []
    for size in sizes:
        answers = min(size, len(loot.answers))
        copy = XGBRegressor(n_estimators=250, learning_rate=0.05, max_depth=3, subsample=0.7, colsample_bytree=0.4,
                            random_state=settings.seed, n_jobs=1)  # fmt: skip
        copy.fit(loot.questions[:answers], logit(loot.answers[:answers].clip(SUREST, 1 - SUREST)))
        stolen = expit(copy.predict(rows))
        found.append({
            "answers": answers, "agreement": np.mean((stolen >= threshold) == (truth >= threshold)),
            "order": spearmanr(stolen, truth)[0],
        })  # fmt: skip
    return pd.DataFrame(found, index=pd.Index(sizes, name="wanted"))
