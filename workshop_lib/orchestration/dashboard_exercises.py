"""Exercises of notebook 05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from workshop_lib.exercises import Exercise

_NAME = '<b onclick="steal()">Soup</b>'
_SAFE = "<li>&lt;b onclick=&#34;steal()&#34;&gt;Soup&lt;/b&gt;</li>"
_SOURCES = {
    "forecast, asked an hour ago, API away": "last known",
    "forecast, never asked before, API away": "missing",
    "description, language model away": "template",
    "probabilities in the list of households, API away": "model",
}


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


EXERCISES = {
    "4.5.a": Exercise(
        right=lambda answer: isinstance(answer, Markup) and str(answer) == _SAFE,
        hint="Markup('<li>{}</li>').format(name): what is Markup stays HTML, what is put into it becomes text.",
        near_misses=[
            (_if(lambda answer: _NAME in str(answer)), "The name is still HTML: a browser would make a bold, clickable "
             "word of it. Let Markup put it in."),
            (_if(lambda answer: "&amp;lt;" in str(answer)), "It was escaped twice: a reader would see &lt;b, not <b."),
            (_if(lambda answer: str(answer).startswith("&lt;li")), "The list item is escaped as well: only the name is "
             "from outside, so <li> belongs into the Markup."),
            (_if(lambda answer: not isinstance(answer, Markup) and str(answer) == _SAFE),
             "Right letters, but a plain text: the next step would escape it once more. Hand over the Markup."),
        ],
    ),
    "4.5.b": Exercise(
        right=lambda answer: answer == _SOURCES,
        hint="Ask of each: did a model ever answer this very question, is there a wording without the model, or does "
        "it need no service at all?",
        near_misses=[
            (_if(lambda answer: answer.keys() != _SOURCES.keys()), "Keep the four situations as keys."),
            (_if(lambda answer: answer["forecast, never asked before, API away"] == "last known"),
             "Nothing can be remembered of a question that was never asked."),
            (_if(lambda answer: answer["description, language model away"] == "missing"),
             "The facts are there; a fixed wording says them without a language model."),
            (_if(lambda answer: answer["probabilities in the list of households, API away"] != "model"),
             "The list is scored inside the dashboard by the registered model: no API is asked."),
        ],
    ),
}  # fmt: skip
