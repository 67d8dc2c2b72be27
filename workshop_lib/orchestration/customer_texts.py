"""Fixed wordings about one household, in English and Spanish. Products keep the catalogue's English names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from workshop_lib.orchestration.labels import Labels

Language = Literal["en", "es"]

_OFFER = {
    ("en", True): "Contact: it costs {cost} and is worth {worth} on average, because {chance} of such households"
    " leave.",
    ("en", False): "No contact: it would cost {cost} and be worth {worth} on average; {chance} of such households"
    " leave.",
    ("es", True): "Contactar: cuesta {cost} y aporta {worth} en promedio, porque se va el {chance} de los hogares como"
    " este.",
    ("es", False): "No contactar: costaría {cost} y aportaría {worth} en promedio; se va el {chance} de los hogares"
    " como este.",
}  # fmt: skip
_COUPON = {"en": " The coupon is for {product}.", "es": " El cupón es para {product}."}
_BOUGHT = {
    "en": "You often buy {bought}, so you may like {product}.",
    "es": "Suele comprar {bought}: quizá le guste {product}.",
}
_POPULAR = {"en": "Many customers buy {product} these days.", "es": "Muchos clientes compran {product} estos días."}
_PRICE = {"en": " It costs {price}.", "es": " Cuesta {price}."}
_AND = {"en": " and ", "es": " y "}


def offer(cost: float, worth: float, chance: float, coupon: str | None, language: Language) -> str:
    """Whether to contact a household, and with what.

    Args:
        cost: of the contact, dollars.
        worth: what it brings on average, dollars, before the cost.
        chance: probability of leaving.
        coupon: the product that it is for.
        language: of the text.
    """
    pays, say = worth >= cost, Labels(language)
    text = _OFFER[language, pays].format(cost=say.dollars(cost), worth=say.dollars(worth), chance=say.percent(chance))
    return text + (_COUPON[language].format(product=coupon) if coupon else "")


def message(facts: Mapping[str, str], bought: Sequence[str], language: Language) -> str:
    """A message that recommends a product.

    Args:
        facts: ``product``, and ``price`` where it is known.
        bought: names of what the household buys often; may be empty.
        language: of the text.
    """
    wording = (_BOUGHT if bought else _POPULAR)[language]
    price = Labels(language).rewritten(facts.get("price", ""))
    text = wording.format(product=facts["product"], bought=_AND[language].join(bought))
    return text + (_PRICE[language].format(price=price) if price else "")
