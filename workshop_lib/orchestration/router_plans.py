"""Days, prices and promotions that a question names, in English and Spanish."""

from __future__ import annotations

import datetime as dt
import re

from workshop_lib.orchestration.router_words import plain
from workshop_lib.serving.api_schemas import Promotion

MOST_DAYS = 7
"""Days that the forecaster looks ahead."""

_COUNTS = {
    **{"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7},
    **{"un": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "siete": 7},
}
_WEEKDAYS = (
    *("monday|lunes", "tuesday|martes", "wednesday|miercoles", "thursday|jueves"),
    *("friday|viernes", "saturday|sabado", "sunday|domingo"),
)
_LATER = re.compile(
    r"\b(?:(?:the )?week after|following week|after that|(?:next|coming|whole) (?:month|quarter|year)"
    r"|semana siguiente|semana despues|(?:proximo|siguiente) (?:mes|trimestre|ano)|(?:mes|ano) que viene)\b"
)
_SPAN = re.compile(rf"\b(\d{{1,4}}|{'|'.join(_COUNTS)}) (days?|dias?|weeks?|semanas?|months?|mes(?:es)?)\b")
_PERCENT = r"(\d{1,2}(?:[.,]\d+)?) ?(?:%|percent|per cent|por ciento)"
_OFF = re.compile(
    rf"{_PERCENT} (?:off|discount|cheaper|less|de (?:descuento|rebaja)|menos|mas barat)"
    rf"|\b(?:discount|descuento|rebaja\w*|reduce|lower|cut|baja\w*)\b[^.?!]{{0,30}}?{_PERCENT}"
)
_AMOUNT = r"(\d{1,3}(?:[.,]\d{1,2})?)"
_DOLLARS = re.compile(
    rf"\$ ?{_AMOUNT}|\b{_AMOUNT} ?(?:dollars?|dolares|usd|\$)"
    rf"|\b(?:price|precio|costs?|charge|cobra\w*),?(?: (?:of|de|a|is|es|at))? {_AMOUNT}(?![\d.,]*\d| ?%)"
)
_CENTS = re.compile(r"\b(\d{1,3}) (?:cents?|centavos?|centimos?)\b")
_WAYS = {
    "display_share": r"displays?|expositor(?:es)?",
    "front_page_share": r"front page|portada",
    "mailer_share": r"mailer|leaflet|flyer|folleto",
}


def days(text: str, last_day: dt.date) -> tuple[int | None, bool]:
    """How many days ahead a question looks, and whether that is further than the forecaster does.

    Args:
        text: the question.
        last_day: the last day whose sales are known; "by Friday" counts from the day after.
    """
    bare = plain(text)
    if _LATER.search(bare):
        return None, True
    if span := _SPAN.search(bare):
        number = _COUNTS.get(span[1]) or int(span[1])
        number *= {"d": 1, "w": 7, "s": 7, "m": 30}[span[2][0]]
        return (number, False) if 1 <= number <= MOST_DAYS else (None, number > MOST_DAYS)
    for weekday, names in enumerate(_WEEKDAYS):
        if re.search(rf"\b(?:until|till|by|hasta|para)(?: el| next| the end of)? (?:{names})\b", bare):
            return (weekday - last_day.weekday() - 1) % 7 + 1, False
    if re.search(r"\b(?:tomorrow|manana)\b", bare):
        return 1, False
    return (7 if re.search(r"\b(?:week|semana)\b", bare) else None), False


def price(text: str) -> tuple[float | None, float | None]:
    """A planned price in dollars, and a planned discount as a share of the price."""
    bare = plain(text)
    off, dollars, cents = _OFF.search(bare), _DOLLARS.search(bare), _CENTS.search(bare)
    share = _number(off) / 100 if off else None
    value = _number(dollars) if dollars else _number(cents) / 100 if cents else None
    return value or None, share or None


def promotion(text: str) -> Promotion | None:
    """A planned promotion; one without a share is meant for everything that is sold."""
    bare = plain(text)
    part = re.search(_PERCENT.replace("1,2", "1,3"), bare) if not _OFF.search(bare) else None
    share = min(_number(part) / 100, 1.0) if part else 0.5 if re.search(r"\b(?:half|mitad)\b", bare) else 1.0
    if re.search(rf"\b(?:without|no|sin) (?:\w+ )?(?:{'|'.join(_WAYS.values())})", bare):
        share = 0.0
    plan = {way: share for way, names in _WAYS.items() if re.search(rf"\b(?:{names})\b", bare)}
    return Promotion(**plan) if plan else None


def _number(match: re.Match[str]) -> float:
    return float(next(group for group in match.groups() if group).replace(",", "."))
