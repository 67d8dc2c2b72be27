"""A reply's text from a typed answer: the chain's own checked texts, and sentences around them in two languages."""

from __future__ import annotations

from workshop_lib.orchestration.customer import CustomerInsight
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.market_results import MarketAnalysis
from workshop_lib.orchestration.market_texts import ACTIONS
from workshop_lib.orchestration.product import ProductAnalysis
from workshop_lib.orchestration.results import Answer
from workshop_lib.orchestration.router_words import Language

MOST_RECOMMENDATIONS = 3
"""Recommendations that a reply names; the answer holds all."""
MOST_NAMES = 3
"""Products or categories in a row."""
_HOUSEHOLD = {
    "en": {
        "history": "Household {id}: {baskets} baskets, {spend}, last visit {days} days before the data ends.",
        "likes": "It often buys: {names}.",
        "offers": "It may like: {names}.",
        "message": "Message: “{text}”",
    },
    "es": {
        "history": "Hogar {id}: {baskets} cestas, {spend}; última visita {days} días antes del último dato.",
        "likes": "Compra a menudo: {names}.",
        "offers": "Quizá le guste: {names}.",
        "message": "Mensaje: «{text}»",
    },
}  # fmt: skip
_STAND_INS = {
    "last known": ("The last known value stands in for: {parts} ({age} old).",
                   "Se usa el último valor conocido de: {parts} (de hace {age})."),
    "missing": ("Missing at the moment: {parts}.", "Falta en este momento: {parts}."),
}  # fmt: skip
_PARTS = {
    "forecast": "pronóstico", "stock": "existencias", "price": "precio", "description": "descripción",
    "summary": "resumen", "features": "datos", "without_plan": "pronóstico sin plan",
    "churn": "probabilidad de abandono", "offer": "oferta", "message": "mensaje", "signs": "señales",
    "trends": "tendencias", "seasons": "temporadas", "pairs": "pares", "opportunities": "oportunidades",
    "recommendations": "recomendaciones", "headline": "titular",
}  # fmt: skip


def reply_text(answer: Answer, language: Language) -> str:
    """What to say to the one who asked; every number is one of the answer's."""
    if isinstance(answer, ProductAnalysis):
        advice = [part.text for part in (answer.stock, answer.price) if part]
        said = [answer.summary.text, *advice]
    elif isinstance(answer, MarketAnalysis):
        advice = [
            f"{ACTIONS[language][one.action].capitalize()} {one.subject}: {one.reason}"
            for one in answer.recommendations[:MOST_RECOMMENDATIONS]
        ]
        said = [answer.summary.text, *advice]
    else:
        assert isinstance(answer, CustomerInsight)
        said = _about_household(answer, language)
    return " ".join([*said, *_stand_ins(answer, language)])


def _about_household(insight: CustomerInsight, language: Language) -> list[str]:
    words, history, say = _HOUSEHOLD[language], insight.history, Labels(language)
    figures = {
        "id": insight.household_id,
        "baskets": say.number(history.baskets),
        "spend": say.dollars(history.spend),
        "days": say.number(history.days_since),
    }
    lists = {
        "likes": [one.name for one in insight.preferences.favourites[:MOST_NAMES]],
        "offers": [one.name for one in insight.recommendations[:MOST_NAMES]],
    }
    said = [words["history"].format(**figures)]
    said += [words[key].format(names="; ".join(names)) for key, names in lists.items() if names]
    said += [insight.offer.text] if insight.offer else []
    return [*said, words["message"].format(text=insight.message.text)] if insight.message.text else said


def _stand_ins(answer: Answer, language: Language) -> list[str]:
    """Which parts are missing or not fresh; a template is as true as what it words, and needs no warning."""
    say = Labels(language)
    found: dict[str, list[str]] = {}
    ages = [source.age_seconds for source in answer.degraded.values() if source.age_seconds is not None]
    for part, source in answer.degraded.items():
        if source.kind in _STAND_INS:
            name = part.replace("_", " ")
            found.setdefault(source.kind, []).append(_PARTS.get(part, name) if language == "es" else name)
    return [
        _STAND_INS[kind][language == "es"].format(parts=", ".join(parts), age=say.age(max(ages, default=0)))
        for kind, parts in found.items()
    ]
