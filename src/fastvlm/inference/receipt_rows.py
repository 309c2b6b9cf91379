"""The rows of a receipt: their amounts, and what kind of label stands beside these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from fastvlm.inference.page import Page, ReadLine, likeness

_TOTAL_LABELS = ("total", "balance due", "amount due", "balance")
_OTHER_LABELS = ("tax", "gst", "vat", "qty", "subtotal", "net", "change", "rounding", "discount", "service", "items")
_PAID_LABELS = ("cash", "visa", "card", "paid", "payment", "tendered", "mastercard")
_CHANGE_LABELS = ("change",)

_ADDED_LABELS = frozenset({"tax", "gst", "vat", "service", "rounding", "discount", "coupon", "tip", "gratuity"})

_LEAST_LIKENESS = 0.55
"""Of words, as they were read, to a label."""

_SAME, _LEAST_LETTERS = 0.75, 4
"""Likeness of a word to a label from which it is that label, misread; and letters of such a word."""

LEAST_AMOUNTS = 3
"""A page with fewer amounts is no receipt of which one could be told to be the total."""

LIKE_ENOUGH = 0.4
"""To a label, for the amounts of a row to be taken for what was paid, or for the change."""

_CURRENCY = re.compile(r"^\s*(?:[A-Z]{1,3}\b|R[A-Z][a-z]?|[$€£¥])?[\s/:.=-]*", re.I)
_AMOUNT = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,6})[.,:](\d\d)(?:\D{0,2}|EUR|USD|GBP|CHF)", re.I)
_AMOUNT_AT_END = re.compile(r"\s([$€£¥]?\d[\d,]*\.\d\d)$")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATED = re.compile(
    rf"\b\d{{1,4}}([-/.])\d{{1,2}}\1\d{{2,4}}\b|\b\d{{1,2}}\W?{_MONTH}\W*\d{{2}}|\b{_MONTH}\W+\d{{1,2}}, \d{{4}}", re.I
)
_DIGITS_OF_DATE = 4
_TIMED = re.compile(
    r"\b([ap]m|date|times?|hours?|open(s|ing)?|clos(es?|ing)|arrivals?|arrives?|departures?|departs?|until|check.?(in|out))\b",
    re.I,
)
"""What tells that a number with a colon is the time of a day."""


def amount_of(text: str) -> float | None:
    """The amount that a line says and nothing else, with two decimals; None where it says another thing."""
    first = text.split("\n", maxsplit=1)[0]
    written = _CURRENCY.sub("", first).replace(" ", "").replace("O", "0")
    found = _AMOUNT.fullmatch(written)
    return float(f"{found[1].replace(',', '')}.{found[2]}") if found else None


def is_same_amount(first: float, second: float) -> bool:
    """Whether two amounts are the same to the last of two decimals."""
    return abs(first - second) < 0.005


def is_dated(text: str) -> bool:
    """Whether a text has what looks like a date in it."""
    return bool(_DATED.search(text))


def is_added(words: str) -> bool:
    """Whether some words say that an amount is added to what was bought, or taken from it: a tax, a discount."""
    return bool(_ADDED_LABELS & set(re.findall("[a-z]+", words.lower())))


def is_called(words: str, *, total: bool = False) -> bool:
    """Whether one of some words is that of a sum, a tax or a payment, but for a letter; total: of the total only."""
    labels = _TOTAL_LABELS if total else (*_TOTAL_LABELS, *_OTHER_LABELS, *_PAID_LABELS)
    names = {word for label in labels for word in label.split()} - {"due", "amount", "items"}
    return any(_is_word(word, name) for word in re.findall("[a-z]+", words.lower()) for name in names)


def _is_word(read: str, name: str) -> bool:
    """Whether a word that was read is another one, but for a letter where it is not too short for that."""
    may_differ = len(read) >= _LEAST_LETTERS and abs(len(read) - len(name)) < 2
    return read == name or (may_differ and likeness(read, name) >= _SAME)


def written_amount(text: str, page: Page) -> str:
    """A text, with a point for a colon where it is an amount of a page whose other amounts have points."""
    if ":" not in text or amount_of(text) is None:
        return text
    others = [line.text for line in page.lines if amount_of(line.text) is not None]
    has_points = sum("." in other for other in others) > len(others) / 2
    return text.replace(":", ".") if has_points else text


class Amount(NamedTuple):
    """An amount in a row of a receipt; value: without its sign."""

    value: float
    line: ReadLine
    is_last: bool

    @property
    def is_negative(self) -> bool:
        """Whether it has a minus sign."""
        return bool(re.search(r"-\s?\W?\d[\d,]*[.,:]\d\d\D{0,2}$", self.line.text))


class Row(NamedTuple):
    """The amounts of a row, its words, and how much these are like labels of some kinds, from 0 to 1."""

    amounts: list[Amount]
    words: str
    total: float
    other: float
    paid: float
    change: float


def row_of(lines: Sequence[ReadLine]) -> Row:
    """Take the lines of a row apart: those that are amounts, or end in one, and the words of the others."""
    parts = [(line, *_parts(line.text)) for line in lines]
    words = " ".join(words for _, words, _ in parts)
    known = [(amount, line) for line, _, amount in parts if amount is not None]
    if _is_dated(words, is_alone=len(lines) == 1):
        known = [(amount, line) for amount, line in known if ":" not in line.text]
    return Row(
        [Amount(value, line, line is known[-1][1]) for value, line in known],
        words,
        *(_like_label(words, labels) for labels in (_TOTAL_LABELS, _OTHER_LABELS, _PAID_LABELS, _CHANGE_LABELS)),
    )


def is_receipt(page: Page) -> bool:
    """Whether a page has amounts, and speaks of a sum or of a payment."""
    rows = [row_of(lines) for lines in page.rows]
    has_sum = any(max(row.total, row.paid) > LIKE_ENOUGH for row in rows)
    return has_sum and sum(len(row.amounts) for row in rows) >= LEAST_AMOUNTS


def _parts(text: str) -> tuple[str, float | None]:
    """The words of a line, and the amount that it is or that it ends in."""
    whole = amount_of(text)
    if whole is not None:
        return "", whole
    end = _AMOUNT_AT_END.search(text)
    if end is None:
        return text, None
    words = text[: end.start()]
    has_label = re.search("[a-z]{2}", words, re.I) is not None
    # Of a telephone number, or of a price before it.
    is_one_of_two = re.search(r"\d[.:]\d\d\b|\d{3}\W+\d{3}\W*$", words) is not None
    return (words, amount_of(end[1])) if has_label and not is_one_of_two and not _TIMED.search(words) else (text, None)


def _is_dated(words: str, *, is_alone: bool) -> bool:
    """Whether what looks like an amount beside some words is the time of a day."""
    # A date whose dashes were not read.
    is_number = sum(map(str.isdigit, words)) >= _DIGITS_OF_DATE and not re.search("[a-z]", words, re.I)
    return is_number or is_dated(words) or bool(_TIMED.search(words)) or (is_alone and not words.strip())


def _like_label(text: str, labels: Sequence[str]) -> float:
    """How much words are like one of some labels, wherever it stands among them: 0 up to the least likeness."""
    letters = "".join(re.findall("[a-z]+", text.lower()))
    best = 0.0
    for label in (label.replace(" ", "") for label in labels):
        matcher = SequenceMatcher(None, "", label, autojunk=False)
        for start in range(max(1, len(letters) - len(label) + 1)):
            matcher.set_seq1(letters[start : start + len(label)])
            if matcher.quick_ratio() > max(best, _LEAST_LIKENESS):  # which is never below the ratio
                best = max(best, matcher.ratio())
    return max(0.0, best - _LEAST_LIKENESS) / (1 - _LEAST_LIKENESS)
