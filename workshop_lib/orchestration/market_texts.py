"""Texts of a market analysis in English and Spanish: reasons, overview, and what the language model shall word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from workshop_lib.orchestration.market_results import Action, Headline, Trend

Language = Literal["en", "es"]

_FEASTS_ES = {
    "Easter": "Pascua", "New Year's Day": "Año Nuevo", "Memorial Day": "el Memorial Day",
    "Independence Day": "el Día de la Independencia", "Labor Day": "el Labor Day",
    "Thanksgiving Day": "Acción de Gracias", "Christmas Day": "Navidad",
}  # fmt: skip
_MONTHS_ES = {
    "January": "enero", "February": "febrero", "March": "marzo", "April": "abril", "May": "mayo", "June": "junio",
    "July": "julio", "August": "agosto", "September": "septiembre", "October": "octubre", "November": "noviembre",
    "December": "diciembre",
}  # fmt: skip
ACTIONS: dict[Language, dict[Action, str]] = {
    "en": {
        "promote": "promote", "stock up": "stock up", "look into": "look into", "place together": "place together",
        "promote apart": "promote apart",
    },
    "es": {
        "promote": "promocionar", "stock up": "aumentar existencias", "look into": "investigar",
        "place together": "colocar juntos", "promote apart": "promocionar por separado",
    },
}  # fmt: skip
"""What to call an action in front of people."""

_REASONS: dict[Language, dict[str, str]] = {
    "en": {
        "promote": "Its share of sales grew by {growth} over the year. {mailer_share} of it was in the mailer last"
        " quarter, where {usual_share} is usual. The forecaster expects {extra_units} more units in a week of strong"
        " promotion.",
        "promote, no forecast": "Its share of sales grew by {growth} over the year. {mailer_share} of it was in the"
        " mailer last quarter, where {usual_share} is usual. The forecaster gave no figure for a promotion.",
        "unsure": " The growth may be chance.",
        "stock up": "In the week up to {part} it sold {ratio} times as much as in ordinary weeks, {extra_units} units"
        " more.",
        "look into": "Its share of sales fell by {growth} over the year (interval from {lower} to {upper}).",
        "place together": "{together} baskets held both, where chance would bring {expected}.",
        "promote apart": "{together} baskets held both, where chance would bring {expected}: one takes the other's"
        " place.",
    },
    "es": {
        "promote": "Su parte de las ventas creció un {growth} en el año. El {mailer_share} estuvo en el folleto el"
        " último trimestre; lo habitual es el {usual_share}. El modelo espera {extra_units} unidades más en una"
        " semana de promoción fuerte.",
        "promote, no forecast": "Su parte de las ventas creció un {growth} en el año. El {mailer_share} estuvo en el"
        " folleto el último trimestre; lo habitual es el {usual_share}. El modelo no dio cifra para una promoción.",
        "unsure": " El crecimiento puede ser casualidad.",
        "stock up": "En la semana hasta {part} se vendió {ratio} veces lo de las semanas corrientes, {extra_units}"
        " unidades más.",
        "look into": "Su parte de las ventas cayó un {growth} en el año (intervalo de {lower} a {upper}).",
        "place together": "{together} cestas tenían ambos; por azar serían {expected}.",
        "promote apart": "{together} cestas tenían ambos; por azar serían {expected}: uno ocupa el lugar del otro.",
    },
}  # fmt: skip


_OVERVIEW: dict[Language, dict[str, str]] = {
    "en": {
        "sold": "Last week {units} units of {scope} were sold.",
        "up": "{name} grew most, by {growth} over the year.",
        "down": "{name} fell most, by {growth} over the year.",
        "still": "No category clearly grew or fell over the year.",
        "first": "First recommendation: {advice}.",
        "note": "Last week {units} units of {name} were sold. The forecast for this week is {forecast} units,"
        " {way} {change}.",
        "more": "up", "less": "down",
    },
    "es": {
        "sold": "La semana pasada se vendieron {units} unidades de {scope}.",
        "up": "{name} fue lo que más creció: {growth} en el año.",
        "down": "{name} fue lo que más cayó: {growth} en el año.",
        "still": "Ninguna categoría creció ni cayó con claridad en el año.",
        "first": "Primera recomendación: {advice}.",
        "note": "La semana pasada se vendieron {units} unidades de {name}. La previsión para esta semana es de"
        " {forecast} unidades, un {change} {way}.",
        "more": "más", "less": "menos",
    },
}  # fmt: skip


def number(value: float, language: Language, digits: int = 0) -> str:
    """A number for reading; Spanish swaps point and comma."""
    text = f"{value:,.{digits}f}"
    return text if language == "en" else text.translate(str.maketrans(",.", ".,"))


def percent(value: float, language: Language, signed: bool = False) -> str:
    """A share or a change as percent; small ones with a decimal."""
    sign = "+" if signed and value > 0 else "−" if value < 0 else ""
    digits = 1 if 0 < abs(value) < 0.095 else 0
    return f"{sign}{number(abs(value) * 100, language, digits)}{'%' if language == 'en' else ' %'}"


def part_name(part: str, language: Language) -> str:
    """A feast or a month as people call it."""
    return part if language == "en" else _FEASTS_ES.get(part) or _MONTHS_ES.get(part) or part


def reason(
    action: Action, numbers: Mapping[str, float], language: Language, part: str = "", unsure: bool = False
) -> str:
    """Why to do it, with the figures.

    Args:
        action: what to do.
        numbers: the figures of the recommendation.
        language: of the text.
        part: the feast, where there is one.
        unsure: whether the trend behind it is no more than a hint.
    """
    shown = {
        name: percent(value, language, signed=True) if name in ("lower", "upper")
        else percent(abs(value), language) if name in ("growth", "mailer_share", "usual_share")
        else number(value, language, 1 if name == "ratio" else 0)
        for name, value in numbers.items()
    }  # fmt: skip
    known = _REASONS[language]
    text = known["promote, no forecast" if action == "promote" and "extra_units" not in numbers else action]
    text += known["unsure"] if unsure else ""
    return text.format(**shown, part=part_name(part, language))


def overview(
    department: str | None, sold: float, trends: Sequence[Trend], first: str | None, language: Language
) -> str:
    """What moved and what to do, in fixed words.

    Args:
        department: the part of the shop; None for all.
        sold: units of the last seven days.
        trends: clear trends, the strongest growth first.
        first: action and subject of the first recommendation.
        language: of the text.
    """
    up = next((one for one in trends if one.growth > 0), None)
    down = next((one for one in reversed(trends) if one.growth < 0), None)
    words = _OVERVIEW[language]
    said = [words["sold"].format(units=number(sold, language), scope=scope(department, language))]
    said += [words["up"].format(name=up.category, growth=percent(up.growth, language))] if up else []
    said += [words["down"].format(name=down.category, growth=percent(abs(down.growth), language))] if down else []
    said += [] if up or down else [words["still"]]
    said += [words["first"].format(advice=first)] if first else []
    return " ".join(said)


def note(headline: Headline, language: Language) -> tuple[dict[str, str], str]:
    """Facts of the headline for the language model, always in English, and the same as a fixed text.

    Every number is about the one category: a small model mixes things up as soon as there are two.
    """
    forecast, change = headline.forecast or 0.0, headline.change or 0.0
    facts = {
        "sold last week": f"{number(headline.sold, 'en')} units",
        "forecast": f"{number(forecast, 'en')} units",
        "change": f"{'down' if change < 0 else 'up'} {percent(abs(change), 'en')}",
    }
    words = _OVERVIEW[language]
    text = words["note"].format(
        name=headline.category,
        units=number(headline.sold, language),
        forecast=number(forecast, language),
        way=words["less" if change < 0 else "more"],
        change=percent(abs(change), language),
    )
    return facts, text


def scope(department: str | None, language: Language) -> str:
    """What the analysis is about."""
    return department or ("the whole shop" if language == "en" else "toda la tienda")
