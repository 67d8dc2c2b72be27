"""The language model words what it is given, and nothing it writes is believed.

    words = wording(models.chat, prompts.load("recommendation.few_shot"))
    text = words.invoke({"facts": {"product": "green olives", "price": "$1.99"}, "about": {"bought": ["bread"]},
                         "template": "You may like green olives ($1.99)."})

The text goes through :func:`~workshop_lib.orchestration.wording_check.objections`. One that is refused is written once
more with another seed; after that, or when the model is away, the template takes its place and says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import httpx
import openai
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import Field

from workshop_lib.generative.prompts import Prompt
from workshop_lib.orchestration.results import MODEL, Frozen, Source, Text
from workshop_lib.orchestration.wording_check import LENGTH, NAMES, clean, objections
from workshop_lib.settings import settings

ATTEMPTS = 2
"""Texts that the language model may write before the template takes their place."""
WARMER = 0.6
"""Temperature of the second attempt: at 0 it would write the same words again."""
NO_SPANISH = "The language model writes English only, so this is a fixed wording."

# What the client raises for a server that is away, refuses, breaks off or answers with something else than a text.
# An answer without the expected parts ends in whatever error their absence brings.
_UNUSABLE = (
    openai.OpenAIError, httpx.HTTPError, TimeoutError, ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip


class WordingInput(Frozen):
    """What a text shall say."""

    facts: dict[str, str] = Field(min_length=1, description="label and value; the values are what may be stated")
    template: str = Field(min_length=1, description="the text to show when the language model's cannot be used")
    about: dict[str, Any] = Field({}, description="the prompt's other variables: texts, or lists of texts")
    required: tuple[str, ...] = Field((), description="labels of facts that the text must mention")
    language: Literal["en", "es"] = Field("en", description="of the template; the language model writes English only")


def wording(
    chat: ChatOpenAI, prompt: Prompt, length: tuple[int, int] = LENGTH, name: str = "wording"
) -> Runnable[Any, Text]:
    """A step that words facts. It takes a :class:`WordingInput`, or a dict of its fields, and gives a checked text.

    It never fails for the language model's sake: the template is always there.

    Args:
        chat: the language model.
        prompt: has the variable ``facts``, and those that ``about`` brings.
        length: fewest and most words of a text.
        name: of the step, for traces.
    """

    def run(asked: object, config: RunnableConfig) -> Text:
        return word(chat, prompt, WordingInput.model_validate(asked), length, config)

    return RunnableLambda(run, name=name)


def word(
    chat: ChatOpenAI,
    prompt: Prompt,
    asked: WordingInput,
    length: tuple[int, int] = LENGTH,
    config: RunnableConfig | None = None,
) -> Text:
    """Word facts at once; see :func:`wording`."""
    *_, last = _write(chat, prompt, asked, length, config, streamed=False)
    assert isinstance(last, Text)
    return last


def stream(
    chat: ChatOpenAI,
    prompt: Prompt,
    asked: WordingInput,
    length: tuple[int, int] = LENGTH,
    config: RunnableConfig | None = None,
) -> Iterator[str | Text]:
    """Word facts while somebody watches.

    Yields:
        The draft so far each time that it has grown: not checked, to be shown as a draft. A refused draft starts anew.
        The last thing is the checked :class:`Text`, which takes the draft's place.
    """
    yield from _write(chat, prompt, asked, length, config, streamed=True)


def cleaned(facts: Mapping[str, object]) -> dict[str, str]:
    """Labels and values as they may stand in a prompt."""
    return {clean(label): clean(value) for label, value in facts.items()}


def given(asked: WordingInput) -> dict[str, str]:
    """All that a text may state: the facts, and what the prompt's other variables say."""
    others = {}
    for name, value in asked.about.items():
        found = _cleaned(value)
        others[name] = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
    return others | cleaned(asked.facts)


def _write(
    chat: ChatOpenAI,
    prompt: Prompt,
    asked: WordingInput,
    length: tuple[int, int],
    config: RunnableConfig | None,
    streamed: bool,
) -> Iterator[str | Text]:
    """Drafts as they grow, then the text."""
    if asked.language != "en":
        yield _template(asked, NO_SPANISH)
        return
    facts, names = given(asked), NAMES | asked.about.keys()
    about = {name: _cleaned(value) for name, value in asked.about.items()}
    messages = prompt.render(facts=cleaned(asked.facts), **about)
    tokens, refused = 0, list[str]()
    for attempt in range(ATTEMPTS):
        sampling = prompt.sampling | ({"temperature": WARMER} if attempt else {}) | {"seed": settings.seed + attempt}
        answer: BaseMessage | None = None
        try:
            for answer in _answers(chat, messages, sampling, config, streamed):
                if streamed and answer.text:
                    yield str(answer.text)
        except _UNUSABLE as error:
            yield _template(asked, f"The language model gave no text: {_reason(error)}", tokens, refused)
            return
        text = str(answer.text).strip() if answer else ""
        tokens += _tokens(answer)
        wrong = objections(text, facts, length, [clean(label) for label in asked.required], names)
        if _cut(answer) and "cut off" not in wrong:
            wrong = (*wrong, "cut off")
        if not wrong:
            yield Text(text=text, source=MODEL, tokens=tokens, rejected=tuple(refused))
            return
        refused += [one for one in wrong if one not in refused]
    why = f"The language model's text was refused {ATTEMPTS} times: {'; '.join(refused)}."
    yield _template(asked, why, tokens, refused)


def _answers(
    chat: ChatOpenAI,
    messages: list[dict[str, str]],
    sampling: Mapping[str, Any],
    config: RunnableConfig | None,
    streamed: bool,
) -> Iterator[BaseMessage]:
    """The answer as it grows, or at once."""
    if not streamed:
        yield chat.bind(**sampling).invoke(messages, config)
        return
    answer: AIMessageChunk | None = None
    begun = time.monotonic()
    for piece in chat.bind(**sampling, stream_usage=True).stream(messages, config):
        assert isinstance(piece, AIMessageChunk)
        answer = piece if answer is None else answer + piece
        yield answer
        # The client's time-out holds for each piece; one that comes now and then would never end.
        if time.monotonic() - begun > settings.text_timeout:
            raise TimeoutError(f"it was still writing after {settings.text_timeout:g} s")


def _template(asked: WordingInput, why: str, tokens: int = 0, refused: Sequence[str] = ()) -> Text:
    return Text(text=asked.template, source=Source(kind="template", why=why), tokens=tokens, rejected=tuple(refused))


def _cleaned(value: object) -> object:
    return [clean(one) for one in value] if isinstance(value, list | tuple) else clean(value)


def _tokens(answer: BaseMessage | None) -> int:
    usage = answer.usage_metadata if isinstance(answer, AIMessage) else None
    return usage["output_tokens"] if usage else 0


def _cut(answer: BaseMessage | None) -> bool:
    return answer is not None and answer.response_metadata.get("finish_reason") == "length"


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return f"{said}."
