"""Fixed wordings about one household, in English and Spanish. Products keep the catalogue's English names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Language = Literal["en", "es"]

_OFFER = {
    (
        "en",
        True,
    ): "Contact: it costs {cost} and is worth {worth} on average, because {chance} of such households leave.",
    (
        "en",
        False,
    ): "No contact: it would cost {cost} and be worth {worth} on average; {chance} of such households leave.",
    ("es", True): "Contactar: cuesta {cost} y aporta {worth} de media, porque el {chance} de hogares así se va.",
    ("es", False): "No contactar: costaría {cost} y aportaría {worth} de media; el {chance} de hogares así se va.",
}
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
    pays = worth >= cost
    text = _OFFER[language, pays].format(cost=f"${cost:,.2f}", worth=f"${worth:,.2f}", chance=f"{chance:.0%}")
    return text + (_COUPON[language].format(product=coupon) if coupon else "")


def message(facts: Mapping[str, str], bought: Sequence[str], language: Language) -> str:
    """A message that recommends a product.

    Args:
        facts: ``product``, and ``price`` where it is known.
        bought: names of what the household buys often; may be empty.
        language: of the text.
    """
    wording = (_BOUGHT if bought else _POPULAR)[language]
    text = wording.format(product=facts["product"], bought=_AND[language].join(bought))
    return text + (_PRICE[language].format(price=facts["price"]) if "price" in facts else "")
