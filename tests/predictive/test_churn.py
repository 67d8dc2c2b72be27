"""The churn table, its split, its models and the paired test, on hand-made households."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from workshop_lib import parallel
from workshop_lib.predictive import churn
from workshop_lib.predictive.churn_exercises import EXERCISES
from workshop_lib.predictive.comparison import paired_test
from workshop_lib.settings import Settings

CUTOFF = pd.Timestamp("2024-06-01")


def line(household: int, days_before: int, basket: int, **values: object) -> dict[str, object]:
    """A sales line some days before the cutoff (negative: after it), at noon."""
    moment = CUTOFF - pd.Timedelta(days=days_before) + pd.Timedelta(hours=12)
    given = {"category": "MILK", "department": "DAIRY", "units": 1.0, "revenue": 10.0, "discount": 0.0, **values}
    return {
        "household_id": household, "basket_id": basket, "local_time": moment, "date": moment.normalize(), **given,
    }  # fmt: skip


@pytest.fixture
def lines() -> pd.DataFrame:
    """Four households: a regular that returns, one that lapses, one too long away, one only seen later."""
    return pd.DataFrame(
        [
            line(1, 42, 10), line(1, 28, 11), line(1, 14, 12, revenue=25.0, discount=5.0, category="TEA"),
            line(1, 0, 13), line(1, -27, 14),
            line(2, 84, 20), line(2, -28, 21),
            line(3, 85, 30),
            line(4, -1, 40),
        ]
    )  # fmt: skip


@pytest.fixture
def households() -> pd.DataFrame:
    """One household with demographics; the others have none."""
    return pd.DataFrame(
        {
            "household_id": [1, 2, 3, 4],
            "age": ["35-44", None, None, None],
            "income": ["Under 15K", None, None, None],
            "household_size": ["5+", None, None, None],
        }
    )


@pytest.fixture
def table(lines: pd.DataFrame, households: pd.DataFrame) -> pd.DataFrame:
    """The churn table of :func:`lines` at the one cutoff, by household."""
    return churn.build_table(lines, households, [CUTOFF]).set_index("household_id")


def test_window_and_label_by_hand(table: pd.DataFrame) -> None:
    # Day 84 before is inside the window and 85 is not; day 27 after counts as a return and 28 does not.
    assert table["lapsed"].to_dict() == {1: 0, 2: 1}


def test_the_day_of_the_cutoff_is_outcome_not_feature(lines: pd.DataFrame, households: pd.DataFrame) -> None:
    only_today = lines[(lines["household_id"] != 1) | (lines["basket_id"] != 14)]
    row = churn.build_table(only_today, households, [CUTOFF]).set_index("household_id").loc[1]
    assert (row["lapsed"], row["visits"]) == (0, 3)


def test_features_by_hand(table: pd.DataFrame) -> None:
    expected = {
        "recency_days": 14, "recency_vs_gap": 1, "recency_z": 0, "recency_vs_longest_gap": 1,
        "visits": 3, "visits_14": 1, "visits_28": 2, "visit_rate": 3 / 42, "visit_trend": 3 / 2,
        "gap_mean": 14, "gap_std": 0, "gap_max": 14,
        "spend": 45, "spend_28": 35, "spend_trend": 36 / 16, "basket_value": 15, "basket_units": 1,
        "discount_share": 0.1, "categories": 2, "departments": 1, "categories_28": 2, "categories_per_basket": 1,
        # 20 April, 4 May and 18 May 2024 are Saturdays.
        "weekend_share": 1, "evening_share": 0, "tenure_days": 42,
        "age": 35, "income": 0, "household_size": 5, "demographics_known": 1,
    }  # fmt: skip
    assert list(expected) == list(churn.FEATURES)
    assert table.loc[1, list(churn.FEATURES)].to_dict() == pytest.approx(expected, rel=1e-6)


def test_a_single_visit_has_all_features(table: pd.DataFrame) -> None:
    row = table.loc[2, list(churn.FEATURES)]
    assert np.isfinite(row.astype(float)).all()
    assert (row["gap_mean"], row["gap_max"], row["age"], row["demographics_known"]) == (84, 84, -1, 0)


def test_values_survive_float32(table: pd.DataFrame) -> None:
    values = table[list(churn.FEATURES)].to_numpy()
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, values.astype("float32"))


def test_no_feature_sees_the_future(households: pd.DataFrame) -> None:
    random = np.random.default_rng(0)
    many = pd.DataFrame(
        line(int(h), int(d), int(b), revenue=float(r), category=str(c))
        for b, (h, d, r, c) in enumerate(
            zip(random.integers(1, 5, 400), random.integers(-60, 140, 400), random.uniform(1, 9, 400),
                random.integers(0, 6, 400), strict=True)
        )
    )  # fmt: skip
    days = [CUTOFF - pd.Timedelta(days=back) for back in (28, 0)]
    full = churn.build_table(many, households, days)
    for day in days:
        cut = churn.build_table(many[many["date"] < day], households, [day])
        expected = full[full["cutoff"] == day].reset_index(drop=True)
        pd.testing.assert_frame_equal(cut.drop(columns="lapsed"), expected.drop(columns="lapsed"))
        assert cut["lapsed"].eq(1).all()


def test_cutoffs_fill_the_data_and_no_more() -> None:
    year = pd.Timestamp("2017-01-01"), pd.Timestamp("2017-12-31")
    days = churn.choose_cutoffs(*year, 9)
    assert (days[0], days[-1], len(days)) == (pd.Timestamp("2017-04-24"), pd.Timestamp("2017-12-04"), 9)
    assert churn.choose_cutoffs(*year, 10)[0] == pd.Timestamp("2017-03-27")
    for count in (3, 11):
        with pytest.raises(ValueError, match="room for 4 to 10"):
            churn.choose_cutoffs(*year, count)


def many_cutoffs(count: int, rows: int = 60) -> pd.DataFrame:
    """A table with learnable noise: the more visits, the fewer lapses."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.uniform(0, 1, (count * rows, len(churn.FEATURES))), columns=list(churn.FEATURES))
    days = np.repeat(pd.date_range("2024-01-01", periods=count, freq="28D"), rows)
    lapsed = (random.uniform(size=len(frame)) > frame["visits"]).astype(int)
    return frame.assign(cutoff=days, household_id=np.tile(np.arange(rows), count), lapsed=lapsed)


@pytest.mark.parametrize(("count", "held"), [(4, 2), (6, 2), (9, 2), (12, 3)])
def test_split_holds_out_the_last_cutoffs(count: int, held: int) -> None:
    train, held_out = churn.split(many_cutoffs(count))
    assert (train["cutoff"].nunique(), held_out["cutoff"].nunique()) == (count - held, held)
    assert train["cutoff"].max() < held_out["cutoff"].min()


def test_folds_fit_on_the_past_only() -> None:
    table = many_cutoffs(5)
    folds = list(churn.time_folds(table, folds=3))
    assert len(folds) == 3
    for fit, score in folds:
        assert table.loc[fit, "cutoff"].max() < table.loc[score, "cutoff"].min()
        assert table.loc[score, "cutoff"].nunique() == 1
    with pytest.raises(ValueError, match="two or more"):
        list(churn.time_folds(many_cutoffs(1)))


@pytest.mark.parametrize("family", list(churn.SPACES))
def test_candidates_are_reproducible_and_start_with_the_default(family: str) -> None:
    candidates = churn.sample_candidates(family, 3)
    assert candidates == churn.sample_candidates(family, 3)
    assert candidates[0].params == churn.DEFAULTS[family]
    assert [len(churn.sample_candidates(family, trials)) for trials in (1, 2)] == [1, 2]


def test_out_of_fold_answers_beat_guessing() -> None:
    table = many_cutoffs(4, rows=150)
    answer = churn.out_of_fold(churn.Candidate("logistic regression", {"C": 0.1}), table)
    assert set(answer["cutoff"]) == set(table["cutoff"].unique()[1:])
    assert churn.evaluate(answer["lapsed"], answer["probability"])["roc_auc"] > 0.75


def test_cross_validation_keeps_the_order_of_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "settings", Settings(jobs=1))  # starting workers takes seconds
    candidates = churn.sample_candidates("logistic regression", 2)
    table = many_cutoffs(3)
    answers = list(churn.cross_validate(candidates, table))
    assert [candidate for candidate, _ in answers] == candidates
    pd.testing.assert_frame_equal(answers[0][1], churn.out_of_fold(candidates[0], table))


def test_the_baseline_takes_all_features_and_uses_three() -> None:
    table = many_cutoffs(3)
    features = table[list(churn.FEATURES)]
    model = churn.BASELINE.build().fit(features, table["lapsed"])
    other = features.assign(**{name: 0.0 for name in churn.FEATURES if name not in churn.RFM})
    np.testing.assert_array_equal(model.predict_proba(features), model.predict_proba(other))


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="no model family 'oracle'"):
        churn.Candidate("oracle", {}).build()


def test_measures_of_a_known_answer() -> None:
    scores = churn.evaluate(pd.Series([0, 0, 0, 1]), np.array([0.1, 0.6, 0.2, 0.9]), threshold=0.5)
    assert (scores["precision"], scores["recall"], scores["accuracy"], scores["roc_auc"]) == (0.5, 1, 0.75, 1)


def test_accuracy_of_never_is_the_majority() -> None:
    scores = churn.evaluate(pd.Series([0] * 86 + [1] * 14), np.zeros(100))
    assert (scores["accuracy"], scores["recall"], scores["f1"], scores["roc_auc"]) == (0.86, 0, 0, 0.5)


def test_campaign_gain_and_break_even() -> None:
    campaign = churn.Campaign(contact_cost=2, saved_value=60, success_rate=0.2)
    assert campaign.break_even == pytest.approx(1 / 6)
    # Three contacts cost 6; two of them were leaving and bring 12 each on average.
    assert campaign.gain(np.array([1, 0, 1, 1]), np.array([0.9, 0.8, 0.7, 0.1]), 0.5) == pytest.approx(18)
    assert campaign.gain(np.array([1, 0]), np.array([0.5, 0.5]), 0.6) == 0


@pytest.mark.parametrize(
    ("band", "number"), [("35-49K", 35), ("65+", 65), ("Under 15K", 0), ("2", 2), (3, 3), ("250K+", 250)]
)
def test_bands_begin_at_their_lower_end(band: object, number: float) -> None:
    assert churn.lower_end(band) == number


def test_a_band_without_a_number_is_unknown() -> None:
    assert np.isnan(churn.lower_end(None)) and np.isnan(churn.lower_end("n/a"))


def panel(random: np.random.Generator, households: int = 300, visits: int = 2) -> SimpleNamespace:
    """True probabilities and outcomes of households that appear twice, with alike rows."""
    chance = np.repeat(random.uniform(0.02, 0.5, households), visits)
    return SimpleNamespace(
        chance=chance,
        truth=(random.uniform(size=len(chance)) < chance).astype(int),
        groups=np.repeat(np.arange(households), visits),
    )


def noisy(random: np.random.Generator, data: SimpleNamespace, scale: float) -> np.ndarray:
    """The true probability with an error per household, on the logit scale."""
    error = random.normal(0, scale, data.groups.max() + 1)[data.groups]
    return 1 / (1 + np.exp(-(np.log(data.chance / (1 - data.chance)) + error)))


def test_equally_good_models_are_rarely_called_different() -> None:
    random = np.random.default_rng(7)
    rounds = 300
    false = 0
    for seed in range(rounds):
        data = panel(random)
        pair = noisy(random, data, 0.5), noisy(random, data, 0.5)
        false += paired_test(data.truth, *pair, data.groups, resamples=300, seed=seed).p_value < 0.05
    # 5% of 300 is 15; the bounds are about three standard deviations away.
    assert 4 <= false <= 27


def test_a_clearly_better_model_is_found() -> None:
    random = np.random.default_rng(3)
    data = panel(random, households=1500)
    worse, better = noisy(random, data, 1.5), noisy(random, data, 0.1)
    result = paired_test(data.truth, worse, better, data.groups)
    assert result.better and result.low > 0 and result.groups == 1500
    reverse = paired_test(data.truth, better, worse, data.groups)
    assert not reverse.better and reverse.improvement == pytest.approx(-result.improvement)


def test_a_model_does_not_beat_itself() -> None:
    data = panel(np.random.default_rng(4))
    result = paired_test(data.truth, data.chance, data.chance, data.groups, resamples=100)
    assert (result.improvement, result.p_value, result.better) == (0, 1, False)


def test_copies_of_households_add_no_evidence() -> None:
    """The same rows ten times over are ten times the rows and the same households."""
    random = np.random.default_rng(5)
    data = panel(random)
    pair = noisy(random, data, 0.8), noisy(random, data, 0.4)
    once = paired_test(data.truth, pair[0], pair[1], data.groups)
    truth, first, second, groups = (np.tile(values, 10) for values in (data.truth, *pair, data.groups))
    often = paired_test(truth, first, second, groups)
    assert often.p_value == pytest.approx(once.p_value)


def test_the_paired_test_names_what_is_wrong() -> None:
    two = np.array([0.1, 0.2])
    with pytest.raises(ValueError, match="one value per row"):
        paired_test(np.array([0, 1]), two, two[:1], np.array([1, 2]))
    with pytest.raises(ValueError, match="two or more households"):
        paired_test(np.array([0, 1]), two, two, np.array([1, 1]))


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("1.4.a", ["last_purchase", "recency_days", "baskets", "spend", "campaigns", "coupons_redeemed"]),
        ("1.4.b", 0.444),
    ],
)
def test_right_answers(exercise: str, answer: object) -> None:
    assert EXERCISES[exercise].right(answer)


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("1.4.a", ["spend"], "there are more"),
        ("1.4.a", ["spend", "age"], "do not depend"),
        ("1.4.a", ["spend", "first_purchase"], "lies in the past"),
        ("1.4.b", 3 / 45, "every leaving household"),
        ("1.4.b", 2.25, "upside down"),
    ],
)
def test_near_misses_get_their_own_hint(exercise: str, answer: object, hint: str) -> None:
    found = EXERCISES[exercise]
    assert not found.right(answer)
    assert hint in next(text for mistaken, text in found.near_misses if mistaken(answer))
