"""The number that a receipt or an invoice goes by: a code behind a label, or one that looks like such codes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fastvlm.inference.page import Found, Page, ReadLine, joined_line, likeness
from fastvlm.inference.receipt_rows import is_dated, is_receipt

_DOCUMENT = r"(?:receipt|bill|slip|invoice|ticket|order|transaction)"
_QUESTION = re.compile(
    rf"\b(?:the )?reference\b|\b{_DOCUMENT}(?:'s)? (?:number|no)\b|\bnumber of (?:the|this) {_DOCUMENT}\b|"
    rf"\bwhat number does (?:the|this) {_DOCUMENT}|\b(?:number|code) identifies\b",
    re.I,
)
_OTHER_QUESTION = re.compile(
    r"\b(?:how many|items?|products?|pieces|phone|tax|vat|gst|fax|table|column|row|customer)\b", re.I
)
_LABELS = ("receipt", "bill", "invoice", "order", "ticket", "slip", "transaction", "reference", "ref", "no", "number")
_OTHER_LABEL = re.compile(r"\b(?:te[l1]|phone|fax|gst|vat|tax|reg|id|table|member|card|cust\w*|co)\b", re.I)
_LEAST_LIKENESS, _LEAST_LETTERS = 0.7, 4
"""Of the first word of a row, as it was read, to one of the labels; a shorter one is compared to the letter."""

_CODE = re.compile(r"(?<![\w./-])(?=[\w/-]*\d{3})(?:[A-Z]{1,5}[/-]?)?\d{3,12}(?![\w./:-])")
_CODE_ALONE = re.compile(r"(?<![\w-])(?=[\w-]*\d{3})[A-Z]{1,5}-?\d{3,9}(?![\w-])")
"""Without a label before it, it begins with letters."""

_SURE_OF_LABELLED = 0.4
"""How often a code behind a label is right at least, by about, however unsurely its line was read."""


def look_up_number(question: str, page: Page) -> Found | None:
    """Answer a question for the number of a receipt by its label; None for others, or where none has one."""
    return _surest(_labelled(page.rows)) if _asks_for_number(question) and is_receipt(page) else None


def look_up_code(question: str, page: Page) -> Found | None:
    """Answer such a question by what codes look like, whatever the page is."""
    return _surest(_alone(page.lines)) if _asks_for_number(question) else None


def _asks_for_number(question: str) -> bool:
    return bool(_QUESTION.search(question)) and not _OTHER_QUESTION.search(question)


def _labelled(rows: Sequence[Sequence[ReadLine]]) -> Iterator[Found]:
    for row in rows:
        line = joined_line(row)
        words = line.text.split()
        codes = _CODE.findall(line.text)
        if codes and words and _is_label(words[0]) and not is_dated(line.text) and not _OTHER_LABEL.search(line.text):
            yield Found(codes[-1], line, max(line.confidence, _SURE_OF_LABELLED))


def _alone(lines: Sequence[ReadLine]) -> Iterator[Found]:
    for line in lines:
        for code in _CODE_ALONE.findall(line.text):
            yield Found(code, line, line.confidence)


def _is_label(word: str) -> bool:
    letters = re.sub(r"[\W\d_]", "", word.lower())
    least = _LEAST_LIKENESS if len(letters) >= _LEAST_LETTERS else 1.0
    return any(likeness(letters, label) >= least for label in _LABELS)


def _surest(found: Iterator[Found]) -> Found | None:
    return max(found, key=lambda one: one.confidence, default=None)
