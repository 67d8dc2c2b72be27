"""Shows a chain at work: its steps as they begin and end, then its answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pandas as pd
from langchain_core.runnables import Runnable, RunnableConfig
from markupsafe import Markup

from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.tracing import StepTimes

LOOK_SECONDS = 0.25
"""How often the steps are looked at."""
DEEPEST = 2
"""Steps within steps are shown down to here; below lies plumbing."""


def follow(chain: Runnable[Any, Any], question: Any) -> Iterator[pd.DataFrame | Any]:
    """Run a chain while somebody watches.

    Args:
        chain: what to run.
        question: for it.

    Yields:
        Tables of :meth:`StepTimes.table` while it works; its result is the last.

    Raises:
        Whatever the chain raises.
    """
    steps = StepTimes()
    pool = ThreadPoolExecutor(1, thread_name_prefix="chain")
    try:
        config: RunnableConfig = {"callbacks": [steps]}
        work: Future[Any] = pool.submit(chain.invoke, question, config)
        shown = -1
        while not wait([work], LOOK_SECONDS).done:
            table = steps.table()
            if len(table) != shown:  # nothing new is nothing to draw
                shown = len(table)
                yield table
        yield steps.table()
        yield work.result()
    finally:
        pool.shutdown(wait=False)


def view(say: Labels, steps: pd.DataFrame, running: bool = True) -> Markup:
    """The steps as a list.

    Args:
        say: labels.
        steps: from :func:`follow`.
        running: whether the chain still works; the last step is then marked as such.
    """
    shown = steps[steps["depth"].between(1, DEEPEST)]
    items = [
        Markup('<li class="depth{}">{} <span>{}</span></li>').format(
            row.depth, step_name(say, row.step), "" if running else say("unit.ms", value=say.number(row.took_ms))
        )
        for row in shown.itertuples()
    ]
    title = say("steps.running") if running else say("steps.done")
    return Markup('<div class="steps" {}><p>{}</p><ul>{}</ul></div>').format(
        Markup('aria-busy="true"') if running else "", title, page.join(items)
    )


def step_name(say: Labels, name: str) -> str:
    """A step in the reader's language, where the catalogue has it."""
    key = f"step.{name.replace(' ', '_')}"
    return say(key) if key in say else name
