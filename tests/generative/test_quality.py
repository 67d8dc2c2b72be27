"""The measure of texts, on texts whose quality is known; gains, on differences that are known."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib.exercises import check
from workshop_lib.generative import comparison, quality
from workshop_lib.generative.prompt_exercises import OLIVES
from workshop_lib.generative.quality import invented_claims, invented_numbers, measure, mentions

GOOD = "Green olives from our store brand, ready for your table. The package holds 7 ounces and costs $1.91."
FACTS = list(OLIVES.values())


def test_a_good_text_gets_full_marks() -> None:
    measured = measure(GOOD, OLIVES)
    assert measured.score == pytest.approx(1)
    assert measured.missing == measured.invented_numbers == measured.invented_claims == ()


@pytest.mark.parametrize(
    "text",
    [
        "Our store-brand green olives come in a 7 oz package, and you pay $1.91 for it, which is easy to remember.",
        "A green olive is small. With the store brand you get 7-ounce packages of them, each for 1.91 dollars.",
        "Enjoy the store brand's green olives at home: seven ounces for 191 cents, and your table is ready in no time.",
    ],
)
def test_other_words_for_the_same_facts_get_full_marks(text: str) -> None:
    assert measure(text, OLIVES).score > 0.95


@pytest.mark.parametrize(
    ("fault", "text", "part", "highest"),
    [
        ("wrong price", GOOD.replace("1.91", "2.91"), "truth", 0.7),
        ("wrong unit", GOOD.replace("7 ounces", "7 pounds"), "truth", 0.7),
        ("wrong brand", GOOD.replace("our store brand", "a national brand"), "truth", 0.7),
        ("extra number", GOOD + " It serves 12 guests.", "truth", 0.81),
        ("extra number in words", GOOD + " It serves three guests.", "truth", 0.81),
        ("false claims", "Award-winning, organic and gluten-free! " + GOOD, "truth", 0.6),
        ("invented ingredients", GOOD + " They are filled with garlic and cheese.", "truth", 0.7),
        ("placeholder", GOOD.replace("our store brand", "our store brand [Brand Name]"), "truth", 0.81),
        ("no price", "Green olives from our store brand, ready for your table. The package holds 7 ounces of it.",
         "facts", 0.87),
        ("only the name", "Green olives are a fine thing to have at home, and your guests will like them with a drink.",
         "facts", 0.41),
        ("nothing said", "This is a product that you can buy in our shop at any time, and we hope you will like it.",
         "facts", 0.0),
        ("bare list", "green olives, store brand, 7 ounces, $1.91", "prose", 0.5),
        ("facts as they were given", "- product: green olives\n- brand: store brand\n- size: 7 ounces\n- price: $1.91",
         "prose", 0.58),
        ("repeated sentence", "Our store brand green olives are good. " * 4, "variety", 0.6),
        ("repeated good text", GOOD + " " + GOOD + " " + GOOD, "variety", 0.9),
        ("cut off", GOOD[: GOOD.index("costs")] + "costs $1.91 and is", "prose", 0.81),
        ("too short", "Store brand green olives. 7 ounces for $1.91.", "length", 0.9),
        ("too long", GOOD + " They wait for you and for all who come to your home on a day like this." * 8,
         "length", 0.9),
        ("hard to read", "Uncompromisingly Mediterranean-inspired green olives, characteristically store-branded,"
         " exemplifying extraordinarily sophisticated gastronomic craftsmanship throughout 7 ounces for $1.91.",
         "readability", 0.85),
        ("empty", "", "facts", 0.0),
        ("white space", " \n\t", "facts", 0.0),
        ("symbols", "!!! ... ???", "facts", 0.0),
    ],
)  # fmt: skip
def test_each_fault_costs_and_shows_in_its_part(fault: str, text: str, part: str, highest: float) -> None:
    measured = measure(text, OLIVES)
    assert measured.score <= highest, fault
    assert getattr(measured, part) < 0.9, fault
    assert measured.score < measure(GOOD, OLIVES).score


def test_worse_faults_cost_more() -> None:
    texts = [
        GOOD,
        GOOD.replace(" and costs $1.91", ""),
        GOOD.replace("1.91", "2.91"),
        "Organic, vegan, award-winning! " + GOOD.replace("1.91", "2.91"),
        "Enjoy this fine product at home with your family, and come back to our shop for more of it at any time.",
    ]
    scores = [measure(text, OLIVES).score for text in texts]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == len(scores)


def test_a_made_up_price_beside_all_facts_is_found() -> None:
    measured = measure(f"{GOOD} It was $3.49 before.", OLIVES)
    assert measured.facts == 1 and measured.invented_numbers == ("$3.49",) and measured.truth == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("text", "fact", "mentioned"),
    [
        ("a 10.5-oz bag", "10.5 ounces", True),
        ("10.5oz", "10.5 ounces", True),
        ("10.5 ounces.", "10.5 ounces", True),
        ("one pound of bacon", "16 ounces", True),
        ("a pound of bacon", "1 pound", True),
        ("16 fluid ounces", "16 oz", True),
        ("a dozen eggs", "12 pieces", True),
        ("12 eggs", "1 dozen", True),
        ("83.5 square feet", "83.5 sq ft", True),
        ("99 cents", "$0.99", True),
        ("1,250 dollars", "$1250", True),
        ("0.50", "$0.50", False),
        ("10 ounces", "10.5 ounces", False),
        ("110.5 ounces", "10.5 ounces", False),
        ("10.5 grams", "10.5 ounces", False),
        ("the brand of a store", "store brand", True),
        ("a national brand", "store brand", False),
        ("frozen chicken, breaded", "frozen breaded prepared chicken", True),
        ("chicken", "frozen breaded prepared chicken", False),
        ("ripe olive", "olives", True),
        ("up 18%", "up 18%", True),
        ("down 18%", "up 8%", False),
        ("it is on", "on", True),
    ],
)
def test_mentions(text: str, fact: str, mentioned: bool) -> None:
    assert mentions(text, fact) is mentioned


@pytest.mark.parametrize(
    ("text", "invented"),
    [
        ("7 ounces, 7-oz, 7 oz, seven ounces", ()),
        ("1. Green olives\n2. 7 ounces", ()),
        ("a pack, one of the best, an ounce of luck", ()),
        ("7 grams", ("7 grams",)),
        ("$7", ("$7",)),
        ("100% good", ("100%",)),
        ("since 1912", ("1912",)),
        ("24 pieces, 24 pieces and 24 pieces", ("24 pieces",)),
        ("two reasons, $5.00", ("two", "$5.00")),
    ],
)
def test_invented_numbers(text: str, invented: tuple[str, ...]) -> None:
    assert invented_numbers(text, FACTS) == invented


@pytest.mark.parametrize(
    ("text", "given", "invented"),
    [
        ("Organic olives", ["olives"], ("organic",)),
        ("Organic olives", ["organic olives"], ()),
        ("gluten-free, Gluten Free and fat free", ["olives"], ("gluten-free", "gluten free", "fat free")),
        ("free of charge", ["olives"], ()),
        ("frozen pasta", ["pasta, canned"], ("frozen",)),
        ("from a national brand", ["tuna", "store brand"], ("national brand",)),
        ("cream", ["sour creams"], ()),
        ("low in fat", ["olives"], ("low in fat",)),
        ("welcome to [Your Store]", ["olives"], ("[Your Store]",)),
        ("disorganic thoughts", ["olives"], ()),
    ],
)
def test_invented_claims(text: str, given: list[str], invented: tuple[str, ...]) -> None:
    assert invented_claims(text, given) == invented


def test_repetition_by_hand() -> None:
    assert quality.repeated_share("a b c a b c") == pytest.approx(1 / 4)
    assert quality.repeated_share("a b c d e f") == 0
    assert quality.repeated_share("a b") == 0


def test_facts_come_as_a_mapping_a_list_or_one_text() -> None:
    assert measure(GOOD, FACTS) == measure(GOOD, OLIVES)
    assert measure(GOOD, "green olives").facts == 1


def test_what_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        measure(GOOD, {})
    with pytest.raises(ValueError, match="not usable"):
        measure(GOOD, OLIVES, length=(60, 15))


def test_weights_add_up_and_every_part_moves_the_score() -> None:
    assert sum(quality.FORM_WEIGHTS.values()) == pytest.approx(1)
    assert measure(GOOD, OLIVES, length=(30, 60)).score == pytest.approx(1 - 0.2 * (1 - 18 / 30))


@given(text=st.text(max_size=300) | st.sampled_from([GOOD, GOOD * 3]))
def test_every_part_lies_between_0_and_1(text: str) -> None:
    measured = measure(text, OLIVES)
    parts = [measured.score, measured.content, measured.form, measured.facts, measured.truth, measured.prose]
    parts += [measured.length, measured.variety, measured.readability]
    assert all(0 <= part <= 1 for part in parts)


# --- Gains ----------------------------------------------------------------------------------------


def results(better: list[float], base: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt": ["b"] * len(better) + ["a"] * len(base),
            "product_id": [*range(len(better)), *range(len(base))],
            "score": better + base,
        }
    )


def test_gain_by_hand() -> None:
    found = comparison.gain(results([0.9, 0.8, 0.5, 0.6], [0.5, 0.6, 0.7, 0.6]), "b", "a")
    assert found.mean == pytest.approx(0.1)
    assert (found.better, found.worse, found.products) == (2, 1, 4)
    assert found.low < 0 < found.high, "four products that disagree prove nothing"


def test_a_gain_that_is_the_same_everywhere_is_certain() -> None:
    found = comparison.gain(results([0.75] * 20, [0.5] * 20), "b", "a")
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_gain_needs_the_same_products_and_known_prompts() -> None:
    with pytest.raises(ValueError, match="same products"):
        comparison.gain(results([0.9, 0.8], [0.5]), "b", "a")
    with pytest.raises(KeyError):
        comparison.gain(results([0.9], [0.5]), "c", "a")


# --- Exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (GOOD, ""),
        (..., "Two sentences"),
        ("", "no text"),
        (GOOD.replace("1.91", "2.91"), "A number in your text"),
        (f"Organic! {GOOD}", "claims something"),
        ("Green olives from our store brand, ready for your table at any time of the day or night.", "not mentioned"),
        ("Store brand green olives. 7 ounces for $1.91.", "length"),
        (7, "Two sentences"),
    ],
)
def test_exercise_a(answer: object, hint: str) -> None:
    feedback = check("2.3.a", answer)
    assert feedback.correct is not bool(hint) and hint in feedback.hint


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q: not (q.missing or q.invented_numbers or q.invented_claims), ""),
        (lambda q: q.facts == 1 and q.inventions == 0, ""),
        (lambda q: ..., "Return True only"),
        (lambda q: not q.inventions, "without the price"),
        (lambda q: not (q.missing or q.invented_numbers), "organic"),
        (lambda q: q.score > 0.6, "wrong price"),
        (lambda q: True, "wrong price"),
        (lambda q: 0 if q.missing or q.inventions else 1, "True or False itself"),
        (lambda q: False, "Return True only"),
        (None, "Return True only"),
    ],
)
def test_exercise_b(answer: object, hint: str) -> None:
    feedback = check("2.3.b", answer)
    assert feedback.correct is not bool(hint) and hint in feedback.hint
