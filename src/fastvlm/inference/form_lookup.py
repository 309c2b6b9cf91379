"""Finds the field of a form in which a value stands."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from fastvlm.inference.page import Found, Page, ReadLine, differ_by_one, likeness, surest
from fastvlm.processing.english import english

_FIELD_QUESTION = re.compile(
    r"\b(?:which|what) (?:field|entry) (?:says|shows|contains|holds|is|has(?: the value)?) (?P<a>.+)|"
    r"\bin which (?:field|entry) is (?P<b>.+)|\bfield with (?P<c>.+)|\bwhere is (?P<d>.+) entered",
    re.I,
)
_VALUE_QUESTION = re.compile(r"^what is (?!(?:the|this|that|an?|it)\b)(?P<a>.+)", re.I)
"""Names a label more often than a value."""

_LEAST_LIKENESS = 0.8
"""Of what was read to a value that is named."""

_SURE_OF_LETTERS = 0.7
"""A label that is read with less may have a letter that only looks like the right one."""

_READ_FOR_EACH_OTHER = str.maketrans("tlj1fc0unmhb", "iiiiieonnnnn")
"""Each letter as the first of those that are read for it."""

_HARDLY_READ, _LIKE_USUAL = 0.35, 0.8
"""A label that is read with less is a usual one that is so much like it."""

_NEARER, _LEAST_PAIRS = 0.8, 2
"""A value below its label is so much nearer to it than to the next label, and so it is for so many of a form."""

_KNOWN_ROWS, _MOST_WORDS = 0.6, 3
"""Of the rows from the first one that begins with a label on, how many do in a form; and words of a label at most."""

_LEAST_SURE_OF_LABEL = 0.3
"""How sure a label is however little so is the whole of a line that it begins."""

_BEGINS_VALUE = re.compile(r"[A-Z\d$€£¥+(_.:-]")
"""A value behind its label is no other word of a sentence."""

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
    if asked is not None:
        named = _named(asked)
        wholes = [_label_of_whole(line, named, page, is_value=True) for line in page.lines]
        return surest(wholes) or surest([_label_on_line(line, named) for line in page.lines])
    asked = _VALUE_QUESTION.search(question.strip(" ?.!"))
    if asked is None:
        return None
    return surest([_label_of_whole(line, _named(asked), page, is_value=False) for line in page.lines])


def look_up_field_on_line(question: str, page: Page) -> Found | None:
    """Answer *what is X* by the label before X on one line, where nothing else on the page answers it."""
    asked = _VALUE_QUESTION.search(question.strip(" ?.!"))
    return None if asked is None else surest([_label_on_line(line, _named(asked)) for line in page.lines])


def _named(asked: re.Match[str]) -> str:
    return next(value for value in asked.groups() if value).strip(" '\"?.!,").lower()


def values_below(page: Page) -> dict[ReadLine, ReadLine]:
    """Of a form whose labels stand above their values, the value of each label; empty for other pages.

    There each second row is nearer to the one above it than to the one below, and begins where that does. Two columns
    of them are told from labels beside their values by what fields are usually called.
    """
    centres = [sum(line.box.top + line.box.bottom for line in row) / (2 * len(row)) for row in page.rows]
    steps = [math.inf, *(below - above for above, below in itertools.pairwise(centres)), math.inf]
    found: dict[ReadLine, ReadLine] = {}
    num_pairs = 0
    for place, (above, below) in enumerate(itertools.pairwise(page.rows)):
        before, between, behind = steps[place : place + 3]
        pairs = {value: _begins_with(value, above) for value in below}
        if between < _NEARER * min(before, behind) and None not in pairs.values():
            num_pairs += 1
            found.update({label: value for value, label in pairs.items() if label is not None})
    if num_pairs < _LEAST_PAIRS or any(label.is_number for label in found):
        return {}
    if len(found) > num_pairs:
        num_called = sum(_is_usual(label) for label in found)
        if 2 * num_called < len(found) or any(_is_usual(value) for value in found.values()):
            return {}
    return found


def field_labels(page: Page) -> list[ReadLine]:
    """The labels of a form's fields, or the lines that begin with one; none of a page that is hardly a form.

    A label stands over its value; beside it; or before it on one line, with a colon or as fields are usually called.
    Of most rows that is known, and the others between them are fields too.
    """
    found = [[line for line in row if _is_label(line, row)] for row in page.rows]
    known = [place for place, labels in enumerate(found) if labels]
    over = [place for place in known if all(_may_stand_over(label) for label in page.rows[place])]
    if len(over) >= _LEAST_PAIRS and len(page.lines) == len(page.rows):
        # A first label that was misread is one too, where all rows but a title are pairs then.
        start = over[0] % 2 if (len(page.rows) - over[0]) % 2 == 0 else over[0]
        every_second = list(range(start, len(page.rows) - 1, 2))
        if set(over) <= set(every_second):
            return [page.rows[place][0] for place in every_second]
    first = known[0] if known else 0
    if len(known) < max(_LEAST_PAIRS, _KNOWN_ROWS * (len(page.rows) - first)):
        return []
    return [label for row, labels in zip(page.rows[first:], found[first:], strict=True) for label in labels or row[:1]]


def filled_labels(page: Page) -> list[ReadLine]:
    """The labels of those fields of a form that have a value: behind their label, beside it or below it."""
    labels = field_labels(page)
    return [label for label in labels if _has_value(label, labels, page)]


def _has_value(label: ReadLine, labels: Sequence[ReadLine], page: Page) -> bool:
    behind = re.search(r":\s*\S|\w\s+\w", label.text) is not None and not label.text.endswith(":")
    beside = [line for line in (*page.right_of(label)[:1], page.below(label)) if line is not None]
    return behind or any(line not in labels for line in beside)


def is_usual_label(line: ReadLine) -> bool:
    """Whether a line begins as a field is called that many forms have."""
    words = line.text.split()
    return any(
        _is_called(" ".join(words[:count]).lower()) and (count == len(words) or _BEGINS_VALUE.match(words[count]))
        for count in range(1, min(_MOST_WORDS, len(words)) + 1)
    )


def _is_label(line: ReadLine, row: Sequence[ReadLine]) -> bool:
    """Whether a line of a row is a label, or begins with one."""
    if not line.text[:1].isalpha():
        return False
    if re.search(r"[A-Za-z.]\s?:", line.text) or is_usual_label(line):
        return True
    return len(row) > 1 and row.index(line) % 2 == 0 and not any(":" in other.text for other in row)


def _may_stand_over(line: ReadLine) -> bool:
    """Whether a line is a usual label alone, with nothing behind it."""
    return _is_usual(line) and re.search(r"\d|:\s*\S", line.text) is None


def _begins_with(line: ReadLine, others: Sequence[ReadLine]) -> ReadLine | None:
    """Of some lines the one that begins where another does."""
    nearest = min(others, key=lambda other: abs(other.box.left - line.box.left))
    return nearest if abs(nearest.box.left - line.box.left) < 1.5 * nearest.box.height else None


def _is_usual(line: ReadLine) -> bool:
    return _is_called(line.text.lower().rstrip(" :"))


def _is_called(text: str) -> bool:
    """Whether a text is what a field is usually called, but for some letters."""
    alike = (one for one in _LABELS if min(len(one), len(text)) >= _LIKE_USUAL / 2 * max(len(one), len(text)))
    return any(likeness(one, text) >= _LIKE_USUAL for one in alike)


def _label_of_whole(line: ReadLine, named: str, page: Page, *, is_value: bool) -> Found | None:
    """The label on the left of a value, or above it.

    is_value: whether it is known to be one, and no label itself; else it has to stand alone beside a label.
    """
    alike = likeness(line.text.lower(), named)
    if alike < _LEAST_LIKENESS:
        return None
    labels = [label for label, value in values_below(page).items() if value is line]
    left = labels or page.left_of(line)
    if not is_value:
        is_label = page.below(line) is not None or page.number_above(line) is not None
        return _found(left[0].text, left[0], alike) if len(page.beside(line)) == 1 and left and not is_label else None
    before = left or [one for one in page.lines if page.below(one) is line]
    return _found(before[-1].text, before[-1], alike) if before else None


def _label_on_line(line: ReadLine, named: str) -> Found | None:
    """The label that a line begins with which ends with a value."""
    words = line.text.split()
    alike = [likeness(" ".join(words[count:]).lower(), named) for count in range(1, len(words))]
    best = max(alike, default=0.0)
    if best < _LEAST_LIKENESS:
        return None
    return _found(" ".join(words[: 1 + alike.index(best)]), line, best)


def _found(label: str, line: ReadLine, alike: float) -> Found | None:
    if not re.search("[A-Za-z]{2}", label):
        return None
    return Found(repaired_label(line, label), line, alike * max(line.confidence, _LEAST_SURE_OF_LABEL))


def repaired_label(line: ReadLine, label: str) -> str:
    """A label without what separates it from its value; one that is nearly a usual one is that one.

    But for a letter that looks like another where that was not surely read, and by likeness where it hardly was at all.
    """
    label = label.rstrip(" :;.-_=|")
    small = label.lower()
    usual = max(_LABELS, key=lambda one: likeness(one, small))
    is_near = line.confidence < _HARDLY_READ and likeness(usual, small) >= _LIKE_USUAL and _is_misread(small, usual)
    if line.confidence >= _SURE_OF_LETTERS or not (is_near or _differ_in_look(usual, small)):
        return label
    return usual.upper() if label.isupper() else usual.capitalize() if label[0].isupper() else usual


def _is_misread(label: str, usual: str) -> bool:
    """Whether a label may be a usual one that was misread, and is no other one, such as *county* or *phone 2*."""
    words = label.split()
    return (
        len(words) == len(usual.split())
        and all(map(str.isalpha, words))
        and not all(word in english() for word in words)
    )


def _differ_in_look(first: str, second: str) -> bool:
    """Whether two labels differ in a letter that is read for another."""
    first_look, second_look = first.translate(_READ_FOR_EACH_OTHER), second.translate(_READ_FOR_EACH_OTHER)
    return differ_by_one(first, second) and first_look == second_look
