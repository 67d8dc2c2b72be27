"""Is the new model really better? A paired test on the same held-out households.

Two models are judged on the same rows, and what counts is the difference per household. A household
appears at several cutoffs, and its rows resemble each other: the test therefore resamples whole
households, never single rows (a cluster bootstrap, Efron & Tibshirani 1993, section 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workshop_lib.settings import settings


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion on the same rows."""

    champion_loss: float
    """Log loss of the champion; lower is better."""
    challenger_loss: float
    improvement: float
    """Champion's loss minus challenger's: positive when the challenger is better."""
    low: float
    """Lower end of the 95% interval of the improvement."""
    high: float
    p_value: float
    """How often so large an improvement would be seen if the challenger were no better."""
    groups: int
    """Number of households that were resampled."""

    @property
    def better(self) -> bool:
        """Whether the challenger beats the champion beyond chance."""
        return self.p_value < settings.thresholds.significance

    def __str__(self) -> str:
        return (
            f"log loss {self.challenger_loss:.4f} against the champion's {self.champion_loss:.4f}"
            f" on {self.groups:,} households, p = {self.p_value:.3f}"
        )


def log_losses(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The log loss of each row: minus the logarithm of the probability given to what happened.

    Args:
        truth: 0 or 1 per row.
        probability: predicted probability of 1 per row.
    """
    certain = np.clip(probability.astype(float), 1e-7, 1 - 1e-7)
    return -np.where(truth == 1, np.log(certain), np.log1p(-certain))


def paired_test(
    truth: np.ndarray,
    champion: np.ndarray,
    challenger: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = 5000,
    seed: int = settings.seed,
) -> Comparison:
    """Test whether the challenger's log loss is lower than the champion's, one-sided.

    The log loss is a proper score: a model gains by ranking better and by being better calibrated,
    and by nothing else. It is also a mean over rows, so that the bootstrap needs only one sum per
    household and is quick.

    Args:
        truth: 0 or 1 per row, shape (rows,).
        champion: the champion's probability of 1 per row, shape (rows,).
        challenger: the challenger's, for the same rows in the same order.
        groups: the household of each row, shape (rows,).
        resamples: bootstrap samples; the smallest possible p-value is 1 / (resamples + 1).
        seed: seed of the resampling.

    Raises:
        ValueError: when the arrays differ in length or hold fewer than two households.
    """
    truth, champion, challenger, groups = (np.asarray(values) for values in (truth, champion, challenger, groups))
    if not len(truth) == len(champion) == len(challenger) == len(groups):
        raise ValueError("truth, champion, challenger and groups need one value per row each.")
    losses = log_losses(truth, champion), log_losses(truth, challenger)
    members, position = np.unique(groups, return_inverse=True)
    if len(members) < 2:
        raise ValueError("The paired test needs two or more households.")
    gain = np.bincount(position, losses[0] - losses[1])
    rows = np.bincount(position)
    improvement = gain.sum() / rows.sum()
    drawn = _resampled_means(gain, rows, resamples, np.random.default_rng(seed))
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Centred on "no difference": how often chance alone reaches what was seen.
    p_value = (1 + np.count_nonzero(drawn - improvement >= improvement)) / (resamples + 1)
    return Comparison(
        champion_loss=float(losses[0].mean()),
        challenger_loss=float(losses[1].mean()),
        improvement=float(improvement),
        low=float(low),
        high=float(high),
        p_value=float(p_value),
        groups=len(members),
    )


def _resampled_means(gain: np.ndarray, rows: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Mean gain per row in each bootstrap sample of households, shape (resamples,)."""
    means = np.empty(resamples)
    for start in range(0, resamples, 500):  # in blocks: the table of draws stays small
        stop = min(start + 500, resamples)
        chosen = random.integers(len(gain), size=(stop - start, len(gain)))
        means[start:stop] = gain[chosen].sum(axis=1) / rows[chosen].sum(axis=1)
    return means
