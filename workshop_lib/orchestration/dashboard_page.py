"""What all tabs of the dashboard share: its look, and HTML into which no text from outside can break.

Every piece of HTML is :class:`markupsafe.Markup`, whose ``format`` escapes all that is no Markup itself. A product
that is called ``<script>`` is therefore shown under that name and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from workshop_lib.generative import facts
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.results import Source, Text
from workshop_lib.orchestration.wording import NO_SPANISH
from workshop_lib.settings import settings

CSS = Path(__file__).with_name("dashboard.css")
NOTHING = Markup("")
_NUMBER = Markup(' class="number"')
QUICK: dict[str, Any] = {
    "concurrency_id": "quick", "concurrency_limit": 8, "show_progress": "minimal", "api_visibility": "private",
}  # fmt: skip
"""How events are handled that take a moment: so many at once, further ones wait in the queue."""
WRITING: dict[str, Any] = QUICK | {"concurrency_id": "writing", "concurrency_limit": settings.api_llm_concurrency}
"""Events that wait for the language model: a line of their own, so that nobody else waits behind them."""

# Runs in the browser. A plot is a drawing for people who see it; the sentence below it tells the others.
_SCRIPT = """
<script>
document.documentElement.lang = "%(language)s";
new MutationObserver(() => {
  document.querySelectorAll(".plot").forEach((plot) => {
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-labelledby", plot.id + "-text");
  });
}).observe(document.documentElement, {childList: true, subtree: true});
</script>
"""


def theme() -> gr.themes.Base:
    """Colours with enough contrast on light and dark ground, and the fonts that the reader's system has."""
    fonts = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=("ui-monospace", "monospace")
    ).set(
        button_primary_background_fill="#0b5cad",
        button_primary_background_fill_hover="#084a8c",
        button_primary_background_fill_dark="#1f6fc0",
        button_primary_background_fill_hover_dark="#1a5fa6",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        body_text_color_subdued="#475569",
        body_text_color_subdued_dark="#b6c2d1",
        block_label_text_color="#334155",
        block_label_text_color_dark="#dbe3ec",
        block_title_text_color="#1e293b",
        block_title_text_color_dark="#e8eef5",
        block_info_text_color="#475569",
        block_info_text_color_dark="#b6c2d1",
        input_placeholder_color="#5b6b7f",
        input_placeholder_color_dark="#a3b1c2",
        slider_color="#0b5cad",
        slider_color_dark="#5aa5ee",
    )


def head(say: Labels) -> str:
    """What goes into the page's head: its language, and names for the plots."""
    return _SCRIPT % {"language": say.language}


def html(elem_id: str, value: Markup = NOTHING, classes: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A place for HTML that this module made; options are those of the component."""
    return gr.HTML(str(value), elem_id=elem_id, elem_classes=list(classes), padding=False, **options)


def plot(elem_id: str, say: Labels, label: str) -> tuple[gr.Plot, gr.HTML]:
    """A place for a plot and, below it, for the sentence that says what it shows.

    Args:
        elem_id: of the plot; the sentence's is the same with ``-text`` behind it.
        say: labels.
        label: key of its title.
    """
    return gr.Plot(label=say(label), show_label=False, elem_id=elem_id, elem_classes=["plot"]), html(f"{elem_id}-text")


def paragraph(text: str, classes: str = "") -> Markup:
    """A paragraph."""
    return Markup('<p class="{}">{}</p>').format(classes, text)


def lead(title: str, text: str) -> Markup:
    """The beginning of a tab: what it is for."""
    return Markup('<h2>{}</h2><p class="lead">{}</p>').format(title, text)


def heading(text: str, level: int = 3) -> Markup:
    """A heading within a tab."""
    return Markup("<h{0}>{1}</h{0}>").format(level, text)


def join(pieces: Iterable[Markup]) -> Markup:
    """Pieces of HTML in a row."""
    return NOTHING.join(pieces)


def cards(figures: Iterable[tuple[str, str, str]], narrow: bool = False) -> Markup:
    """Key figures side by side: label, value, and a small line below.

    Args:
        figures: what to show.
        narrow: whether the place has room for two beside each other only.
    """
    card = Markup('<div class="card"><dt>{}</dt><dd>{}<small>{}</small></dd></div>')
    return Markup('<div class="box"><dl class="cards{}">{}</dl></div>').format(
        " narrow" if narrow else "", join(card.format(*figure) for figure in figures)
    )


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Markup]],
    numbers: Iterable[int] = (),
    empty: str = "",
    stack: bool = False,
) -> Markup:
    """A table with a caption and headed columns; it scrolls by itself where it is too wide for the screen.

    Args:
        caption: what it shows.
        columns: their names.
        rows: texts, or HTML of this module's own.
        numbers: places of the columns that hold numbers.
        empty: what to say when there is no row.
        stack: whether a phone shows each row as a list of its values; for rows with much text.
    """
    right = set(numbers)

    head = join(
        Markup('<th scope="col" role="columnheader"{}>{}</th>').format(_NUMBER if place in right else NOTHING, name)
        for place, name in enumerate(columns)
    )
    cell = Markup('<td role="cell" data-label="{}"{}>{}</td>')
    lines = [
        join(
            cell.format(columns[place], _NUMBER if place in right else NOTHING, value)
            for place, value in enumerate(row)
        )
        for row in rows
    ]
    if not lines:
        return paragraph(empty, "empty") if empty else NOTHING
    body = join(Markup('<tr role="row">{}</tr>').format(line) for line in lines)
    # The roles say what stays true when a phone's style takes the table apart.
    return Markup(
        '<div class="table{3}" role="region" tabindex="0" aria-label="{0}"><table role="table">'
        '<caption>{0}</caption><thead role="rowgroup"><tr role="row">{1}</tr></thead>'
        '<tbody role="rowgroup">{2}</tbody></table></div>'
    ).format(caption, head, body, " stack" if stack else "")


def advice(title: str, sentences: Iterable[str]) -> Markup:
    """What to do, as a list; nothing without sentences."""
    points = join(Markup("<li>{}</li>").format(sentence) for sentence in sentences)
    return (
        Markup('<section class="advice"><h3>{}</h3><ul>{}</ul></section>').format(title, points) if points else NOTHING
    )


def fold(title: str, inside: Markup) -> Markup:
    """Something that is shown when its title is clicked."""
    return Markup("<details><summary>{}</summary>{}</details>").format(title, inside)


def bar(share: float, text: str) -> Markup:
    """A share from 0 to 1 as a bar with its number beside it."""
    width = round(100 * min(max(share, 0.0), 1.0))
    return Markup('<span class="share"><span class="bar"><i style="width:{}%"></i></span> {}</span>').format(
        width, text
    )


def badge(kind: str, text: str) -> Markup:
    """A word on coloured ground.

    Args:
        kind: ``good``, ``fair``, ``bad`` or ``off``.
        text: the word; the colour alone says nothing to many.
    """
    return Markup('<span class="badge {}">{}</span>').format(kind, text)


def notice(kind: str, text: str | Markup, detail: str = "") -> Markup:
    """Something that a reader should know before trusting what follows; kinds as in :func:`badge`."""
    more = paragraph(detail, "detail") if detail else NOTHING
    return Markup('<div class="notice {}" role="status"><p>{}</p>{}</div>').format(kind, text, more)


def source_notice(say: Labels, part: str, source: Source, text: bool = True) -> Markup:
    """Says that a part of an answer is a substitute, which one and why; nothing for the real thing.

    Args:
        say: labels.
        part: of the answer, as its ``sources`` name it.
        source: where it is from.
        text: whether the part is a text; a list has no fixed wording but general contents.
    """
    if not source.degraded:
        return NOTHING
    age = say.age(source.age_seconds) if source.age_seconds is not None else ""
    if source.why == NO_SPANISH:  # as meant, and no trouble
        return notice("off", say("source.no_spanish"))
    kind = "general" if source.kind == "template" and not text else source.kind.replace(" ", "_")
    name = say(f"part.{part}") if f"part.{part}" in say else part.replace("_", " ")
    return notice("bad" if source.kind == "missing" else "fair", say(f"source.{kind}", part=name, age=age), source.why)


def written(say: Labels, title: str, part: str, text: Text) -> Markup:
    """A text in a card, with where it is from and what was refused."""
    language = "en" if text.source.kind == "model" else say.language
    reasons = NOTHING
    if text.rejected and text.source.kind == "model":  # the notice about a template says it already
        reasons = paragraph(say("content.reasons", reasons="; ".join(text.rejected)), "caption")
    return Markup('<article class="text"><h3>{}</h3><blockquote lang="{}">{}</blockquote>{}{}</article>').format(
        title, language, text.text, source_notice(say, part, text.source), reasons
    )


def error(say: Labels, text: str) -> Markup:
    """A sentence about what went wrong."""
    return notice("bad", say("page.problem"), text)


def category_name(category: str) -> str:
    """A category as people read it; the catalogue shouts and abbreviates."""
    return facts.readable(category).capitalize() or category
