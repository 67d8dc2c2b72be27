"""Fixed wordings of a product analysis, in English and Spanish, and the figures that a text about it may state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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


def figures(days: int, sold: int, forecast: int | None) -> dict[str, str]:
    """Units sold and forecast as facts: label and value."""
    span = f"{days} days" if days > 1 else "day"
    found = {f"sold in the last {span}": f"{sold:,} units"}
    if forecast is not None:
        found[f"forecast for the next {span}"] = f"{forecast:,} units"
        found["change"] = _change(sold, forecast)
    return found


def summary(name: str, days: int, sold: int, forecast: int | None, language: Language) -> str:
    """Two sentences about the figures."""
    name = _capital(clean(name))
    if language == "es":
        span = f"{days} días" if days > 1 else "día"
        past = f"{'los últimos' if days > 1 else 'el último'} {span}"
        first = f"{name}: en {past} se vendieron {sold:,} unidades."
        if forecast is None:
            return f"{first} No hay pronóstico."
        ahead = f"{'los próximos' if days > 1 else 'el próximo'} {span}"
        return f"{first} El pronóstico para {ahead} es de {forecast:,} unidades ({_cambio(sold, forecast)})."
    span = f"{days} days" if days > 1 else "day"
    first = f"{name}: {sold:,} units were sold in the last {span}."
    if forecast is None:
        return f"{first} There is no forecast."
    return f"{first} The forecast for the next {span} is {forecast:,} units ({_change(sold, forecast)})."


def description(facts: Mapping[str, str], language: Language) -> str:
    """A product's facts as one or two plain sentences."""
    known = {label: clean(value) for label, value in facts.items()}
    if language == "es":
        brand = f", {_in_spanish(known['brand'])}" if "brand" in known else ""
        size = f"Contenido: {_in_spanish(known['size'])}." if "size" in known else ""
        price = f"Precio: {known['price']}." if "price" in known else ""
    else:
        brand = f" from {_ARTICLES.get(known['brand'], known['brand'])}" if "brand" in known else ""
        size = f"Package: {known['size']}." if "size" in known else ""
        price = f"Price: {known['price']}." if "price" in known else ""
    return " ".join(part for part in (f"{_capital(known['product'])}{brand}.", size, price) if part)


def _change(sold: int, forecast: int) -> str:
    if sold <= 0:
        return "no comparison"
    percent = round(100 * (forecast / sold - 1))
    return f"up {percent}%" if percent > 0 else f"down {-percent}%" if percent < 0 else "no change"


def _cambio(sold: int, forecast: int) -> str:
    if sold <= 0:
        return "sin comparación"
    percent = round(100 * (forecast / sold - 1))
    return f"{percent} % más" if percent > 0 else f"{-percent} % menos" if percent < 0 else "sin cambio"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _in_spanish(text: str) -> str:
    """A brand or a size; the longest known word first, so that "square feet" is not taken for feet."""
    for english in sorted(_SPANISH, key=len, reverse=True):
        if text == english or text.endswith(f" {english}"):
            return text.removesuffix(english) + _SPANISH[english]
    return text
