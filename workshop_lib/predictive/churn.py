"""Which households are about to leave: the question, the features, the models and what they are worth.

A household *lapses* when it has no basket in the 28 days from a cutoff on, although it had one in the
84 days before. The table has a row per cutoff and active household; all features come from before the
cutoff. Cutoffs lie 28 days apart, so that the outcome of one is known when the next one comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import joblib
import numpy as np
import pandas as pd

from workshop_lib import data
from workshop_lib.parallel import parallel_backend
from workshop_lib.settings import settings

WINDOW_DAYS = 84
HORIZON_DAYS = 28
EXPERIMENT = "household-churn"

FEATURES = (
    "recency_days", "recency_vs_gap", "recency_z", "recency_vs_longest_gap",
    "visits", "visits_14", "visits_28", "visit_rate", "visit_trend",
    "gap_mean", "gap_std", "gap_max",
    "spend", "spend_28", "spend_trend", "basket_value", "basket_units", "discount_share",
    "categories", "departments", "categories_28", "categories_per_basket",
    "weekend_share", "evening_share", "tenure_days",
    "age", "income", "household_size", "demographics_known",
)  # fmt: skip
"""Feature names in the order in which models take them."""

RFM = ("recency_days", "visits", "spend")
"""Recency, frequency, money: the three numbers that marketing has scored customers by for decades."""

KEYS = ("cutoff", "household_id")
_DEMOGRAPHICS = ("age", "income", "household_size")
TENURE_CAP = 112
"""Days since the first visit count up to here: later cutoffs would otherwise show values never trained on."""


def choose_cutoffs(first_day: pd.Timestamp, last_day: pd.Timestamp, count: int) -> list[pd.Timestamp]:
    """The last ``count`` cutoffs whose window and horizon both lie in the data, oldest first.

    Raises:
        ValueError: for fewer than four cutoffs, or more than the data has room for.
    """
    newest = pd.Timestamp(last_day) + pd.Timedelta(days=1 - HORIZON_DAYS)
    room = ((newest - pd.Timestamp(first_day)).days - WINDOW_DAYS) // HORIZON_DAYS + 1
    if not 4 <= count <= room:
        raise ValueError(f"{count} cutoffs asked for; the data has room for 4 to {room}.")
    return [newest - pd.Timedelta(days=HORIZON_DAYS * back) for back in reversed(range(count))]


def load_table(cutoffs: int = 9) -> pd.DataFrame:
    """The churn table of the shop's data; see :func:`build_table`."""
    lines = data.load("transactions")
    days = choose_cutoffs(lines["date"].min(), lines["date"].max(), cutoffs)
    return build_table(lines, data.load("households"), days)


def load_current() -> pd.DataFrame:
    """Features of the households that are active now, on the day after the data ends; no outcome yet."""
    lines = data.load("transactions")
    today = lines["date"].max() + pd.Timedelta(days=1)
    return build_table(lines, data.load("households"), [today]).drop(columns="lapsed")


def build_table(lines: pd.DataFrame, households: pd.DataFrame, cutoffs: Sequence[pd.Timestamp]) -> pd.DataFrame:
    """A row per cutoff and household that was active in the 84 days before it.

    Args:
        lines: sales lines, the table ``transactions``.
        households: the table ``households``; only age, income and size are used, because its counts
            and sums cover the whole year and would give the future away.
        cutoffs: days at whose beginning the features are known and the outcome is not.

    Returns:
        ``cutoff``, ``household_id``, :data:`FEATURES` (float64 whose values fit float32, never
        missing) and ``lapsed`` (1 when no basket follows within 28 days), ordered by the first two.
    """
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")
        db.register("lines", lines)
        db.register("given", pd.DataFrame({"cutoff": pd.to_datetime(list(cutoffs))}))
        db.register("people", _demographics(households))
        table = _features(db.sql(_COUNTS).df())
    table["cutoff"] = table["cutoff"].astype("datetime64[ns]")
    # ONNX computes in float32. MLflow's signatures, though, refuse to narrow float64: hence both casts.
    table[list(FEATURES)] = table[list(FEATURES)].astype("float32").astype("float64")
    return table[[*KEYS, *FEATURES, "lapsed"]]


# Whole numbers and rounded sums only: parallel sums differ in their last digits from run to run.
_COUNTS = f"""
WITH cutoffs AS (SELECT CAST(cutoff AS DATE) AS cutoff FROM given),
baskets AS (
    SELECT household_id, basket_id, min(CAST(date AS DATE)) AS day, min(hour(local_time)) >= 17 AS evening,
           count(DISTINCT category) AS kinds, sum(units) AS units, sum(revenue) AS revenue, sum(discount) AS discount
    FROM lines GROUP BY ALL
),
in_window AS (
    SELECT cutoff, cutoff - day AS age, baskets.*
    FROM cutoffs JOIN baskets ON day < cutoff AND day >= cutoff - {WINDOW_DAYS}
),
totals AS (
    SELECT cutoff, household_id, min(age) AS recency_days, count(*) AS baskets, count(DISTINCT day) AS visits,
           count(DISTINCT day) FILTER (age <= 14) AS visits_14, count(DISTINCT day) FILTER (age <= 28) AS visits_28,
           round(sum(revenue), 2) AS spend, round(sum(revenue) FILTER (age <= 28), 2) AS spend_28,
           round(sum(units), 2) AS units, round(sum(discount), 2) AS discount, sum(kinds) AS kinds,
           count(*) FILTER (dayofweek(day) IN (0, 6)) AS weekend_baskets, count(*) FILTER (evening) AS evening_baskets
    FROM in_window GROUP BY cutoff, household_id
),
history AS (
    SELECT cutoff, household_id, day, lag(day) OVER (PARTITION BY cutoff, household_id ORDER BY day) AS previous
    FROM (SELECT DISTINCT household_id, day FROM baskets) JOIN cutoffs ON day < cutoff
),
gaps AS (
    SELECT cutoff, household_id, count(*) AS days_ever, cutoff - min(day) AS tenure, max(gap) AS longest_gap,
           count(*) FILTER (recent) AS gaps, sum(gap) FILTER (recent) AS gap_sum,
           sum(gap * gap) FILTER (recent) AS gap_squares, max(gap) FILTER (recent) AS gap_max
    FROM (SELECT *, day - previous AS gap, previous >= cutoff - {WINDOW_DAYS} AS recent FROM history)
    GROUP BY cutoff, household_id
),
variety AS (
    SELECT cutoff, household_id, count(DISTINCT category) AS categories, count(DISTINCT department) AS departments,
           count(DISTINCT category) FILTER (day >= cutoff - 28) AS categories_28
    FROM (SELECT DISTINCT household_id, CAST(date AS DATE) AS day, category, department FROM lines)
    JOIN cutoffs ON day < cutoff AND day >= cutoff - {WINDOW_DAYS} GROUP BY cutoff, household_id
),
returned AS (
    SELECT DISTINCT cutoff, household_id, 1 AS back
    FROM cutoffs JOIN baskets ON day >= cutoff AND day < cutoff + {HORIZON_DAYS}
)
SELECT *, 1 - coalesce(back, 0) AS lapsed
FROM totals JOIN gaps USING (cutoff, household_id) JOIN variety USING (cutoff, household_id)
LEFT JOIN returned USING (cutoff, household_id) LEFT JOIN people USING (household_id)
ORDER BY cutoff, household_id
"""


def _features(counts: pd.DataFrame) -> pd.DataFrame:
    """Ratios and trends from the counts of the window."""
    c = counts.fillna({"spend_28": 0, "gaps": 0})
    # One visit shows no gap: its next one is taken to be a whole window away.
    mean = (c["gap_sum"] / c["gaps"].where(c["gaps"] > 0)).fillna(WINDOW_DAYS)
    variance = (c["gap_squares"] - c["gaps"] * mean**2) / (c["gaps"] - 1).where(c["gaps"] > 1)
    # Two visits show one gap and no spread: half the gap, as for a household neither strict nor erratic.
    std = np.sqrt(variance.clip(lower=0)).fillna(mean / 2)
    known = c[list(_DEMOGRAPHICS)].notna().any(axis=1)
    return c.assign(
        recency_vs_gap=c["recency_days"] / mean,
        recency_z=(c["recency_days"] - mean) / (std + 1),
        recency_vs_longest_gap=c["recency_days"] / c["longest_gap"].fillna(WINDOW_DAYS),
        visit_rate=c["days_ever"] / c["tenure"],
        # The last 28 of 84 days against a third of the window; ones keep small numbers from exploding.
        visit_trend=(c["visits_28"] + 1) / (c["visits"] / 3 + 1),
        spend_trend=(c["spend_28"] + 1) / (c["spend"] / 3 + 1),
        gap_mean=mean,
        gap_std=std,
        gap_max=c["gap_max"].fillna(WINDOW_DAYS),
        basket_value=c["spend"] / c["baskets"],
        basket_units=c["units"] / c["baskets"],
        discount_share=c["discount"] / (c["spend"] + c["discount"]).clip(lower=0.01),
        categories_per_basket=c["kinds"] / c["baskets"],
        weekend_share=c["weekend_baskets"] / c["baskets"],
        evening_share=c["evening_baskets"] / c["baskets"],
        tenure_days=c["tenure"].clip(upper=TENURE_CAP),
        demographics_known=known.astype(float),
        **{name: c[name].fillna(-1) for name in _DEMOGRAPHICS},
    )


def _demographics(households: pd.DataFrame) -> pd.DataFrame:
    """Bands such as ``35-49K``, ``65+`` and ``Under 15K`` as their lower ends; unknown stays missing."""
    numbers = {name: households[name].map(lower_end).astype(float) for name in _DEMOGRAPHICS}
    return pd.DataFrame({"household_id": households["household_id"], **numbers})


def lower_end(band: object) -> float:
    """The number at which a band begins (0 for "Under …"); NaN for a value without a number."""
    digits = re.search(r"\d+(\.\d+)?", str(band))
    if digits is None:
        return float("nan")
    return 0.0 if str(band).lower().startswith(("under", "<")) else float(digits[0])


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Early cutoffs to train and tune on, and the last quarter (at least two) held out."""
    days = np.sort(table["cutoff"].unique())
    held_out = table["cutoff"].isin(days[-max(2, len(days) // 4) :])
    return table[~held_out].reset_index(drop=True), table[held_out].reset_index(drop=True)


def time_folds(table: pd.DataFrame, folds: int = 3) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each of the last ``folds`` cutoffs: the rows of all earlier ones to fit on, its own to score.

    Yields:
        Pairs of row positions (fit, score), oldest cutoff first.

    Raises:
        ValueError: when the table has a single cutoff.
    """
    days = np.sort(table["cutoff"].unique())
    if len(days) < 2:
        raise ValueError("Time-ordered folds need two or more cutoffs.")
    for day in days[-min(folds, len(days) - 1) :]:
        yield np.flatnonzero(table["cutoff"] < day), np.flatnonzero(table["cutoff"] == day)


@dataclass(frozen=True)
class Candidate:
    """A kind of model with its hyper-parameters."""

    family: str
    params: Mapping[str, Any]

    def build(self) -> Any:
        """An unfitted model with ``fit`` and ``predict_proba``."""
        # Here and below: servers need this module's features only, and scikit-learn would delay their start by seconds.
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.family == BASELINE.family:
            # It takes all features and looks at three, so that it can be swapped for any other model.
            scale = ColumnTransformer([("rfm", StandardScaler(), [FEATURES.index(name) for name in RFM])])
            return make_pipeline(scale, LogisticRegression())
        if self.family == "logistic regression":
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, **self.params))
        if self.family == "random forest":
            # One thread: trials run in parallel already, and threads within them would fight for the cores.
            return RandomForestClassifier(random_state=settings.seed, n_jobs=1, **self.params)
        if self.family != "xgboost":
            raise ValueError(f"There is no model family {self.family!r}.")
        from xgboost import XGBClassifier

        return XGBClassifier(random_state=settings.seed, n_jobs=1, **self.params)


BASELINE = Candidate("recency, frequency, money", {})
"""A logistic regression on :data:`RFM`: what a marketing department does without machine learning."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "logistic regression": {"C": 1.0},
    "random forest": {"n_estimators": 80, "max_samples": 0.5, "min_samples_leaf": 20, "max_features": 0.15},
    "xgboost": {
        "n_estimators": 250,
        "learning_rate": 0.03,
        "max_depth": 3,
        "min_child_weight": 10,
        "subsample": 0.7,
        "colsample_bytree": 0.4,
    },
}
"""Per family a good choice without a search."""

SPACES: dict[str, dict[str, Any]] = {
    "logistic regression": {"C": (1e-3, 10)},
    "random forest": {
        "n_estimators": [80],
        "max_samples": [0.5],
        "min_samples_leaf": [5, 10, 20, 40],
        "max_features": [0.1, 0.15, 0.25],
    },
    "xgboost": {
        "n_estimators": [150, 250],
        "learning_rate": [0.02, 0.03, 0.05],
        "max_depth": [2, 3, 4],
        "min_child_weight": [5, 10, 20],
        "subsample": [0.6, 0.8],
        "colsample_bytree": [0.3, 0.5],
    },
}
"""Per family the hyper-parameters to draw from: a list of values, or the ends of a log-uniform distribution."""


def sample_candidates(family: str, trials: int, seed: int = settings.seed) -> list[Candidate]:
    """The family's default and ``trials - 1`` settings drawn from its space, numbers rounded to three digits."""
    from scipy.stats import loguniform
    from sklearn.model_selection import ParameterSampler

    space = {
        name: loguniform(*values) if isinstance(values, tuple) else values for name, values in SPACES[family].items()
    }
    drawn = ParameterSampler(space, max(trials - 1, 1), random_state=seed)
    rounded = ({key: float(f"{v:.3g}") if isinstance(v, float) else v for key, v in p.items()} for p in drawn)
    return [Candidate(family, params) for params in (DEFAULTS[family], *rounded)][:trials]


def out_of_fold(candidate: Candidate, table: pd.DataFrame) -> pd.DataFrame:
    """Probabilities by models that never saw the cutoff they answer for.

    Returns:
        ``cutoff``, ``household_id``, ``lapsed`` and ``probability`` of the scored rows.
    """
    parts = []
    for fit, score in time_folds(table):
        model = candidate.build().fit(table.loc[fit, list(FEATURES)], table.loc[fit, "lapsed"])
        probability = model.predict_proba(table.loc[score, list(FEATURES)])[:, 1]
        parts.append(table.loc[score, [*KEYS, "lapsed"]].assign(probability=probability))
    return pd.concat(parts, ignore_index=True)


def cross_validate(candidates: Sequence[Candidate], table: pd.DataFrame) -> Iterator[tuple[Candidate, pd.DataFrame]]:
    """:func:`out_of_fold` of each candidate, in their order, on the configured parallel workers."""
    # Ray's backend returns all results at once; the local one hands each over as it is ready.
    results = "list" if settings.ray_address else "generator"
    with parallel_backend():
        answers = joblib.Parallel(return_as=results)(joblib.delayed(out_of_fold)(c, table) for c in candidates)
        yield from zip(candidates, answers, strict=True)


def evaluate(truth: pd.Series, probability: np.ndarray | pd.Series, threshold: float = 0.5) -> dict[str, float]:
    """The measures of a classifier: four of its probabilities, four of its decisions at a threshold.

    Args:
        truth: 0 or 1 per row.
        probability: of 1, per row.
        threshold: from here up a household counts as leaving.
    """
    from sklearn import metrics

    decision = np.asarray(probability) >= threshold
    return {
        "roc_auc": float(metrics.roc_auc_score(truth, probability)),
        "average_precision": float(metrics.average_precision_score(truth, probability)),
        "log_loss": float(metrics.log_loss(truth, probability)),
        "brier": float(metrics.brier_score_loss(truth, probability)),
        "accuracy": float(metrics.accuracy_score(truth, decision)),
        "precision": float(metrics.precision_score(truth, decision, zero_division=0)),
        "recall": float(metrics.recall_score(truth, decision)),
        "f1": float(metrics.f1_score(truth, decision, zero_division=0)),
    }


@dataclass(frozen=True)
class Campaign:
    """What it costs to contact a household, and what it brings. Assumptions, to be replaced by your own."""

    contact_cost: float
    """Money per contact."""
    saved_value: float
    """Margin that a household brings when it stays."""
    success_rate: float
    """Share of leaving households that a contact keeps."""

    @property
    def break_even(self) -> float:
        """The probability of leaving from which a contact pays on average."""
        return self.contact_cost / (self.saved_value * self.success_rate)

    def gain(self, truth: np.ndarray | pd.Series, probability: np.ndarray | pd.Series, threshold: float) -> float:
        """Expected profit of contacting every household from ``threshold`` up."""
        contacted = np.asarray(probability) >= threshold
        saved = float(np.asarray(truth)[contacted].sum()) * self.success_rate * self.saved_value
        return saved - float(contacted.sum()) * self.contact_cost


def load_champion() -> Any:
    """The registered champion as a fitted scikit-learn model; without one, train and register the default."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from workshop_lib.predictive import tracking

    tracking.use_tracking(EXPERIMENT)
    try:
        return mlflow.sklearn.load_model(f"models:/{tracking.CHURN}@champion")
    except MlflowException:
        train, _ = split(load_table())
        features = train[list(FEATURES)]
        model = Candidate("xgboost", DEFAULTS["xgboost"]).build().fit(features, train["lapsed"])
        tracking.register(model, tracking.CHURN, example=features.head(3), alias="champion")
        return model
