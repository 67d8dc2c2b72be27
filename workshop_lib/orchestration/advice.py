"""Advice on stock and price: rules with their sources, applied to a forecast and to the category's own history.

Stock: the newsvendor rule (Arrow, Harris, Marschak 1951). Who orders for some days has enough with the probability
``shortage / (shortage + surplus)`` when both are what one unit too few and one too many cost.

Price: how sales answered to the category's own prices (the elasticity), and what a step would do to the profit.
Prices are compared product by product (a Törnqvist index), so that a week in which people bought the cheaper products
is no price cut. The estimate comes with its uncertainty, and without a usable estimate there is no advice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import statsmodels.api as sm
from pydantic import Field
from scipy.stats import norm

from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.results import Forecast, Frozen
from workshop_lib.orchestration.shop import Shop
from workshop_lib.predictive.features import PLANS

Language = Literal["en", "es"]
Range = tuple[float, float]
Amount: TypeAlias = "float | np.ndarray"

FRESH = frozenset({"PRODUCE", "MEAT", "DELI", "PASTRY", "SEAFOOD", "FLORAL", "SALAD BAR", "CHEF SHOPPE"})
"""Departments whose goods cannot wait for next week."""
STEP = 0.05
"""A price change that a shop can try: 5%."""
FEWEST_WEEKS, WIDEST, SMALLEST_MOVES = 30, 2.0, 0.02
"""An elasticity is usable from so many weeks, up to this width of its interval, from such weekly price changes (2%)."""
CONFIDENCE = 0.95
SAME = 1e-9
"""What varies less than this does not vary: rounding."""


class Costs(Frozen):
    """Assumptions about money that the shop's data does not hold. Whoever knows better figures hands them over."""

    margin: float = Field(0.3, gt=0, lt=1, description="share of the price that is left after buying the goods")
    fresh_loss: float = Field(0.5, ge=0, le=1, description="share of the buying price lost on a fresh unit left over")
    shelf_loss: float = Field(0.05, ge=0, le=1, description="the same for goods that keep: storage and capital")


class Elasticity(Frozen):
    """By how many percent sales change when the price rises by one percent."""

    value: float | None
    lower: float | None
    upper: float | None
    weeks: int = Field(description="changes from week to week that it was estimated from")
    moves: float = Field(description="standard deviation of the weekly price change, as a share")
    usable: bool
    reason: Literal["usable", "few weeks", "steady prices", "no clear sign", "too uncertain"]


class StockAdvice(Frozen):
    """How much should be there, on the shelf and on its way, for the days of the forecast."""

    days: int
    expected: float = Field(description="units, from the forecast")
    shortage_cost: float = Field(description="dollars that a missing unit costs: the margin")
    surplus_cost: float = Field(description="dollars that a unit left over costs")
    service_level: float = Field(description="probability that the stock is enough, by the newsvendor rule")
    order_up_to: int = Field(description="units when a bad day is followed by bad days: the safe side")
    if_independent: int = Field(description="units when the days' errors have nothing to do with each other")
    text: str


class PriceAdvice(Frozen):
    """What the history says about a price step."""

    action: Literal["raise", "lower", "keep", "none"]
    price_now: float = Field(description="dollars per unit over the last week")
    price: float | None = Field(None, description="the price that was looked at")
    units_change: Range | None = Field(None, description="lower and upper end, as shares")
    profit_change: Range | None = Field(None, description="the same of the profit, under the assumed margin")
    text: str


_WORDS = {
    "en": {
        "stock": "Have {order} units for the next {days} days: the forecast is {expected}, and this stock should be"
        " enough in about {level} of cases. A unit short costs {short}, one left over {surplus} (assumed).",
        "few weeks": "No price advice: the history is too short.",
        "steady prices": "No price advice: the prices hardly moved, so nothing shows how sales would answer.",
        "no clear sign": "No price advice: in the history sales do not clearly answer to the price.",
        "too uncertain": "No price advice: the estimate of how sales answer to the price is too uncertain.",
        "far": "No price advice: {price} is further from {now} than weekly prices usually move.",
        "try": "Try {price} instead of {now}: sales would change by {low} to {high}, and at the assumed"
        " margin of {margin} these sales would bring more profit.",
        "keep": "Keep {now}: no step of 5% is sure to raise the profit at the assumed margin of {margin}.",
        "against": "Keep {now}: at {price} sales would change by {low} to {high}, and at the assumed margin"
        " of {margin} the profit would fall.",
        "none": "No price advice: at {price} sales would change by {low} to {high}, and the profit may rise or fall.",
    },
    "es": {
        "stock": "Ten {order} unidades para los próximos {days} días: el pronóstico es de {expected}, y estas"
        " existencias deberían bastar en cerca del {level} de los casos. Una unidad que falta cuesta {short};"
        " una que sobra, {surplus} (supuesto).",
        "few weeks": "Sin consejo de precio: el historial es demasiado corto.",
        "steady prices": "Sin consejo de precio: los precios apenas cambiaron y no se ve cómo responderían las ventas.",
        "no clear sign": "Sin consejo de precio: en el historial las ventas no responden con claridad al precio.",
        "too uncertain": "Sin consejo de precio: la estimación de cómo responden las ventas es demasiado incierta.",
        "far": "Sin consejo de precio: {price} está más lejos de {now} de lo que suelen moverse los precios.",
        "try": "Prueba {price} en lugar de {now}: las ventas cambiarían entre {low} y {high}, y con el"
        " margen supuesto del {margin} estas ventas darían más beneficio.",
        "keep": "Mantén {now}: con el margen supuesto del {margin}, ningún cambio del 5 % sube el beneficio con"
        " seguridad.",
        "against": "Mantén {now}: con {price} las ventas cambiarían entre {low} y {high}, y con el"
        " margen supuesto del {margin} bajaría el beneficio.",
        "none": "Sin consejo de precio: con {price} las ventas cambiarían entre {low} y {high}; el beneficio"
        " puede subir o bajar.",
    },
}


def stock_advice(
    forecast: Forecast, price: float, department: str, costs: Costs | None = None, language: Language = "en"
) -> StockAdvice:
    """How much to have in stock for the days of a forecast.

    Args:
        forecast: with an interval per day.
        price: dollars per unit.
        department: decides whether the goods keep.
        costs: assumptions about margin and leftovers.
        language: of the sentence.
    """
    costs, say = costs or Costs(), Labels(language)
    shortage = price * costs.margin
    surplus = price * (1 - costs.margin) * (costs.fresh_loss if department in FRESH else costs.shelf_loss)
    level = shortage / (shortage + surplus) if shortage + surplus > 0 else 0.5
    above = np.array([quantile(day.units, day.interval.lower, day.interval.upper, day.interval.coverage, level)
                      - day.units for day in forecast.days])  # fmt: skip
    expected = forecast.total
    order = max(0, math.ceil(expected + above.sum()))
    # Errors that have nothing to do with each other add up like the sides of a right angle.
    apart = max(0, math.ceil(expected + math.copysign(float(np.sqrt((above**2).sum())), above.sum())))
    text = _WORDS[language]["stock"].format(
        order=say.number(order), days=len(forecast.days), expected=say.number(expected), level=say.percent(level),
        short=say.dollars(shortage), surplus=say.dollars(surplus),
    )  # fmt: skip
    return StockAdvice(
        days=len(forecast.days), expected=expected, shortage_cost=shortage, surplus_cost=surplus,
        service_level=level, order_up_to=order, if_independent=apart, text=text,
    )  # fmt: skip


def quantile(units: Amount, lower: Amount, upper: Amount, coverage: float, level: Amount) -> np.ndarray:
    """The units that a day stays below with a probability, from its forecast and interval.

    Above and below the forecast the spread is a normal distribution's, each side with the width that its bound
    gives. The result is never below zero. Numbers and arrays may be mixed; they are broadcast.
    """
    steps = norm.ppf(level) / norm.ppf((1 + coverage) / 2)
    width = np.where(np.asarray(level) >= 0.5, np.subtract(upper, units), np.subtract(units, lower))
    return np.maximum(0.0, units + steps * width)


@lru_cache(maxsize=256)
def elasticity(shop: Shop, category: str) -> Elasticity:
    """How the sales of a category answered to its prices, from week to week.

    The change of log units is explained by the change of the price index, of the promotion shares and of the sales of
    all other categories (which carry holidays and seasons), by ordinary least squares. The interval of 95% allows
    for errors that hang together over two weeks (Newey, West 1987).

    Args:
        shop: with transactions and daily sales.
        category: as the catalogue names it.
    """
    own = rows_of(shop, "daily_sales", category)
    own = own.groupby(_weeks(own["date"], shop.last_day))
    table = pd.concat(
        [
            np.log(own["units"].sum().clip(lower=1)).diff().rename("units"),
            price_changes(shop, category).rename("price"),
            own[list(PLANS)].mean().diff(),
            np.log((_weekly_units(shop) - own["units"].sum()).clip(lower=1)).diff().rename("others"),
        ],
        axis=1,
    )
    # The first week is cut off where the data begins.
    table = table.sort_index().iloc[2:].dropna()
    weeks, moves = len(table), float(table["price"].std(ddof=0)) if len(table) else 0.0
    if weeks < FEWEST_WEEKS or moves < SMALLEST_MOVES:
        reason: Literal["few weeks", "steady prices"] = "few weeks" if weeks < FEWEST_WEEKS else "steady prices"
        return Elasticity(value=None, lower=None, upper=None, weeks=weeks, moves=moves, usable=False, reason=reason)
    causes = table[["price", *PLANS, "others"]]
    causes = sm.add_constant(causes.loc[:, causes.std() > SAME])
    fit = sm.OLS(table["units"], causes).fit(cov_type="HAC", cov_kwds={"maxlags": 2}, use_t=True)
    lower, upper = (float(end) for end in fit.conf_int(alpha=1 - CONFIDENCE).loc["price"])
    reason_: Literal["usable", "no clear sign", "too uncertain"] = (
        "no clear sign" if upper >= 0 else "too uncertain" if upper - lower > WIDEST else "usable"
    )
    return Elasticity(
        value=float(fit.params["price"]), lower=lower, upper=upper, weeks=weeks, moves=moves,
        usable=reason_ == "usable", reason=reason_,
    )  # fmt: skip


def price_changes(shop: Shop, category: str) -> pd.Series:
    """Change of a category's price level against the week before, as logarithms, by week (0 is the last one).

    Each product that was sold in both weeks is compared with itself; its weight is its mean share of the revenue
    (the Törnqvist index).
    """
    lines = rows_of(shop, "transactions", category)
    lines = lines[lines["revenue"] > 0]
    weekly = lines.groupby(["product_id", _weeks(lines["date"], shop.last_day)])[["units", "revenue"]].sum()
    prices = np.log(weekly["revenue"] / weekly["units"]).unstack().sort_index(axis=1)
    revenue = weekly["revenue"].unstack().sort_index(axis=1).fillna(0)
    shares = revenue / revenue.sum()
    changes = prices.diff(axis=1)
    weights = ((shares + shares.shift(axis=1)) / 2).where(changes.notna())
    return (changes * weights).sum() / weights.sum().replace(0, np.nan)


def price_advice(
    estimate: Elasticity,
    price_now: float,
    asked: float | None = None,
    costs: Costs | None = None,
    language: Language = "en",
) -> PriceAdvice:
    """What an elasticity says about a price.

    A step is advised when the profit rises over the whole interval of the elasticity, at the assumed margin. The
    history shows what customers did who came anyway; it does not show who would go to another shop.

    Args:
        estimate: from :func:`elasticity`.
        price_now: dollars per unit.
        asked: the price to judge; without it a step of :data:`STEP` up and one down are tried.
        costs: assumptions about the margin.
        language: of the sentence.
    """
    margin, words, form = (costs or Costs()).margin, _WORDS[language], Labels(language)

    def say(key: str, action: Literal["raise", "lower", "keep", "none"], price: float | None) -> PriceAdvice:
        effect = _effect(estimate, price / price_now, margin) if price and estimate.usable else None
        low, high = (form.percent(end) for end in (effect[0] if effect else (0, 0)))
        said = words[key].format(
            now=form.dollars(price_now), price=form.dollars(price or 0), low=low, high=high, margin=form.percent(margin)
        )
        return PriceAdvice(
            action=action, price_now=price_now, price=price, text=said,
            units_change=effect and effect[0], profit_change=effect and effect[1],
        )  # fmt: skip

    if not estimate.usable or price_now <= 0:
        return say(estimate.reason if not estimate.usable else "few weeks", "none", asked)
    steps = [asked] if asked else [round(price_now * (1 + step), 2) for step in (STEP, -STEP)]
    for price in steps:
        if abs(math.log(price / price_now)) > 2 * max(estimate.moves, STEP):
            return say("far", "none", price).model_copy(update={"units_change": None, "profit_change": None})
        if _effect(estimate, price / price_now, margin)[1][0] > 0:
            return say("try", "raise" if price > price_now else "lower", price)
    if asked is None:
        return say("keep", "keep", None)
    worst_to_best = _effect(estimate, asked / price_now, margin)[1]
    return say("against", "keep", asked) if worst_to_best[1] <= 0 else say("none", "none", asked)


def _effect(estimate: Elasticity, ratio: float, margin: float) -> tuple[Range, Range]:
    """Change of units and of profit, as shares, at both ends of the elasticity's interval, the lower one first."""
    assert estimate.lower is not None and estimate.upper is not None
    units = sorted(ratio**end - 1 for end in (estimate.lower, estimate.upper))
    per_unit = (ratio - (1 - margin)) / margin
    profits = sorted(per_unit * (1 + change) - 1 for change in units)
    return (units[0], units[1]), (profits[0], profits[1])


def sales_of(shop: Shop, category: str) -> pd.DataFrame:
    """Daily sales of one category in the order of the days."""
    return rows_of(shop, "daily_sales", category).sort_values("date")


@lru_cache(maxsize=4)
def _places(shop: Shop, table: str) -> dict[str, np.ndarray]:
    """Per category the places of its rows: comparing a million names anew for every question takes too long."""
    places: dict[str, np.ndarray] = getattr(shop, table).groupby("category", sort=False).indices
    return places


def rows_of(shop: Shop, table: str, category: str) -> pd.DataFrame:
    """The rows of one category in one of the shop's tables."""
    frame: pd.DataFrame = getattr(shop, table)
    return frame.iloc[_places(shop, table).get(category, [])]


@lru_cache(maxsize=2)
def _weekly_units(shop: Shop) -> pd.Series:
    """Units of the whole shop by week."""
    return shop.daily_sales.groupby(_weeks(shop.daily_sales["date"], shop.last_day))["units"].sum()


def _weeks(dates: pd.Series, last_day: pd.Timestamp) -> pd.Series:
    """Weeks of seven days counted back from the last day: 0 is the last one, -1 the one before."""
    return (-((last_day - dates).dt.days // 7)).rename("week")
