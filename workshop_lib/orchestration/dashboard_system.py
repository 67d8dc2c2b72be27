"""The tab with the services, the versions that they serve, recent calls, and the course's scorecard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from workshop_lib import checkpoints
from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration import health
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.health import Health
from workshop_lib.orchestration.labels import Labels
from workshop_lib.settings import MODULES

EVERY_SECONDS = 5
"""How often an open page asks anew."""
SAME_SECONDS = 3
"""For how long an answer serves all open pages."""
Record = dict[str, Any]
_SIGNS = {">=": "≥", "<=": "≤", "==": "="}
_KINDS = {"ok": "good", "degraded": "fair", "down": "bad", "off": "off"}


class Watch:
    """Asks the services on behalf of all open pages together.

    Args:
        targets: gives the services to ask.
    """

    def __init__(self, targets: Callable[[], Sequence[health.Target]]) -> None:
        self._targets, self._lock = targets, threading.Lock()
        self._asked: tuple[float, list[Health]] | None = None

    def now(self) -> list[Health]:
        """How the services are, a few seconds old at most."""
        with self._lock:
            if self._asked is None or time.monotonic() - self._asked[0] > SAME_SECONDS:
                found = health.probe(list(self._targets()))
                self._asked = time.monotonic(), found
            return self._asked[1]


def strip(say: Labels, found: Sequence[Health]) -> Markup:
    """One line about all services, for the top of every tab."""
    bad = [one for one in found if one.state in ("down", "degraded")]
    if not bad:
        return page.badge("good", say("system.all_well"))
    return page.join(
        Markup('<span class="state">{} {}</span>').format(
            page.badge(_KINDS[one.state], f"{say(f'system.name.{one.name}')}: {say(f'system.state.{one.state}')}"),
            say(f"system.without.{one.name}") if one.state == "down" else "",
        )
        for one in bad
    )


def services(say: Labels, found: Sequence[Health], calls: health.Calls | None = None) -> Markup:
    """The services as a table, and what to do about those that are not well.

    Args:
        say: labels.
        found: how they answered.
        calls: tell the versions where the services themselves do not.
    """
    columns = [say(f"system.column.{name}") for name in ("service", "state", "latency", "serves", "address")]
    rows = [
        (
            say(f"system.name.{one.name}"),
            page.badge(_KINDS[one.state], say(f"system.state.{one.state}")),
            say("unit.none") if one.milliseconds is None else say("unit.ms", value=say.number(one.milliseconds)),
            one.version or _version(say, one.name, calls),
            one.url,
        )
        for one in found
    ]
    notices = [
        page.notice(_KINDS[one.state], f"{_what(say, one)} {_remedy(say, one)}", one.detail)
        for one in found
        if one.state in ("down", "degraded")
    ]
    return page.join(notices) + page.table(say("system.services"), columns, rows, numbers=[2], stack=True)


def _version(say: Labels, name: str, calls: health.Calls | None) -> str:
    """The version that answered last: of the forecaster, or of the churn model, which runs inside the business API."""
    model = {"forecaster": "forecast", "api": "churn"}.get(name)
    version = calls.recent(model).version if calls and model else ""
    return say("system.version", model=say(f"system.model.{model}"), version=version) if version else say("unit.none")


def _what(say: Labels, one: Health) -> str:
    return say(f"system.cause.{one.cause}", name=say(f"system.name.{one.name}"), seconds=f"{health.TIMEOUT:g}")


def _remedy(say: Labels, one: Health) -> str:
    if one.cause == "reported":
        return say("system.remedy.reported")
    if one.local and one.cause in ("status", "garbage"):
        return say("system.remedy.restart", service=one.name)
    return say("system.remedy.local" if one.local else "system.remedy.remote", service=one.name)


def recent_calls(say: Labels, calls: health.Calls) -> Markup:
    """What the last calls of each model were like."""
    columns = [
        say(f"system.column.{name}") for name in ("model", "version", "calls", "failed", "substitutes", "median", "p95")
    ]
    rows = []
    for name in health.MODELS:
        recent = calls.recent(name)
        times = [
            say("unit.none") if not recent.calls else say("unit.ms", value=say.number(value))
            for value in (recent.median_ms, recent.p95_ms)
        ]
        counts = [say.number(count) for count in (recent.calls, recent.failed, recent.substitutes)]
        rows.append([say(f"system.model.{name}"), recent.version or say("unit.none"), *counts, *times])
    return page.table(say("system.recent"), columns, rows, numbers=range(2, 7), stack=True)


def scorecard(say: Labels, module: str) -> Markup:
    """The course's targets beside what was measured on this machine.

    Args:
        say: labels.
        module: its folder; an empty text for a summary of all modules and what was missed in them.
    """
    try:
        records: list[Record] = checkpoints.read_scorecard()
    except checkpoints.ScorecardError as error:
        return page.error(say, str(error))
    chosen = [record for record in records if not module or record["module"] == module]
    if not chosen:
        return page.paragraph(say("system.score.empty"), "empty")
    figures = []
    for name in dict.fromkeys(record["module"] for record in chosen):
        own = [bool(record["met"]) for record in chosen if record["module"] == name]
        figures.append((name, f"{sum(own)} / {len(own)}", say("system.score.met")))
    cards = page.cards(figures)
    if module:
        return cards + _conditions(say, say("system.score.table"), chosen)
    missed = [record for record in chosen if not record["met"]]
    if missed:
        return cards + _conditions(say, say("system.score.missed"), missed)
    return cards + page.paragraph(say("system.score.none_missed"), "caption")


def _conditions(say: Labels, caption: str, records: Sequence[Record]) -> Markup:
    columns = [say(f"system.column.{name}") for name in ("checkpoint", "condition", "target", "measured", "result")]
    rows = [
        (
            record["checkpoint"]["number"],
            record["label"],
            f"{_SIGNS[record['comparison']]} {checkpoints.number(record['target'], record['unit'])}",
            checkpoints.number(float("nan") if record["measured"] is None else record["measured"], record["unit"]),
            page.badge(
                "good" if record["met"] else "bad" if record["required"] else "fair",
                say("system.score.yes" if record["met"] else "system.score.no"),
            ),
        )
        for record in records
    ]
    return page.table(caption, columns, rows, numbers=[2, 3], stack=True)


def add(tab: gr.Tab, blocks: gr.Blocks, parts: Parts, say: Labels, watch: Watch, top: gr.HTML) -> None:
    """Put the tab's content into the surrounding Blocks.

    Args:
        tab: the tab itself.
        blocks: the page.
        parts: whom to ask.
        say: labels.
        watch: asks the services for all pages.
        top: the place for the line about all services.
    """
    page.html("system-lead", page.lead(say("system.title"), say("system.lead")))
    table = page.html("system-services")
    recent = page.html("system-recent")
    module = gr.Dropdown(
        [(say("system.score.all"), ""), *((name, name) for name in MODULES)], value="",
        label=say("system.score.module"), elem_id="system-module",
    )  # fmt: skip
    score = page.html("system-scorecard")
    timer = gr.Timer(EVERY_SECONDS)

    def look() -> tuple[str, str, str]:
        found = watch.now()
        return strip(say, found), services(say, found, parts.calls), recent_calls(say, parts.calls)

    def show_score(chosen: str) -> str:
        return scorecard(say, chosen or "")

    gr.on(
        [blocks.load, timer.tick, tab.select], look, None, [top, table, recent],
        **(page.QUICK | {"show_progress": "hidden"}),
    )  # fmt: skip
    gr.on([tab.select, module.change], show_score, module, score, **page.QUICK)
