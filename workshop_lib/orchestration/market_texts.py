"""Texts of a market analysis in English and Spanish: reasons, overview, and what the language model shall word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from workshop_lib.orchestration import product_texts
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.market_results import AHEAD_DAYS, Action, Headline, Trend

Language = Literal["en", "es"]

_FEASTS_ES = {
    "Easter": "Pascua", "New Year's Day": "Año Nuevo", "Memorial Day": "el Memorial Day",
    "Independence Day": "el Día de la Independencia", "Labor Day": "el Labor Day",
    "Thanksgiving Day": "el Día de Acción de Gracias", "Christmas Day": "Navidad",
}  # fmt: skip
_MONTHS_ES = {
    "January": "enero", "February": "febrero", "March": "marzo", "April": "abril", "May": "mayo", "June": "junio",
    "July": "julio", "August": "agosto", "September": "septiembre", "October": "octubre", "November": "noviembre",
    "December": "diciembre",
}  # fmt: skip
ACTIONS: dict[Language, dict[Action, str]] = {
    "en": {
        "promote": "promote", "stock up": "stock up on", "look into": "look into", "place together": "place together",
        "promote apart": "promote apart",
    },
    "es": {
        "promote": "promocionar", "stock up": "pedir más", "look into": "investigar",
        "place together": "colocar juntos", "promote apart": "promocionar por separado",
    },
}  # fmt: skip
"""What to call an action in front of people; the subject follows."""

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
        "promote": "Su cuota de ventas creció un {growth} en el año. El {mailer_share} estuvo en el folleto el"
        " último trimestre; lo habitual es el {usual_share}. El modelo de pronóstico espera {extra_units} unidades más"
        " en una semana de promoción fuerte.",
        "promote, no forecast": "Su cuota de ventas creció un {growth} en el año. El {mailer_share} estuvo en el"
        " folleto el último trimestre; lo habitual es el {usual_share}. El modelo de pronóstico no dio ninguna"
        " cifra para una promoción.",
        "unsure": " El crecimiento puede ser casualidad.",
        "stock up": "En la semana previa {to_part} se vendió {ratio} veces lo de las semanas normales, {extra_units}"
        " unidades más.",
        "look into": "Su cuota de ventas cayó un {growth} en el año (intervalo de {lower} a {upper}).",
        "place together": "{together} cestas tenían ambos; por azar serían {expected}.",
        "promote apart": "{together} cestas tenían ambos; por azar serían {expected}: uno ocupa el lugar del otro.",
    },
}  # fmt: skip


_OVERVIEW: dict[Language, dict[str, str]] = {
    "en": {
        "sold": "Last week {units} units of {scope} were sold.",
        "up": "Of the clear trends, {name} has the strongest rise: its share of sales grew by {growth} over the year.",
        "down": "Of the clear trends, {name} has the strongest fall: its share of sales fell by {growth} over the"
        " year.",
        "still": "No category clearly grew or fell over the year.",
        "first": "First recommendation: {advice}.",
    },
    "es": {
        "sold": "La semana pasada se vendieron {units} unidades de {scope}.",
        "up": "Entre las tendencias claras, la mayor subida es la de {name}: su cuota de ventas creció un {growth} en"
        " el año.",
        "down": "Entre las tendencias claras, la mayor caída es la de {name}: su cuota de ventas cayó un {growth} en"
        " el año.",
        "still": "Ninguna categoría creció ni cayó con claridad en el año.",
        "first": "Primera recomendación: {advice}.",
    },
}  # fmt: skip


def percent(value: float, language: Language, signed: bool = False) -> str:
    """A share or a change as percent; small ones with a decimal."""
    sign = "+" if signed and value > 0 else "−" if value < 0 else ""
    digits = 1 if 0 < abs(value) < 0.095 else 0
    return sign + Labels(language).percent(abs(value), digits)


def part_name(part: str, language: Language) -> str:
    """A holiday or a month as people call it."""
    return part if language == "en" else _FEASTS_ES.get(part) or _MONTHS_ES.get(part) or part


def reason(
    action: Action, numbers: Mapping[str, float], language: Language, part: str = "", unsure: bool = False
) -> str:
    """Why to do it, with the figures.

    Args:
        action: what to do.
        numbers: the figures of the recommendation.
        language: of the text.
        part: the holiday, where there is one.
        unsure: whether the trend behind it is no more than a hint.
    """
    say, named = Labels(language), part_name(part, language)
    shown = {
        name: percent(value, language, signed=True) if name in ("lower", "upper")
        else percent(abs(value), language) if name in ("growth", "mailer_share", "usual_share")
        else say.number(value, 1 if name == "ratio" else 0)
        for name, value in numbers.items()
    }  # fmt: skip
    known = _REASONS[language]
    text = known["promote, no forecast" if action == "promote" and "extra_units" not in numbers else action]
    text += known["unsure"] if unsure else ""
    return text.format(**shown, part=named, to_part=f"a {named}".replace("a el ", "al "))


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
    said = [words["sold"].format(units=Labels(language).number(sold), scope=scope(department, language))]
    said += [words["up"].format(name=up.category, growth=percent(up.growth, language))] if up else []
    said += [words["down"].format(name=down.category, growth=percent(abs(down.growth), language))] if down else []
    said += [] if up or down else [words["still"]]
    said += [words["first"].format(advice=first)] if first else []
    return " ".join(said)


def note(headline: Headline, language: Language) -> tuple[dict[str, str], str]:
    """Facts of the headline for the language model, always in English, and the same as a fixed text.

    Every number is about the one category: a small model mixes things up as soon as there are two.
    """
    text = product_texts.summary(headline.category, AHEAD_DAYS, headline.sold, headline.forecast, language)
    return product_texts.figures(AHEAD_DAYS, headline.sold, headline.forecast), text


def scope(department: str | None, language: Language) -> str:
    """What the analysis is about."""
    return department or ("the whole shop" if language == "en" else "toda la tienda")
