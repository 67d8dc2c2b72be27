"""The tab with the assistant: a conversation, and beside it what the assistant does for the answer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gradio as gr
from markupsafe import Markup

from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration.assistant import Reply, Step
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.dashboard_steps import DEEPEST, step_name
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.memory import MemoryBroken, SessionError, new_session

LONGEST_QUESTION = 500
"""Characters."""
EXAMPLES = ("sales", "customer", "market", "followup")
# The browser keeps its session's token, encrypted; a restart of the dashboard begins new conversations.
_SECRET = secrets.token_hex(16)

Message = dict[str, str]


def steps_view(say: Labels, steps: list[Step], reply: Reply | None) -> Markup:
    """What was done: the route, and each step with its time."""
    begun = [step for step in steps if step.state == "started" and 1 <= step.depth <= DEEPEST]
    ended = [step for step in steps if step.state != "started"]
    items = []
    for step in begun:
        match = next((end for end in ended if end.name == step.name and end.depth == step.depth), None)
        if match is not None:
            ended.remove(match)
        seconds = match.seconds if match else None
        took = say("steps.busy") if seconds is None else say("unit.ms", value=say.number(1000 * seconds))
        items.append(
            Markup('<li class="depth{}">{} <span>{}</span></li>').format(step.depth, step_name(say, step.name), took)
        )
    title = say("steps.running") if reply is None else say("assistant.took", seconds=say.number(reply.seconds, 1))
    listed = Markup('<div class="steps"><p>{}</p><ul>{}</ul></div>').format(title, page.join(items))
    return (_route(say, reply) if reply else page.NOTHING) + listed


def _route(say: Labels, reply: Reply) -> Markup:
    route = reply.route
    asked = route.question.model_dump(exclude_none=True, exclude={"language"}) if route.question else {}
    details = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in asked.items() if value not in ("", {}))
    notices = page.join(page.source_notice(say, part, source) for part, source in reply.degraded.items())
    cards = page.cards(
        [
            (say("assistant.route"), say(f"assistant.chain.{route.chain}"), details),
            (say("assistant.by"), say(f"assistant.decision.{route.by}"), ""),
        ]
    )
    return cards + notices


def conversation(say: Labels, said: list[Message]) -> Markup:
    """What was said, as text only: what an answer quotes may look like HTML or Markdown."""
    message = Markup('<li class="message {}"><span class="who">{}</span>{}</li>')
    lines = page.join(message.format(one["who"], say(f"assistant.{one['who']}"), one["text"]) for one in said)
    inside = lines or Markup('<li class="empty">{}</li>').format(say("assistant.empty"))
    return Markup('<ol class="chat" role="log" tabindex="0" aria-label="{}">{}</ol>').format(
        say("assistant.conversation"), inside
    )


def history(parts: Parts, session: str) -> list[Message]:
    """The conversation so far; empty for a session that nobody knows."""
    if not session:
        return []
    try:
        said = parts.assistant.memory.messages(session)
    except (SessionError, MemoryBroken):
        return []
    return [{"who": "reader" if one.type == "human" else "bot", "text": str(one.content)} for one in said]


def browser_session() -> gr.BrowserState:
    """Where the reader's browser keeps the token of its conversation. It belongs outside of the tabs: what is in a
    tab is not there before the tab is opened."""
    return gr.BrowserState("", storage_key="assistant", secret=_SECRET)


def add(blocks: gr.Blocks, session: gr.BrowserState, parts: Parts, say: Labels) -> None:
    """Put the tab's content into the surrounding Blocks.

    Args:
        blocks: the page.
        session: from :func:`browser_session`.
        parts: whom to ask.
        say: labels.
    """
    page.html("assistant-lead", page.lead(say("assistant.title"), say("assistant.lead")))
    kept = gr.State([])
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            chat = page.html("assistant-chat", conversation(say, []), autoscroll=True)
            question = gr.Textbox(
                label=say("assistant.question"), placeholder=say("assistant.placeholder"), max_length=LONGEST_QUESTION,
                elem_id="assistant-question", lines=1, max_lines=3,
            )  # fmt: skip
            with gr.Row():
                button = gr.Button(say("assistant.ask"), variant="primary", elem_id="assistant-ask")
                again = gr.Button(say("assistant.new"), elem_id="assistant-new")
            gr.Examples(
                [[say(f"assistant.example.{name}")] for name in EXAMPLES], question, label=say("assistant.examples"),
                elem_id="assistant-examples", api_visibility="private",
            )  # fmt: skip
        with gr.Column(scale=1, min_width=300):
            steps = page.html("assistant-steps", page.paragraph(say("assistant.steps_empty"), "empty"))

    def ask(text: str, said: list[Message], token: str) -> Iterator[tuple[Any, ...]]:
        text = (text or "").strip()
        if not text:
            yield tuple(gr.skip() for _ in range(5))
            return
        token = token or new_session()
        said = [*said, {"who": "reader", "text": text}]
        yield conversation(say, said), said, "", page.paragraph(say("steps.running"), "empty"), token
        done: list[Step] = []
        for event in parts.assistant.stream(text, token):
            if isinstance(event, Step):
                done.append(event)
                yield gr.skip(), gr.skip(), gr.skip(), steps_view(say, done, None), gr.skip()
            else:
                said = [*said, {"who": "bot", "text": event.text}]
                yield conversation(say, said), said, gr.skip(), steps_view(say, done, event), gr.skip()

    def forget(token: str) -> tuple[Any, ...]:
        if token:
            with suppress(SessionError, MemoryBroken):  # a conversation that cannot be found is forgotten
                parts.assistant.memory.forget(token)
        return conversation(say, []), [], page.paragraph(say("assistant.steps_empty"), "empty"), ""

    def come_back(token: str) -> tuple[Markup, list[Message]]:
        said = history(parts, token)
        return conversation(say, said), said

    gr.on(
        [button.click, question.submit], ask, [question, kept, session], [chat, kept, question, steps, session],
        **page.WRITING,
    )  # fmt: skip
    again.click(forget, session, [chat, kept, steps, session], **page.QUICK)
    blocks.load(come_back, session, [chat, kept], **(page.QUICK | {"show_progress": "hidden"}))
