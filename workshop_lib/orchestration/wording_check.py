"""What speaks against a text that a language model wrote about given facts.

The measure of module 2 finds numbers and claims that nobody gave. Here comes what it lets through: numbers in words
("two hundred", "5 million"), changes ("doubled", "fell"), days and months, a number beside the wrong label, a text that
is cut off or goes in circles, and an instruction that was passed on. The rules are strict on purpose: a good text
that is refused costs one more attempt, a wrong number that is published costs trust.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import pairwise

from workshop_lib.generative.claims import FUNCTION_WORDS
from workshop_lib.generative.facts import UNITS
from workshop_lib.generative.quality import invented_claims, invented_numbers, mentions, repeated_share

LENGTH = (6, 60)
"""Fewest and most words of a text for people."""
REPEATED = 0.3
"""Share of three-word sequences that occurred before, from which a text goes in circles."""
NAMES = frozenset({"product", "brand", "category", "department", "name", "note"})
"""Labels of facts that are names or notes: text that somebody typed in, no figures."""
LONGEST_FACT = 120
"""Characters of a fact that reach a prompt; a name or a note needs no more."""

_SMALL = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ABBREVIATED = {"k": 1_000, "M": 1_000_000, "bn": 1_000_000_000}
_WORDS = "|".join([*_SMALL, *_TENS, *_SCALES])
_WORDED = re.compile(rf"\b(?:an?\s+(?={'|'.join(_SCALES)}))?(?:{_WORDS})(?:[\s-]+(?:{_WORDS}))*\b", re.IGNORECASE)
_SCALED = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(?:([kM]|bn)\b|((?i:hundred|thousand|million|billion))s?\b)")
# "A dollar" is a price, "one week" a time; the measure of module 2 lets single things pass.
_SINGLE = re.compile(
    r"\b(?:an?|one)\s+(?=(?:dollar|cent|percent)s?\b)|\bone\s+(?=(?:day|week|month|year|unit|basket|visit)s?\b)", re.I
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_VAGUE = re.compile(
    r"\b(?:doubl|tripl|quadrupl|halv)\w*|\b(?:twice|thrice|dozens|hundreds|thousands|millions|billions)\b|\b\w+-?fold\b"
    r"|\b(?:a|one|two|three|four)[\s-](?:third|quarter|fifth|tenth)s?\b",
    re.IGNORECASE,
)
_WAYS = {
    "up": re.compile(
        r"\bup(?=\s+(?:by\s+|from\s+|to\s+)?\$?\d)|\b(?:rise[sn]?|rising|rose|increas\w*|grew|grow\w*|higher|gain\w*"
        r"|surg\w*|soar\w*|climb\w*)\b|(?<![\w.])\+(?=\$?\d)",
        re.IGNORECASE,
    ),
    "down": re.compile(
        r"\bdown(?=\s+(?:by\s+|from\s+|to\s+)?\$?\d)|\b(?:fall(?:s|en|ing)?|fell|declin\w*|decreas\w*|drop(?:s|ped|ping)?"
        r"|lower\w*|shr[ai]nk\w*)\b|(?<![\w.])[-−–](?=\$?\d)",
        re.IGNORECASE,
    ),
}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# "March" and "May" are months only with a capital.
_DAY_NAMES = re.compile(rf"\b(?:{'|'.join(_MONTHS)}|(?i:{'|'.join(_WEEKDAYS)}))\b")
_PERIODS = re.compile(
    r"\b(?:last|next|past|previous|coming)\s+(?:day|week|weekend|month|quarter|year|season)s?\b|\b(?:yesterday|tomorrow)\b",
    re.IGNORECASE,
)
# What stands beside a number in any text, and so does not tell that the number is a part of a name.
_NO_PART_OF_A_NAME = (
    FUNCTION_WORDS | {*UNITS, *UNITS.values()} | {"price", "costs", "cost", "dollar", "dollars", "cents"}
)
_ISO = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_MONTH_DAY = re.compile(
    rf"\b({'|'.join(_MONTHS)})\s+(\d{{1,2}})\b|\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({'|'.join(_MONTHS)})\b"
)
_CLAUSE = re.compile(r"[.!?;](?=\s|$)|,\s|\band\b(?!\s+\$?\d)|\bwhile\b|\bbut\b")
_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:above|previous|prior|earlier|instruction|rule|prompt|fact|all)"
    r"|\b(?:system|developer) (?:prompt|message|note)|\b(?:assistant|user|system|developer)\s*:|\byou are now\b"
    r"|\byou must (?:not|now|always|never|say|write|answer|ignore)\b|\bnew task\b"
    r"|\b(?:say|write|answer|respond|reply|print|output|reveal|repeat)\s+(?:that|with|only|the|in|all|exactly)\b"
    r"|\b(?:act as|pretend|jailbreak)\b|\binstructions?\b|</?\w+>|\{\{|\[/?INST"
    r"|\b(?:ignora|olvida|responde|escribe|revela)\b",
    re.IGNORECASE,
)
_LINK = re.compile(r"https?://|www\.|\S+@\w+\.\w+")
_MARKUP = re.compile(r"<\|[^|>]*\|>")


def clean(text: object, longest: int = LONGEST_FACT) -> str:
    """A fact as it may stand in a prompt: one line, plain characters, not too long; quoted if it gives orders.

    Nothing of a fact is taken for an instruction. What looks like one stays, in quotation marks, so that a reader
    sees what the catalogue says; :func:`objections` makes sure that nothing comes of it.
    """
    kept = _MARKUP.sub(" ", unicodedata.normalize("NFKC", str(text)))
    kept = " ".join("".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in kept).split())
    if len(kept) > longest:
        kept = kept[: longest - 1].rsplit(" ", 1)[0] + "…"
    if not looks_like_an_instruction(kept) or re.fullmatch('"[^"]*"', kept):
        return kept
    return '"' + kept.replace('"', "'") + '"'


def looks_like_an_instruction(text: str) -> bool:
    """Whether a text speaks to a language model rather than about a product or a customer.

    A list of patterns finds the usual forms only. It decides about quotation marks and about whose numbers count as
    given, never about whether something is safe.
    """
    return _INSTRUCTION.search(text) is not None


def objections(
    text: str,
    facts: Mapping[str, str],
    length: tuple[int, int] = LENGTH,
    required: Iterable[str] = (),
    names: Iterable[str] = NAMES,
) -> tuple[str, ...]:
    """What speaks against a text; nothing when it may be shown.

    Args:
        text: as the language model wrote it, in English.
        facts: label and value of what it was given; both may be used in the text.
        length: fewest and most words.
        required: labels whose values the text must mention.
        names: labels of facts that somebody typed in: see :func:`unstated`.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if not text:
        return ("empty",)
    missing = tuple(f"{label} is missing" for label in required if not mentions(text, facts[label]))
    return (*unstated(text, facts, names), *missing, *_form(text, length))


def unstated(text: str, facts: Mapping[str, str], names: Iterable[str] = NAMES) -> tuple[str, ...]:
    """Numbers, claims, changes and days of the text that no fact states, as they stand in the text.

    A number of a name is given as a part of this name only: "2% milk" allows no "2% cheaper". A price in a name is
    never given, nor is anything in a fact that looks like an instruction. Otherwise whoever names a product could name
    its price.
    """
    stated = {label: value for label, value in facts.items() if not looks_like_an_instruction(value)}
    typed = [stated[label] for label in names if label in stated]
    figures = [
        _in_digits(part) for label, value in stated.items() if label not in set(names) for part in (value, label)
    ]
    given = " ".join((*stated.keys(), *stated.values(), *_spelt_dates(stated.values())))
    found = [
        *invented_numbers(_in_digits(_without_names(text, typed)), figures),
        *invented_claims(text, [*stated.values(), *stated.keys()]),
        *_absent(_VAGUE, text, given),
        *_absent(_DAY_NAMES, text, given),
        *_absent(_PERIODS, text, given),
        *(day for day in _ISO.findall(text) if day not in given),
        *(
            match[0]
            for match in _MONTH_DAY.finditer(text)
            if _pair(match) not in map(_pair, _MONTH_DAY.finditer(given))
        ),
        *_wrong_ways(text, stated),
        *_mislabelled(text, stated),
    ]
    return tuple(dict.fromkeys(found))


def _without_names(text: str, names: Iterable[str]) -> str:
    """The text without the numbers that belong to a name: where the whole name stands, or its words beside them."""
    for name in (name for name in names if "$" not in name and _NUMBER.search(name)):
        text = re.sub(re.escape(name), " ", text, flags=re.IGNORECASE)
        words = re.findall(r"\d[\d.,]*%?|[^\W\d]+", name)
        for one, other in pairwise(words):
            number, word = (one, other) if one[0].isdigit() else (other, one)
            if number[0].isdigit() and word.lower() not in _NO_PART_OF_A_NAME and not word[0].isdigit():
                text = re.sub(rf"\b{re.escape(one)}[\s-]*{re.escape(other)}\b", " ", text, flags=re.IGNORECASE)
    return text


def _absent(pattern: re.Pattern[str], text: str, given: str) -> list[str]:
    known = given.lower()
    return [match[0] for match in pattern.finditer(text) if match[0].lower() not in known]


def _in_digits(text: str) -> str:
    """The text with its larger numbers in digits: "twenty-five" as 25, "5 million" as 5000000, "a dollar" as 1 dollar.

    Words up to twelve stay as they are: the measure of module 2 knows them, with their units.
    """

    def digits(match: re.Match[str]) -> str:
        words = re.findall(r"[a-z]+", match[0].lower())
        return match[0] if all(_SMALL.get(word, 99) <= 12 for word in words) else str(_value(words))

    def scaled(match: re.Match[str]) -> str:
        factor = _ABBREVIATED[match[2]] if match[2] else _SCALES[match[3].lower()]
        return f"{float(match[1].replace(',', '')) * factor:.10g}"

    return _WORDED.sub(digits, _SCALED.sub(scaled, _SINGLE.sub("1 ", text.replace("⁄", "/"))))


def _value(words: list[str]) -> int:
    total = part = 0
    for word in words:
        if word in _SCALES:
            part = max(part, 1) * _SCALES[word]
            if _SCALES[word] > 100:
                total, part = total + part, 0
        else:
            part += {"a": 0, "an": 0, **_SMALL, **_TENS}[word]
    return total + part


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in _NUMBER.findall(_in_digits(text))}


def _spelt_dates(values: Iterable[str]) -> Iterable[str]:
    """Dates of the facts in words: a text may call 2018-01-01 Monday, January 1."""
    for day in _ISO.findall(" ".join(values)):
        try:
            date = dt.date.fromisoformat(day)
        except ValueError:  # "2018-13-40" is a text like any other
            continue
        yield f"{_WEEKDAYS[date.weekday()]} {_MONTHS[date.month - 1]} {date.day}"


def _pair(match: re.Match[str]) -> tuple[str, int]:
    return (match[1] or match[4], int(match[2] or match[3]))


def _clauses(text: str) -> list[str]:
    return [clause for clause in _CLAUSE.split(text) if clause.strip()]


def _directed(text: str) -> dict[float, set[str]]:
    """Numbers of the text that go up or down."""
    found: dict[float, set[str]] = {}
    for clause in _clauses(text):
        ways = {way for way, pattern in _WAYS.items() if pattern.search(clause)}
        for number in _numbers(clause) if len(ways) == 1 else ():
            found.setdefault(number, set()).update(ways)
    return found


def _wrong_ways(text: str, facts: Mapping[str, str]) -> list[str]:
    """Words such as "rose" where no fact rises, or beside a number that falls."""
    given = ". ".join(f"{label} {value}" for label, value in facts.items())
    found = [
        match[0]
        for pattern in _WAYS.values()
        if not pattern.search(given) and (match := pattern.search(text)) and match[0].lower() not in given.lower()
    ]
    known = _directed(given)
    for number, ways in _directed(text).items():
        if number in known and not ways <= known[number]:
            found.append(f"{number:g} goes {' and '.join(sorted(ways))}")
    return found


def _mislabelled(text: str, facts: Mapping[str, str]) -> list[str]:
    """Clauses that name facts by their labels and state only numbers of other facts."""
    numbers = {label: _numbers(value) for label, value in facts.items()}
    found = []
    for clause in _clauses(text):
        said = _numbers(clause)
        named = [label for label, own in numbers.items() if own and mentions(clause, label)]
        own = set().union(*(numbers[label] for label in named))
        others = set().union(*numbers.values()) - own
        if named and said and said <= others:
            found.append(f"{' and '.join(named)}: {', '.join(f'{number:g}' for number in sorted(said))}")
    return found


def _form(text: str, length: tuple[int, int]) -> list[str]:
    """What is wrong with a text whatever it is about."""
    words = len(re.findall(r"\S*\w\S*", text))
    faults = {
        f"{words} words": not length[0] <= words <= length[1],
        "cut off": re.search(r"[.!?…][\"'”’)]*$", text) is None,
        "repeats itself": repeated_share(text) > REPEATED,
        "is a list": re.search(r"^\s*(?:[-*•]|\d{1,2}[.)])\s", text, re.MULTILINE) is not None,
        "passes an instruction on": looks_like_an_instruction(text),
        "has a link": _LINK.search(text) is not None,
        "has markup": _MARKUP.search(text) is not None,
    }
    return [fault for fault, there in faults.items() if there]
