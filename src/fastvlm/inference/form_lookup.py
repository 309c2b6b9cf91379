"""Finds the field of a form in which a value stands."""

from __future__ import annotations

import re
from difflib import SequenceMatcher, get_close_matches

from fastvlm.inference.page import Found, Page, ReadLine

_FIELD_QUESTION = re.compile(
    r"\b(?:which|what) (?:field|entry) (?:says|shows|contains|holds|is|has(?: the value)?) (?P<a>.+)|"
    r"\bin which (?:field|entry) is (?P<b>.+)|\bfield with (?P<c>.+)|\bwhere is (?P<d>.+) entered|"
    r"^what is (?!(?:the|this|that|an?)\b)(?P<e>.+)",
    re.I,
)
_LEAST_LIKENESS = 0.8
"""Of what was read to a value that is named."""

_SURE_OF_LABEL = 0.8
"""How often what stands before a value is its label, by about."""

_LABELS = (
    "account", "address", "amount", "city", "code", "company", "contact", "country", "customer", "date",
    "date of birth", "department", "due date", "email", "end date", "fax", "first name", "invoice", "last name", "name",
    "order no.", "phone", "postcode", "price", "quantity", "reference", "room", "start date", "status", "subject",
    "time", "title", "total", "weight", "zip",
)  # fmt: skip
"""Fields that many forms have: a label that is read as nearly one of them is that one."""


def look_up_field(question: str, page: Page) -> Found | None:
    """Answer a question for the field in which a value stands; None for others, or where no label stands before it."""
    asked = _FIELD_QUESTION.search(question.strip(" ?.!"))
    if asked is None:
        return None
    named = next(value for value in asked.groups() if value).strip(" '\"?.!,").lower()
    wholes = [one for line in page.lines if (one := _label_of_whole(line, named, page)) is not None]
    found = wholes or [one for line in page.lines if (one := _label_on_line(line, named)) is not None]
    return max(found, key=lambda one: one.confidence, default=None)


def _label_of_whole(line: ReadLine, named: str, page: Page) -> Found | None:
    """The label on the left of a value, or above it."""
    likeness = _likeness(line.text, named)
    if likeness < _LEAST_LIKENESS:
        return None
    before = page.left_of(line) or [one for one in page.lines if page.below(one) is line]
    return _found(before[-1].text, before[-1], likeness) if before else None


def _label_on_line(line: ReadLine, named: str) -> Found | None:
    """The label that a line begins with which ends with a value."""
    words = line.text.split()
    likeness = [_likeness(" ".join(words[count:]), named) for count in range(1, len(words))]
    best = max(likeness, default=0.0)
    if best < _LEAST_LIKENESS:
        return None
    return _found(" ".join(words[: 1 + likeness.index(best)]), line, best)


def _found(label: str, line: ReadLine, likeness: float) -> Found | None:
    if not re.search("[A-Za-z]{2}", label):
        return None
    return Found(repaired_label(label), line, likeness * _SURE_OF_LABEL)


def _likeness(first: str, second: str) -> float:
    return SequenceMatcher(None, first.lower(), second, autojunk=False).ratio()


def repaired_label(label: str) -> str:
    """A label without what separates it from its value; one that is nearly a usual one is that one."""
    label = label.rstrip(" :;.-_=|")
    usual = get_close_matches(label.lower(), _LABELS, n=1, cutoff=_LEAST_LIKENESS)
    return usual[0].capitalize() if usual else label
