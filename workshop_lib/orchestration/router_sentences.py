"""What the router says, in English and Spanish."""

from __future__ import annotations

from workshop_lib.orchestration.router_words import Language

_ASK = {
    "en": "You can ask about a category or product (“{category}: how much will we sell tomorrow?”), a household by its"
    " number (“What does household {household} like?”) or the market (“Which categories are growing?”).",
    "es": "Puedes preguntar por una categoría o un producto («{category}: ¿cuánto venderemos mañana?»), por un hogar"
    " con su número («¿Qué le gusta al hogar {household}?») o por el mercado («¿Qué categorías están creciendo?»).",
}
_SENTENCES = {
    "household": ("It names household {name}.", "Nombra el hogar {name}."),
    "category": ("It names {name}.", "Nombra {name}."),
    "substitute": ("It asks what may replace {name}.", "Pregunta qué puede sustituir a {name}."),
    "department": ("It names the department {name}.", "Nombra el departamento {name}."),
    "shop": ("It asks about the shop as a whole.", "Pregunta por la tienda en conjunto."),
    "memory": ("It goes on from the question before.", "Sigue a la pregunta anterior."),
    "greeting": (f"Hello. {_ASK['en']}", f"Hola. {_ASK['es']}"),
    "elsewhere": (
        f"I can only help with this shop's sales, households and market. {_ASK['en']}",
        f"Solo puedo ayudar con las ventas, los hogares y el mercado de esta tienda. {_ASK['es']}",
    ),
    "cut": (
        f"I do not take instructions in a question, and I show nobody's data in bulk. {_ASK['en']}",
        f"No acepto instrucciones dentro de una pregunta ni muestro datos de todos. {_ASK['es']}",
    ),
    "which household": (
        "Which household? Please give its number, such as “household {household}”. The tab of customers lists more.",
        "¿Qué hogar? Indica su número, por ejemplo «hogar {household}». La pestaña de clientes muestra más.",
    ),
    "which category": (
        "I found no category or product of this shop in the question. Did you mean {name}?",
        "No encontré en la pregunta ninguna categoría ni producto de esta tienda. ¿Querías decir {name}?",
    ),
    "no near category": (
        "I found no category or product of this shop in the question. For example: {name}.",
        "No encontré en la pregunta ninguna categoría ni producto de esta tienda. Por ejemplo: {name}.",
    ),
    "which question": (
        "What would you like to know about {name}? For example: “{name}: how much will we sell tomorrow?”",
        "¿Qué quieres saber de {name}? Por ejemplo: «{name}: ¿cuánto venderemos mañana?»",
    ),
    "unknown household": ("The shop has no household {name}.", "La tienda no tiene el hogar {name}."),
    "unknown product": ("The shop has no product {name}.", "La tienda no tiene el producto {name}."),
    "model": ("The language model took it for this kind of question.", "El modelo de lenguaje lo entendió así."),
    "no model": (
        "The language model gave no choice ({why}), so the rules decided alone.",
        "El modelo de lenguaje no eligió ({why}); decidieron solo las reglas.",
    ),
    "one household": (
        "One household at a time: this is about {name} only.",
        "Un solo hogar a la vez: esto trata solo del hogar {name}.",
    ),
    "one thing": ("One thing at a time: this is about {name}.", "Una cosa a la vez: esto trata de {name}."),
    "beyond": (
        "The forecaster looks {days} days ahead at most: this is about the next {days} days.",
        "El pronóstico alcanza como máximo {days} días: esto trata de los próximos {days} días.",
    ),
    "part cut": (
        "A part of the question was not read, because it spoke to the assistant about itself.",
        "Una parte de la pregunta no se leyó, porque se dirigía al propio asistente.",
    ),
    "no price": (
        "Nothing of it was sold lately, so there is no price to take a discount from.",
        "No se ha vendido últimamente, así que no hay precio al que aplicar un descuento.",
    ),
}  # fmt: skip


def sentence(key: str, language: Language, **values: object) -> str:
    """A sentence with its gaps filled."""
    return _SENTENCES[key][language == "es"].format(**values)
