"""A headless browser for the dashboard's tests, and what to look for in a page that it shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from workshop_lib.orchestration.dashboard_pictures import PATIENCE, find_browser
from workshop_lib.settings import ROOT

PROGRAM = find_browser()
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or ROOT / "generated" / "screenshots")
"""Pictures stay here after the tests, for people to look at."""
DESKTOP, PHONE = (1280, 900), (390, 844)

# Text whose contrast with its ground is below what WCAG 2 asks for: 4.5, and 3 for large letters.
LOW_CONTRAST = r"""
() => {
  const channel = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return numbers.length > 3 ? numbers : [...numbers, 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const own = (element) => [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent).join("");
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const box_of_text = element.matches("textarea, input:not([type=radio], [type=checkbox], [type=range])");
    const typed = box_of_text ? element.value || element.placeholder : "";
    const words = (own(element) || typed).trim();
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const hidden = element.closest("script, style, option, .sr-only, .hide") || style.visibility === "hidden";
    if (!words || hidden || box.width < 3 || !element.checkVisibility({checkOpacity: true})) continue;
    const svg = element.namespaceURI.endsWith("svg");
    const below = ground(element), color = over(parse(svg ? style.fill : style.color), below);
    const [light, dark] = [luminance(color), luminance(below)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${words.slice(0, 40)}`);
  }
  return found;
}
"""
# What a screen reader would have no name for.
NAMELESS = """
() => {
  const text = (id) => document.getElementById(id)?.textContent || "";
  const names = (e) => [
    (e.getAttribute("aria-labelledby") || "").split(" ").map(text).join(""), e.getAttribute("aria-label"),
    e.labels && [...e.labels].map((label) => label.textContent).join(""), e.title, e.textContent,
  ];
  const controls = "input, select, textarea, button, [role=tab], a[href], [role=img], [role=region]";
  return [...document.querySelectorAll(controls)]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 1 && !e.closest("[aria-hidden=true]"))
    .filter((e) => !names(e).some((name) => name && name.trim()))
    .map((e) => e.outerHTML.slice(0, 160));
}
"""
FOCUS_RING = """
() => {
  document.querySelector("[role=tab]").focus({focusVisible: true});
  return parseFloat(getComputedStyle(document.activeElement).outlineWidth);
}
"""
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass
class Visit:
    """A page, and all that it asked for and complained about meanwhile."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    """Hosts, with their ports, of every request."""
    complaints: list[str] = field(default_factory=list)
    """Errors that the browser reports: scripts, refused sources, missing files."""

    def open_tab(self, name: str) -> None:
        """Click on a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def picture(self, name: str) -> Path:
        """Keep a screenshot of the whole page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.evaluate("() => document.activeElement?.blur()")
        self.page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def browser() -> Iterator[Browser]:
    """The browser of this machine, as long as the block lasts."""
    with sync_playwright() as playwright:
        # Root runs tests in containers, where the browser's own sandbox does not start.
        yield playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])


@contextmanager
def visit(program: Browser, size: tuple[int, int] = DESKTOP, scheme: Any = "light", **options: Any) -> Iterator[Visit]:
    """A fresh reader: no cookies, no history.

    Args:
        program: the browser.
        size: of the window, pixels.
        scheme: ``light`` or ``dark``.
        options: further ones of a browser context.
    """
    context = program.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce", **options
    )
    context.set_default_timeout(PATIENCE)
    seen = Visit(context.new_page())
    seen.page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on(
        "console", lambda message: seen.complaints.append(message.text) if message.type == "error" else None
    )  # fmt: skip
    try:
        yield seen
    finally:
        context.close()
