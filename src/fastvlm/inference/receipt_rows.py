"""The rows of a receipt: their amounts, and what kind of label stands beside these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from fastvlm.inference.page import Page, ReadLine

_TOTAL_LABELS = ("total", "balance due", "amount due", "balance")
_OTHER_LABELS = ("tax", "gst", "vat", "qty", "subtotal", "net", "change", "rounding", "discount", "service", "items")
_PAID_LABELS = ("cash", "visa", "card", "paid", "payment", "tendered", "mastercard")
_CHANGE_LABELS = ("change",)

_LEAST_LIKENESS = 0.55
"""Of words, as they were read, to a label."""

LIKE_ENOUGH = 0.4
"""To a label, for the amounts of a row to be taken for what was paid, or for the change."""

_CURRENCY = re.compile(r"^\s*(?:[A-Z]{1,3}\b|R[A-Z][a-z]?|[$€£¥])?[\s/:.=-]*", re.I)
_AMOUNT = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,6})[.,:](\d\d)\D{0,2}")
_AMOUNT_AT_END = re.compile(r"(.*[a-z]{2}.*)\s([$€£¥]?\d[\d,]*\.\d\d)", re.I | re.S)
_DATED = re.compile(
    r"\b\d{1,4}([-/.])\d{1,2}\1\d{2,4}\b|\d\W?[a-z]{3}[a-z]*\W*\d{2}|[a-z]{3} \d{1,2}, \d{4}|"
    r"\b[ap]m\b|\bdate\b|\btime\b",
    re.I,
)
"""What tells that a number with a colon is the time of a day."""


def amount_of(text: str) -> float | None:
    """The amount that a line says and nothing else, with two decimals; None where it says another thing."""
    first = text.split("\n", maxsplit=1)[0]
    written = _CURRENCY.sub("", first).replace(" ", "").replace("O", "0")
    found = _AMOUNT.fullmatch(written)
    return float(f"{found[1].replace(',', '')}.{found[2]}") if found else None


def written_amount(text: str, page: Page) -> str:
    """A text, with a point for a colon where it is an amount of a page whose other amounts have points."""
    if ":" not in text or amount_of(text) is None:
        return text
    others = [line.text for line in page.lines if amount_of(line.text) is not None]
    has_points = sum("." in other for other in others) > len(others) / 2
    return text.replace(":", ".") if has_points else text


class Amount(NamedTuple):
    """An amount in a row of a receipt."""

    value: float
    line: ReadLine
    is_last: bool


class Row(NamedTuple):
    """The amounts of a row, and how much its words are like labels of some kinds, from 0 to 1."""

    amounts: list[Amount]
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
        *(_like_label(words, labels) for labels in (_TOTAL_LABELS, _OTHER_LABELS, _PAID_LABELS, _CHANGE_LABELS)),
    )


def _parts(text: str) -> tuple[str, float | None]:
    """The words of a line, and the amount that it is or that it ends in."""
    whole = amount_of(text)
    if whole is not None:
        return "", whole
    end = _AMOUNT_AT_END.fullmatch(text)
    return (text, None) if end is None else (end[1], amount_of(end[2]))


def _is_dated(words: str, *, is_alone: bool) -> bool:
    """Whether what looks like an amount beside some words is the time of a day."""
    return bool(_DATED.search(words)) or (is_alone and not words.strip())


def _like_label(text: str, labels: Sequence[str]) -> float:
    """How much words are like one of some labels, wherever it stands among them: 0 up to the least likeness."""
    letters = "".join(re.findall("[a-z]+", text.lower()))
    likeness = 0.0
    for label in (label.replace(" ", "") for label in labels):
        matcher = SequenceMatcher(None, "", label, autojunk=False)
        for start in range(max(1, len(letters) - len(label) + 1)):
            matcher.set_seq1(letters[start : start + len(label)])
            if matcher.quick_ratio() > max(likeness, _LEAST_LIKENESS):  # which is never below the ratio
                likeness = max(likeness, matcher.ratio())
    return max(0.0, likeness - _LEAST_LIKENESS) / (1 - _LEAST_LIKENESS)
