"""The number that a receipt or an invoice goes by: a code behind a label, or one that looks like such codes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fastvlm.inference.page import Found, Page, ReadLine, joined_line, likeness, surest
from fastvlm.inference.receipt_rows import is_dated, is_receipt

_DOCUMENT = r"(?:receipt|bill|slip|invoice|ticket|order|transaction)"
_QUESTION = re.compile(
    rf"\b(?:the )?reference\b|\b{_DOCUMENT}(?:'s)? (?:number|no)\b|\bnumber of (?:the|this) {_DOCUMENT}\b|"
    rf"\bwhat number does (?:the|this) {_DOCUMENT}|\b(?:number|code) identifies\b",
    re.I,
)
_OTHER_QUESTION = re.compile(
    r"\d|\b(?:how many|how much|items?|products?|pieces|phone|tax|vat|gst|fax|table|column|row|customer|date|dated|"
    r"time|when|who|whom|price|cost|total|amount)\b",
    re.I,
)
"""Of what such a document says beside its number, or of one that the question tells itself."""

_LABELS = ("receipt", "bill", "invoice", "order", "ticket", "slip", "transaction", "reference", "ref")
_NUMBER_WORDS = ("", "no", "number", "nr")
_LEAST_LIKENESS, _LEAST_LETTERS = 0.7, 4
"""Of what stands before a code, as it was read, to a label; a shorter one is compared to the letter."""

_NAMED = 1.0
"""What a label counts more for that is called as the question calls it."""

_CODE_AT_END = re.compile(r"^(?P<label>.*?)(?<![\w./-])(?P<code>(?=[\w/-]*\d{3})(?:[A-Z]{1,5}[/-]?)?\d{3,12})\W*$")
_CODE_ALONE = re.compile(r"(?<![\w-])(?=[\w-]*\d{3})[A-Z]{1,5}-?\d{3,9}(?![\w-])")
"""Without a label before it, it begins with letters."""

_MOST_LABEL_LINES = 2
"""That a label to the left of a code may have been read in."""

_SURE_OF_LABELLED = 0.4
"""How often a code behind a label is right at least, by about, however unsurely its line was read."""


def look_up_number(question: str, page: Page) -> Found | None:
    """Answer a question for the number of a receipt by its label; None for others, or where none has one."""
    if not _asks_for_number(question) or not is_receipt(page):
        return None
    found = [(_likeness_of_label(label, question), one) for label, one in _labelled(page.rows)]
    known = [(alike, one) for alike, one in found if alike > 0]
    return max(known, key=lambda one: (one[0], one[1].confidence))[1] if known else None


def look_up_code(question: str, page: Page) -> Found | None:
    """Answer such a question by what codes look like, whatever the page is."""
    return surest(_alone(page.lines)) if _asks_for_number(question) else None


def _asks_for_number(question: str) -> bool:
    return bool(_QUESTION.search(question)) and not _OTHER_QUESTION.search(question)


def _labelled(rows: Sequence[Sequence[ReadLine]]) -> Iterator[tuple[str, Found]]:
    """Codes at the ends of lines, with what stands before them there, or to their left."""
    for row in rows:
        for place, line in enumerate(row):
            code = _CODE_AT_END.match(line.text)
            if code is None or is_dated(line.text):
                continue
            is_labelled = re.search("[A-Za-z]{2}", code["label"]) is not None
            for start in (place,) if is_labelled else range(max(0, place - _MOST_LABEL_LINES), place):
                before = row[start:place]
                label = " ".join([*(one.text for one in before), code["label"]])
                sure = max(joined_line([*before, line]).confidence, _SURE_OF_LABELLED)
                yield label, Found(code["code"], line, sure)


def _alone(lines: Sequence[ReadLine]) -> Iterator[Found]:
    for line in lines:
        for code in _CODE_ALONE.findall(line.text):
            yield Found(code, line, line.confidence)


def _likeness_of_label(text: str, question: str) -> float:
    """How much some words are like the label of such a number; 0 where they are none."""
    letters = re.sub(r"[\W\d_]", "", text.lower())
    least = _LEAST_LIKENESS if len(letters) >= _LEAST_LETTERS else 1.0
    alike = {label: max(likeness(letters, label + word) for word in _NUMBER_WORDS) for label in _LABELS}
    alike["no"] = float(letters in ("no", "nr", "number"))
    best = max(alike, key=lambda label: alike[label] + _NAMED * (label in question.lower()) * (alike[label] >= least))
    return alike[best] + _NAMED * (best in question.lower()) if alike[best] >= least else 0.0
