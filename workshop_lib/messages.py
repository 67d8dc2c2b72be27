"""What the library and the code cells show, in the learner's language: hints, checkpoints, titles and axes of plots.

    translate("units sold")                     # "unidades vendidas" with WORKSHOP_LANG=es, else the text itself
    translate("loss: 12%")                      # found by the entry "loss: {0}"

Code holds English texts only, so that all editions share their cells. Where a text is shown it is looked up in
``locale/<language>/messages.po``; a text that is not there stays English. A text that code puts together from parts
(an f-string) stands in the catalogue with its parts as gaps, numbered from zero.
"""

from __future__ import annotations

import re
from functools import cache

from workshop_lib.settings import ROOT, settings

CATALOGUE = "messages.po"
GAP = re.compile(r"\{\d+\}")
"""A part that code puts in."""


def translate(text: str, language: str | None = None) -> str:
    """A text in the learner's language; itself where the catalogue does not know it.

    Args:
        text: as the code has it.
        language: the settings' by default.
    """
    language = language or settings.lang
    if language == "en" or not text:
        return text
    exact, patterns = _catalogue(language)
    if text in exact:
        return exact[text]
    for pattern, translation in patterns:
        if found := pattern.fullmatch(text):
            return translation.format(*(translate(part, language) for part in found.groups()))
    return text


@cache
def _catalogue(language: str) -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Whole texts, and those with gaps, the longest first."""
    import polib

    path = ROOT / "locale" / language / CATALOGUE
    if not path.is_file():
        return {}, []
    known = {entry.msgid: entry.msgstr for entry in polib.pofile(str(path)) if entry.msgstr and not entry.obsolete}
    exact = {text: translation for text, translation in known.items() if not GAP.search(text)}
    patterns = [
        (re.compile("(.*?)".join(map(re.escape, GAP.split(text))), re.S), translation)
        for text, translation in sorted(known.items(), key=lambda pair: -len(pair[0]))
        if GAP.search(text)
    ]
    return exact, patterns
