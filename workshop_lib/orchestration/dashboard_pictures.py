"""Pictures of the dashboard, as a browser without a window sees it.

    pictures = look("http://127.0.0.1:7860", ["forecast", "system"])
    pictures["forecast"].png, pictures["forecast"].hosts

Where there is no Chromium, such as in a workbench, :func:`find_browser` gives None and nobody can look.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from workshop_lib.orchestration.labels import Labels, Language

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1100, 800), (390, 800)
"""Width and height of the window, pixels."""
PATIENCE = 180_000
"""Milliseconds that a view may take, on the slowest machine."""
TABS = {
    "forecast": "#forecast-plot .js-plotly-plot .trace",
    "content": "#content-write",
    "customers": "#customers-insight .advice",
    "market": "#market-seasons .js-plotly-plot .trace",
    "assistant": "#assistant-question textarea",
    "system": "#system-services table",
}
"""Every tab, and what is there when it has done its work."""


@dataclass(frozen=True)
class Picture:
    """One tab."""

    png: bytes
    hosts: frozenset[str]
    """Hosts and ports of all that the page has asked for until then."""
    alt: str
    """What it shows, for who cannot see it: the names of the dashboard and of the tab."""


def find_browser() -> str | None:
    """The program; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def look(
    url: str,
    tabs: Sequence[str],
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    language: Language = "en",
    height: int | None = None,
) -> dict[str, Picture]:
    """Open the dashboard and look at some tabs.

    Args:
        url: of the dashboard.
        tabs: keys of :data:`TABS`.
        size: of the window.
        scheme: what the reader's system prefers.
        language: of the page.
        height: of a picture, pixels; the whole page by default.

    Returns:
        A picture per tab; none where there is no browser.

    Raises:
        playwright.sync_api.Error: when the dashboard cannot be reached or shows nothing in time.
    """
    program = find_browser()
    if program is None:
        return {}

    def work() -> dict[str, Picture]:
        with sync_playwright() as playwright:
            # In a container the browser's own sandbox does not start; it only sees the course's own page.
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
            )
            page.set_default_timeout(PATIENCE)
            hosts: set[str] = set()
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            page.goto(f"{url}/{language}/")
            page.wait_for_selector(TABS["forecast"])
            labels, pictures = Labels(language), dict[str, Picture]()
            for tab in tabs:
                png = _shoot(page, tab, language, height)
                pictures[tab] = Picture(png, frozenset(hosts - {""}), f"{labels('page.title')}: {labels(f'{tab}.tab')}")
            return pictures

    # A thread of its own: a notebook runs in an event loop, where this interface of the browser does not work.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _shoot(page: Page, tab: str, language: Language, height: int | None) -> bytes:
    page.get_by_role("tab", name=Labels(language)(f"{tab}.tab"), exact=True).click()
    page.wait_for_selector(TABS[tab])
    page.wait_for_timeout(300)  # until the plots have their size
    if height is None:
        return page.screenshot(full_page=True)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})  # type: ignore[index]
    page.wait_for_timeout(200)
    return page.screenshot()
