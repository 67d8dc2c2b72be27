"""Fixed wordings of a product analysis, in English and Spanish, and the figures that a text about it may state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.wording_check import clean

Language = Literal["en", "es"]
_SPANISH = {
    "store brand": "marca propia", "national brand": "marca nacional", "ounces": "onzas", "ounce": "onza",
    "pounds": "libras", "pound": "libra", "pieces": "unidades", "piece": "unidad", "gallons": "galones",
    "gallon": "galón", "quarts": "cuartos", "quart": "cuarto", "pints": "pintas", "pint": "pinta",
    "milliliters": "mililitros", "liters": "litros", "liter": "litro", "grams": "gramos", "dozen": "docena(s)",
    "rolls": "rollos", "roll": "rollo", "packs": "paquetes", "pack": "paquete", "loads": "lavados",
    "feet": "pies", "foot": "pie", "square feet": "pies cuadrados", "yards": "yardas", "inches": "pulgadas",
}  # fmt: skip
_ARTICLES = {"store brand": "our store brand", "national brand": "a national brand"}
_CHANGES = {
    "en": ("no comparison", "no change", "up {}", "down {}"),
    "es": ("sin comparación", "sin cambio", "{} más", "{} menos"),
}


def figures(days: int, sold: float, forecast: float | None) -> dict[str, str]:
    """Units sold on days on which the shop opened, and units forecast, as facts: label and value."""
    say = Labels("en")
    found = {f"sold in the last {f'{days} open days' if days > 1 else 'open day'}": f"{say.number(sold)} units"}
    if forecast is not None:
        found[f"forecast for the next {f'{days} days' if days > 1 else 'day'}"] = f"{say.number(forecast)} units"
        found["change"] = _change(sold, forecast, "en")
    return found


def summary(name: str, days: int, sold: float, forecast: float | None, language: Language) -> str:
    """Two sentences about the figures."""
    name, say = _capital(clean(name)), Labels(language)
    units, ahead_units = say.number(sold), "" if forecast is None else say.number(forecast)
    change = "" if forecast is None else _change(sold, forecast, language)
    if language == "es":
        span = f"{days} días" if days > 1 else "día"
        past = f"{'los últimos' if days > 1 else 'el último'} {span} de apertura"
        first = f"{name}: en {past} se vendieron {units} unidades."
        if forecast is None:
            return f"{first} No hay pronóstico."
        ahead = f"{'los próximos' if days > 1 else 'el próximo'} {span}"
        return f"{first} El pronóstico para {ahead} es de {ahead_units} unidades ({change})."
    span = f"{days} days" if days > 1 else "day"
    past = f"{days} open days" if days > 1 else "open day"
    first = f"{name}: {units} units were sold in the last {past}."
    if forecast is None:
        return f"{first} There is no forecast."
    return f"{first} The forecast for the next {span} is {ahead_units} units ({change})."


def description(facts: Mapping[str, str], language: Language) -> str:
    """A product's facts as one or two plain sentences."""
    known = {label: clean(value) for label, value in facts.items()}
    if language == "es":
        brand = f", {_in_spanish(known['brand'])}" if "brand" in known else ""
        size = f"Contenido: {Labels(language).rewritten(_in_spanish(known['size']))}." if "size" in known else ""
        price = f"Precio: {Labels(language).rewritten(known['price'])}." if "price" in known else ""
    else:
        brand = f" from {_ARTICLES.get(known['brand'], known['brand'])}" if "brand" in known else ""
        size = f"Package: {known['size']}." if "size" in known else ""
        price = f"Price: {known['price']}." if "price" in known else ""
    return " ".join(part for part in (f"{_capital(known['product'])}{brand}.", size, price) if part)


def _change(sold: float, forecast: float, language: Language) -> str:
    none, same, more, less = _CHANGES[language]
    if sold <= 0:
        return none
    percent = round(100 * (forecast / sold - 1))
    return (more if percent > 0 else less if percent < 0 else same).format(Labels(language).percent(abs(percent) / 100))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _in_spanish(text: str) -> str:
    """A brand or a size; the longest known word first, so that "square feet" is not taken for feet."""
    for english in sorted(_SPANISH, key=len, reverse=True):
        if text == english or text.endswith(f" {english}"):
            return text.removesuffix(english) + _SPANISH[english]
    return text
