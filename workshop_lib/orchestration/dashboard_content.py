"""The tab with product texts: facts in, descriptions out while the model writes, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from markupsafe import Markup

from workshop_lib.generative import prompts
from workshop_lib.generative.quality import FORM_WEIGHTS, Quality, measure
from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.product import describable, must_not_advertise
from workshop_lib.orchestration.product_texts import Language, description
from workshop_lib.orchestration.results import Text
from workshop_lib.orchestration.wording import WordingInput, cleaned, stream

PROMPT = "product_description.few_shot"
TONES = ("plain", "friendly", "formal")
FACTS = ("product", "brand", "size", "price")
"""Labels of the facts, as prompts and the catalogue name them."""
OFFERED_PRODUCTS = 30
"""Best sellers of a category to choose from."""
SHORT_NAME = 60
"""Letters of an entry of that list; longer ones are rarely good examples."""
PARTS = ("facts", "truth", *FORM_WEIGHTS)
GOOD, FAIR = 0.7, 0.4
"""Scores from which a text counts as good, and as fair."""


@dataclass
class Draft:
    """One description while it is made."""

    tone: str
    writing: str = ""
    refused: list[str] = field(default_factory=list)
    """Earlier texts of the model that were not accepted."""
    text: Text | None = None
    quality: Quality | None = None
    """None for Spanish: the measure knows English words and figures only."""


def categories(parts: Parts) -> list[str]:
    """The categories that a machine may write about."""
    return [name for name in parts.shop.categories if not must_not_advertise(name)]


def first_category(parts: Parts) -> str:
    """The largest category whose best seller the catalogue says enough about."""
    names = categories(parts)
    told = {
        name: sum(map(bool, known_facts(parts, offered[0][1])))
        for name in names[:10]
        if (offered := best_sellers(parts, name)) and len(offered[0][0]) < SHORT_NAME
    }
    return max(told, key=lambda name: told[name], default=names[0])


def best_sellers(parts: Parts, category: str) -> list[tuple[str, str]]:
    """Products of a category, the best seller first: what a reader sees, and the product's number.

    Raises:
        UnknownThing: when the shop does not have the category.
    """
    products = parts.shop.products
    found = products[products["category"] == parts.shop.find_category(category)]
    rows = found.sort_values("units", ascending=False).head(OFFERED_PRODUCTS)
    return [(_offered(row), str(row["product_id"])) for row in rows.to_dict("records")]


def _offered(row: Mapping[str, Any]) -> str:
    known = describable(row)
    details = [value for label, value in known.items() if label != "product"]
    return f"{known['product'].capitalize()} ({', '.join([*details, str(row['product_id'])])})"


def known_facts(parts: Parts, product_id: str) -> tuple[str, ...]:
    """What the catalogue says about a product, in the order of :data:`FACTS`; empty where it is silent.

    Raises:
        UnknownThing: when the catalogue does not have the product.
    """
    found = describable(parts.shop.find_product(product_id).to_dict())
    return tuple(found.get(label, "") for label in FACTS)


def write(
    parts: Parts, given: Mapping[str, str], tones: Sequence[str], language: Language = "en"
) -> Iterator[list[Draft]]:
    """Write one description per tone, one after the other.

    Yields:
        All drafts so far, each time that something has changed.
    """
    drafts: list[Draft] = []
    for tone in tones:
        draft = Draft(tone)
        drafts.append(draft)
        yield drafts
        for piece in stream(parts.models.chat, _prompt(tone), _task(given, language)):
            if isinstance(piece, Text):
                _finish(draft, piece, given, language)
            else:
                if draft.writing and not piece.startswith(draft.writing):
                    draft.refused.append(draft.writing)
                draft.writing = piece
            yield drafts


def _finish(draft: Draft, text: Text, given: Mapping[str, str], language: Language) -> None:
    if draft.writing and text.source.kind == "template":
        draft.refused.append(draft.writing)
    draft.text = text
    draft.quality = measure(text.text, list(given.values())) if language == "en" else None


def _prompt(tone: str) -> prompts.Prompt:
    prompt = prompts.load(PROMPT)
    return prompt if tone == "plain" else prompt.model_copy(update={"system": f"{prompt.system} The tone is {tone}."})


def _task(given: Mapping[str, str], language: Language) -> WordingInput:
    known = cleaned(given)
    return WordingInput(facts=known, template=description(known, language), required=tuple(known), language=language)


def view(say: Labels, drafts: Sequence[Draft]) -> Markup:
    """The descriptions as cards."""
    return page.join(_card(say, draft) for draft in drafts)


def _card(say: Labels, draft: Draft) -> Markup:
    card = Markup('<article class="text" aria-label="{0}"><h3>{0} {1}</h3><blockquote{2}>{3}</blockquote>{4}</article>')
    title = say(f"content.tone.{draft.tone}")
    if draft.text is None:
        state = page.badge("off", say("content.writing"))
        return card.format(title, state, Markup(' aria-busy="true"'), draft.writing or say("content.waiting"), "")
    notes = page.source_notice(say, "description", draft.text.source)
    language = Markup(' lang="{}"').format("en" if draft.text.source.kind == "model" else say.language)
    state, details = _measured(say, draft.quality)
    return card.format(title, state, language, draft.text.text, notes + details + _refused(say, draft))


def _measured(say: Labels, quality: Quality | None) -> tuple[Markup, Markup]:
    """The score and what it is made of; nothing for a text that was not measured."""
    if quality is None:
        return page.NOTHING, page.NOTHING
    kind = "good" if quality.score >= GOOD else "fair" if quality.score >= FAIR else "bad"
    return page.badge(kind, say("content.score", score=say.number(quality.score, 2))), _parts(say, quality)


def _parts(say: Labels, quality: Quality) -> Markup:
    entry = Markup("<div><dt>{}</dt><dd>{}</dd></div>")
    rows = [
        entry.format(say(f"content.quality.{part}"), page.bar(value, say.number(value, 2)))
        for part, value in ((part, float(getattr(quality, part))) for part in PARTS)
    ]
    rows.append(entry.format(say("content.quality.words"), quality.words))
    missing = (
        [page.paragraph(say("content.missing", facts=", ".join(quality.missing)), "caption")] if quality.missing else []
    )
    return Markup('<dl class="parts">{}</dl>').format(page.join(rows)) + page.join(missing)


def _refused(say: Labels, draft: Draft) -> Markup:
    reasons = draft.text.rejected if draft.text else ()
    if not draft.refused and not reasons:
        return page.NOTHING
    texts = page.join(Markup('<blockquote lang="en">{}</blockquote>').format(text) for text in draft.refused)
    return Markup('<details class="refused"><summary>{}</summary>{}{}</details>').format(
        say("content.refused", count=len(draft.refused)),
        texts,
        page.paragraph(say("content.reasons", reasons="; ".join(reasons)), "caption"),
    )


def add(parts: Parts, say: Labels) -> None:
    """Put the tab's content into the surrounding Blocks."""
    names = categories(parts)
    start = first_category(parts)
    first = best_sellers(parts, start)
    page.html("content-lead", page.lead(say("content.title"), say("content.lead")))
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            category = gr.Dropdown(
                [(page.category_name(name), name) for name in names], value=start, label=say("content.category"),
                elem_id="content-category",
            )  # fmt: skip
            product = gr.Dropdown(
                first, value=first[0][1], label=say("content.product"), info=say("content.product_info"),
                elem_id="content-product",
            )  # fmt: skip
            values = known_facts(parts, first[0][1])
            with gr.Group():
                given = [
                    gr.Textbox(
                        value,
                        label=say(f"content.fact.{label}"),
                        max_length=120,
                        max_lines=1,
                        elem_id=f"content-fact-{label}",
                    )
                    for label, value in zip(FACTS, values, strict=True)
                ]
            tones = gr.CheckboxGroup(
                [(say(f"content.tone.{tone}"), tone) for tone in TONES], value=list(TONES[:2]),
                label=say("content.tones"), elem_id="content-tones",
            )  # fmt: skip
            language = gr.Radio(
                [(say("content.language.english"), "en"), (say("content.language.spanish"), "es")], value="en",
                label=say("content.language.label"), info=say("content.language.info"), elem_id="content-language",
            )  # fmt: skip
            with gr.Row():
                button = gr.Button(say("content.write"), variant="primary", elem_id="content-write", scale=3)
                stop = gr.Button(say("content.stop"), elem_id="content-stop", scale=1, min_width=80)
        with gr.Column(scale=2, min_width=320):
            texts = page.html("content-texts", page.paragraph(say("content.empty"), "empty"))

    def choose(chosen: str) -> Any:
        offered = best_sellers(parts, chosen)
        return gr.update(choices=offered, value=offered[0][1])

    def describe(chosen: list[str], in_language: Language, *values: str) -> Iterator[str]:
        facts = {label: value.strip() for label, value in zip(FACTS, values, strict=True) if value and value.strip()}
        if problem := _problem(say, facts, chosen):
            yield page.error(say, problem)
            return
        for drafts in write(parts, facts, chosen, in_language):
            yield view(say, drafts)

    category.change(choose, category, product, **page.QUICK)
    product.change(lambda chosen: known_facts(parts, chosen), product, given, **page.QUICK)
    written = button.click(describe, [tones, language, *given], texts, **page.WRITING)
    stop.click(None, cancels=[written], api_visibility="private")


def _problem(say: Labels, facts: Mapping[str, str], tones: Sequence[str]) -> str:
    """What keeps a text from being written; empty when nothing does."""
    if "product" not in facts:
        return say("content.no_product")
    if not tones:
        return say("content.no_tone")
    if must_not_advertise(" ".join(facts.values())):
        return say("content.law")
    return ""
