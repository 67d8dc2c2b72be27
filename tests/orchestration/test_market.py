"""The market analysis as a chain: what it answers, and what is left of it when a dependency is away."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from starlette.responses import JSONResponse

from tests.orchestration.fakes import Body, Fake, chat_answer, forecast_answer, serve
from tests.orchestration.market_shops import DAYS, small_shop
from workshop_lib.orchestration import market
from workshop_lib.orchestration.labels import LANGUAGES, Labels
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.market import market_chain, price, strong_promotion
from workshop_lib.orchestration.market_results import MarketAnalysis, MarketQuestion
from workshop_lib.orchestration.market_texts import ACTIONS, percent, reason
from workshop_lib.orchestration.models import Models, build
from workshop_lib.orchestration.product import must_not_advertise
from workshop_lib.orchestration.shop import Shop, UnknownThing, load_shop
from workshop_lib.orchestration.stated_numbers import unstated_numbers
from workshop_lib.orchestration.tracing import StepTimes
from workshop_lib.settings import settings

YEAR = np.linspace(0, 1, len(DAYS))
EASTER = np.where(DAYS.isin(pd.date_range(end="2017-04-16", periods=7)), 3.0, 1.0)
FACTORS = {
    "CATEGORY 02": 1 + 0.8 * YEAR,  # grows, hardly promoted
    "CATEGORY 03": 1 + 0.5 * YEAR,  # the same, less
    "CATEGORY 04": 1 + 0.2 * YEAR + 4 * np.maximum(0, YEAR - 0.75),  # grows for the most part in one season
    "CATEGORY 28": 1 + 0.6 * YEAR,  # grows, and is promoted a lot
    "CATEGORY 07": 1 - 0.4 * YEAR,  # falls
    "CATEGORY 05": EASTER,
}
NOTE = "In the last 7 open days {} of category 02 were sold. The forecast for the next 7 days is {}, {}."


def promoted(body: Body) -> float:
    """Share in the mailer that a question asks about."""
    return float(body.get("promotion", {}).get("mailer_share", 0))


def healthy(path: str, body: Body) -> Any:
    """A business API for which a promotion brings ten units a day, and a language model that invents a number."""
    if path == "/forecast":
        return forecast_answer(body, units=100.0 + 10 * (promoted(body) > 0))
    return chat_answer("Last week 99 units were sold, and category 02 will double.")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return small_shop(FACTORS)


@pytest.fixture
def api() -> Iterator[Fake]:
    with serve(healthy) as fake:
        yield fake


@pytest.fixture
def models(api: Fake, tmp_path: Path) -> Models:
    return models_at(api.url, tmp_path)


def models_at(url: str, folder: Path) -> Models:
    return build(
        api_url=url, api_headers={}, llm_url=f"{url}/v1", llm_model="fake", llm_key="none",
        store=LastKnown(folder / "last.db"), timeout=1, text_timeout=2, attempts=2,
    )  # fmt: skip


def ask(models: Models, shop: Shop, **question: Any) -> MarketAnalysis:
    return market_chain(models, shop).invoke(question)


def forecasts(api: Fake) -> list[Body]:
    return [body for path, body in api.asked if path == "/forecast"]


def test_everything_is_there(models: Models, shop: Shop) -> None:
    answer = ask(models, shop)
    assert {name: source.kind for name, source in answer.sources.items()} == {
        "trends": "data", "seasons": "data", "pairs": "data", "opportunities": "model", "headline": "model",
        "recommendations": "data", "summary": "template",
    }  # fmt: skip
    assert answer.department is None
    assert (answer.first_day, answer.last_day) == (DAYS[0].date(), DAYS[-1].date())
    assert len(answer.table("trends")) == 30
    clear = answer.table("trends").query("evidence == 'clear'")["category"].tolist()
    assert clear[0] == "CATEGORY 02"
    assert {"CATEGORY 03", "CATEGORY 28"} < set(clear)
    assert clear[-1] == "CATEGORY 07"


def test_opportunities_grow_are_hardly_promoted_and_have_a_gain(models: Models, shop: Shop, api: Fake) -> None:
    answer = ask(models, shop)
    table = answer.table("opportunities").set_index("category")
    trends = answer.table("trends").set_index("category")
    assert trends.loc["CATEGORY 04", "evidence"] != "none" and not trends.loc["CATEGORY 04", "steady"]
    assert {"CATEGORY 02", "CATEGORY 03"} <= set(table.index)
    assert not {"CATEGORY 28", "CATEGORY 04"} & set(table.index)
    assert (table["mailer_share"] < table["usual_share"]).all()
    assert (table["growth"] > 0).all()
    assert table.loc["CATEGORY 02", "extra_units"] == pytest.approx(70)
    assert table.loc["CATEGORY 02", "extra_revenue"] == pytest.approx(70 * price(shop, "CATEGORY 02"))
    assert not table.loc["CATEGORY 02", "ever_so"]
    asked = [body for body in forecasts(api) if body["category"] == "CATEGORY 02" and "promotion" in body]
    assert len(asked) == 2
    asked.sort(key=lambda body: sum(body["promotion"].values()))  # they were asked at the same time
    assert asked[0]["dates"] == asked[1]["dates"] == [f"2018-01-0{day}" for day in range(1, 8)]
    assert asked[0]["promotion"] == {"display_share": 0.0, "mailer_share": 0.0, "front_page_share": 0.0}
    assert asked[1]["promotion"] == strong_promotion(shop)


def test_goods_that_the_law_limits_are_no_opportunity(
    models: Models, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert must_not_advertise("DOMESTIC WINE") and not must_not_advertise("CATEGORY 02")
    monkeypatch.setattr(market, "must_not_advertise", lambda name: "wine" if name == "CATEGORY 02" else "")
    table = ask(models, shop).table("opportunities").set_index("category")
    assert "CATEGORY 02" not in table.index and "CATEGORY 03" in table.index


def test_a_promotion_that_the_forecaster_expects_nothing_of_is_not_recommended(
    models: Models, shop: Shop, api: Fake
) -> None:
    api.answer = lambda path, body: forecast_answer(body) if path == "/forecast" else chat_answer("No.")
    answer = ask(models, shop)
    assert answer.table("opportunities")["extra_units"].eq(0).all()
    assert "promote" not in set(answer.table("recommendations")["action"])


def test_recommendations_are_ranked_by_what_is_at_stake(models: Models, shop: Shop) -> None:
    table = ask(models, shop).table("recommendations")
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table["dollars"].dropna().is_monotonic_decreasing
    assert table["dollars"].isna().is_monotonic_increasing
    first = table.set_index(["action", "subject"])
    falling = first.loc[("look into", "CATEGORY 07")]
    # 60 units at 2 dollars on most days of a week, of which two fifths are gone.
    assert falling["dollars"] == pytest.approx(0.4 * 2 * 60 * (5 + 2 * 1.3), rel=0.2)
    easter = first.loc[("stock up", "CATEGORY 05")]
    assert easter["numbers"]["ratio"] == pytest.approx(3, rel=0.1)
    assert easter["dollars"] == pytest.approx(2 * easter["numbers"]["extra_units"])
    assert "Easter" in easter["reason"]


def test_reasons_state_their_numbers_and_no_others(models: Models, shop: Shop) -> None:
    for language in LANGUAGES:
        for one in ask(models, shop, language=language).recommendations:
            said = re.findall(r"\d[\d.,]*\d|\d", one.reason)
            known = {
                text.strip("%−+ ").replace(" ", "")
                for value in one.numbers.values()
                for text in (
                    percent(value, language), *(Labels(language).number(abs(value), digits) for digits in (0, 1))
                )
            }  # fmt: skip
            assert said and set(said) <= known, one.reason


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_number_that_is_told_is_a_figure_of_the_answer(models: Models, shop: Shop, language: str) -> None:
    assert not unstated_numbers(ask(models, shop, language=language))


def test_a_department_is_a_part_of_the_whole(models: Models, shop: Shop) -> None:
    whole, part = ask(models, shop), ask(models, shop, department=" food ")
    assert part.department == "FOOD"
    assert part.trends is not None and whole.trends is not None
    assert set(part.trends) == {one for one in whole.trends if one.department == "FOOD"}
    assert set(part.table("opportunities")["department"]) == {"FOOD"}
    assert part.summary.text != whole.summary.text


@pytest.mark.parametrize("question", [{"department": "FODO"}, {"department": "'; drop table"}])
def test_an_unknown_department_is_answered_with_those_there_are(models: Models, shop: Shop, question: Body) -> None:
    with pytest.raises(UnknownThing, match="no department"):
        market_chain(models, shop).invoke(question)


def test_a_question_of_another_form_is_refused(models: Models, shop: Shop) -> None:
    with pytest.raises(ValidationError):
        ask(models, shop, departement="FOOD")
    assert market_chain(models, shop).invoke(MarketQuestion()).department is None


def test_a_dead_forecaster_costs_the_gains_and_nothing_else(models: Models, shop: Shop, api: Fake) -> None:
    api.answer = lambda path, body: JSONResponse({"detail": "down"}, 503)
    answer = ask(models, shop)
    assert answer.sources["opportunities"].kind == "missing"
    assert "503" in answer.sources["opportunities"].why
    assert {"opportunities", "headline", "summary"} == set(answer.degraded)
    assert answer.headline.forecast is None and "no forecast" in answer.summary.source.why
    assert not [path for path, _ in api.asked if path != "/forecast"]
    assert answer.table("opportunities")["extra_units"].isna().all()
    assert len(forecasts(api)) == 2  # two attempts for the first, none for the others
    promoted = answer.table("recommendations").query("action == 'promote'")
    assert len(promoted) and promoted["dollars"].isna().all()
    assert promoted["reason"].str.contains("gave no figure").all()


def test_last_known_forecasts_are_said_to_be_old(models: Models, shop: Shop, api: Fake) -> None:
    before = ask(models, shop)
    api.answer = lambda path, body: JSONResponse({"detail": "down"}, 503)
    after = ask(models, shop)
    assert after.sources["opportunities"].kind == "last known"
    assert after.sources["opportunities"].age_seconds is not None
    assert after.table("opportunities").equals(before.table("opportunities"))


def test_one_old_forecast_among_fresh_ones_marks_the_part(models: Models, shop: Shop, api: Fake) -> None:
    ask(models, shop)
    api.answer = lambda path, body: (
        JSONResponse({"detail": "down"}, 503)
        if body.get("category") == "CATEGORY 03" and promoted(body) > 0
        else healthy(path, body)
    )
    answer = ask(models, shop)
    assert answer.sources["opportunities"].kind == "last known"
    by_category = {one.category: one.source.kind for one in answer.opportunities or ()}
    assert by_category["CATEGORY 03"] == "last known" and by_category["CATEGORY 02"] == "model"


def test_an_invented_number_does_not_reach_the_summary(models: Models, shop: Shop) -> None:
    summary = ask(models, shop).summary
    assert summary.source.kind == "template"
    assert {"99 units", "99"} & set(summary.rejected)
    assert "Of the clear trends, CATEGORY 02 has the strongest rise: its share of sales grew by" in summary.text
    assert "Of the clear trends, CATEGORY 07 has the strongest fall: its share of sales fell by" in summary.text


def test_a_true_text_does(models: Models, shop: Shop, api: Fake) -> None:
    def faithful(path: str, body: Body) -> Any:
        if path == "/forecast":
            return healthy(path, body)
        facts = dict(re.findall(r"^- ([\w ]+): (.+)$", body["messages"][-1]["content"], re.MULTILINE))
        return chat_answer(NOTE.format(*facts.values()))

    api.answer = faithful
    summary = ask(models, shop).summary
    assert summary.source.kind == "model", (summary.rejected, summary.text)
    assert summary.text.startswith("Last week 13,") and "CATEGORY 07 has the strongest fall" in summary.text
    assert "units of category 02 were sold" in summary.text and "next 7 days is 700 units, down" in summary.text


def test_the_headline_is_what_moved_most_money_or_else_the_largest(models: Models, shop: Shop) -> None:
    own = shop.daily_sales.query("category == 'CATEGORY 02' and open").sort_values("date")["units"].tail(7).sum()
    headline = ask(models, shop).headline
    assert (headline.category, headline.sold, headline.forecast) == ("CATEGORY 02", own, pytest.approx(700))
    assert headline.change == pytest.approx(700 / own - 1)
    still = ask(models, small_shop(days=DAYS[:60]), department="FOOD").headline
    assert still.category == "CATEGORY 01"


def test_spanish_is_a_template_and_asks_no_language_model(models: Models, shop: Shop, api: Fake) -> None:
    answer = ask(models, shop, language="es")
    assert not [path for path, _ in api.asked if path.endswith("/chat/completions")]
    assert (
        "La semana pasada" in answer.summary.text and " los próximos 7 días es de 700 unidades" in answer.summary.text
    )
    assert "English only" in answer.summary.source.why
    assert "la mayor subida es la de CATEGORY 02: su cuota de ventas creció un" in answer.summary.text
    reasons = " ".join(one.reason for one in answer.recommendations)
    assert "Pascua" in reasons and " the " not in reasons


def test_too_short_a_history_leaves_parts_out_and_says_why(models: Models) -> None:
    answer = ask(models, small_shop(days=DAYS[:60]))
    assert not unstated_numbers(answer)
    assert answer.trends is None and answer.seasons is None and answer.opportunities is None
    assert "ordinary weeks" in answer.sources["trends"].why
    assert answer.table("trends").empty
    assert "category" in answer.table("trends").columns
    assert answer.summary.text


def test_no_more_forecasts_at_once_than_the_setting_allows(models: Models, api: Fake) -> None:
    growing = {f"CATEGORY {place:02}": 1 + 0.5 * YEAR for place in range(12)}
    busy, most, lock = [0], [0], threading.Lock()

    def slow(path: str, body: Body) -> Any:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.1)
        with lock:
            busy[0] -= 1
        return healthy(path, body)

    api.answer = slow
    ask(models, small_shop(growing))
    assert len(forecasts(api)) == 1 + 2 * market.CANDIDATES
    assert 2 <= most[0] <= settings.chain_concurrency


def test_the_data_is_worked_through_once_however_many_ask(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Shop] = []

    def counted(shop: Shop) -> tuple[()]:
        calls.append(shop)
        time.sleep(0.05)
        return ()

    monkeypatch.setattr(market, "_all_pairs", market._once(counted))
    shop = small_shop()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(models, shop, language="es"), range(4)))
    assert calls == [shop]


def test_steps_are_visible_and_independent_ones_run_beside_each_other(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3, timeout=60)  # nobody gets on before all three have begun

    def meeting(part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            together.wait()
            return part(*args)

        return run

    for name in ("_trends", "_seasons", "_pairs"):
        monkeypatch.setattr(market, name, meeting(getattr(market, name)))
    steps = StepTimes()
    market_chain(models, small_shop(FACTORS)).invoke({}, config={"callbacks": [steps]})
    table = steps.table().set_index("step")
    assert {"trends", "seasons", "substitutes and complements", "opportunities", "summary"} <= set(table.index)
    assert table["failed"].eq("").all()


def test_batches_answer_in_the_order_of_the_questions(models: Models, shop: Shop) -> None:
    questions = [{"department": name, "language": "es"} for name in ("HOME", "FOOD", None)]
    answers = market_chain(models, shop).batch(questions, config={"max_concurrency": 2})
    assert [one.department for one in answers] == ["HOME", "FOOD", None]


def test_tables_have_names(models: Models, shop: Shop) -> None:
    answer = ask(models, shop, language="es")
    with pytest.raises(KeyError, match="the tables are trends, seasons"):
        answer.table("profits")  # type: ignore[arg-type]
    again = MarketAnalysis.model_validate_json(answer.model_dump_json())
    assert again == answer


def test_numbers_are_written_as_in_the_language() -> None:
    assert percent(-0.301, "en", signed=True) == "−30%"
    assert percent(0.004, "es") == "0,4 %"
    numbers = {"ratio": 2.68, "extra_units": 1815.4}
    text = reason("stock up", numbers, "es", "Easter")
    assert text == "En la semana previa a Pascua se vendió 2,7 veces lo de las semanas normales, 1.815 unidades más."
    assert reason("stock up", numbers, "es", "Labor Day").startswith("En la semana previa al Labor Day se")
    assert reason("stock up", numbers, "en", "Labor Day").startswith("In the week up to Labor Day it sold 2.7 times")


def test_an_action_is_told_with_its_subject() -> None:
    assert f"{ACTIONS['en']['stock up']} EGGS" == "stock up on EGGS"
    assert ACTIONS["en"].keys() == ACTIONS["es"].keys()


def test_the_courses_shop_answers_within_seconds(models: Models) -> None:
    shop = load_shop()
    whole = ask(models, shop)
    assert len(whole.table("recommendations")) >= 8
    assert set(whole.table("pairs")["relation"]) == {"substitutes", "complements"}
    began = time.perf_counter()
    for department in shop.departments:
        assert ask(models, shop, department=department, language="es").sources["trends"].kind == "data"
    assert time.perf_counter() - began < 5 * len(shop.departments)
