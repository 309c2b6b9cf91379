"""What receipts have that no label stands beside: the total, the dearest item, date, time and number."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from fastvlm.inference.page import Found, Page, ReadLine

_TOTAL_QUESTION = re.compile(
    r"\b(grand |final )?(total|sum)\b|\bfinal amount\b|\bcome to\b|\beverything cost\b|\bin total\b|\bto pay\b", re.I
)
_OTHER_QUESTION = re.compile(
    r"\b(sub-?total|net|discount|savings?|weight|items?|who|where|tax|vat|gst|column|row|how many|number of|average)\b",
    re.I,
)
_DATE_QUESTION = re.compile(r"\bdate\b|\bwhen was\b|\b(which|what) day\b", re.I)
_TIME_QUESTION = re.compile(r"\b(what|which|the|give me|tell me the) (time|hour)\b|^\W*time\W*$", re.I)
_NUMBER_QUESTION = re.compile(
    r"\b(reference|(receipt|bill|slip|invoice|ticket) number|number of (the|this) (receipt|bill|slip|invoice)|"
    r"what number does|which number identifies)\b",
    re.I,
)
_DEAREST_QUESTION = re.compile(r"\b(most expensive|dearest|costs? (the )?most|highest price)\b", re.I)
_OTHER_DATE = re.compile(r"\b(birth|due|start|end|delivery|what time|column|row)\b", re.I)

_TOTAL_LABELS = ("total", "balance due", "amount due", "balance")
_OTHER_LABELS = ("tax", "gst", "vat", "qty", "subtotal", "net", "change", "rounding", "discount", "service", "items")
_PAID_LABELS = ("cash", "visa", "card", "paid", "payment", "tendered", "mastercard")
_CHANGE_LABELS = ("change",)

_LEAST_LIKENESS = 0.55
"""Of words, as they were read, to a label."""

_LEAST_AMOUNTS = 3
"""A page with fewer amounts is no receipt of which one could be told to be the total."""

_SIGNS = "$€£¥"
_SURE_OF_SIGN = 0.5
"""A sign of a currency is often a misread digit or letter; with less confidence it is left out."""

PIECES = re.compile(r"\s*[x×]\s?\d*$", re.I)
"""Behind the name of an item, such as `x2`."""

_CURRENCY = re.compile(r"^\s*(?:[A-Z]{1,3}\b|R[A-Z][a-z]?|[$€£¥])?[\s/:.=-]*", re.I)
_AMOUNT = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,6})[.,:](\d\d)\D{0,2}")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NUMERIC_DATE = re.compile(r"(?<![\d/.-])(\d{1,4})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_MONTH_FIRST = re.compile(r"([A-Za-z]{3})[a-z]*[. ]+(\d{1,2})[, ]+(\d{4})(?!\d)")
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(:[0-5]\d)?(?![\d:])(\s?[AP]M\b)?", re.I)
_NUMBER = re.compile(r"(?<![\w-])(?=[\w-]*\d{3})[A-Z]{1,5}-?\d{3,9}(?![\w-])")
_NAMED_DATE = re.compile(r"(?<!\d)(\d{1,2})[-/. ]?([A-Za-z]{3})[a-z]*[-/. ,]*(\d{4}|\d{2})(?!\d)")


class _Weights(NamedTuple):
    """How much each sign says for an amount to be the total; chosen on 50 scanned receipts, see decision 27."""

    read_often: float = 0.5
    beside_total: float = 2.0
    beside_other: float = 1.0
    other_beside_total: float = 0.5
    beside_paid: float = 0.7
    before_paid: float = 0.7
    paid_less_change: float = 1.0
    sum_of_two: float = 0.7
    large: float = 0.7


_WEIGHTS = _Weights()
_MAX_READINGS = 3.0
_LEAST_CONFIDENCE = 0.03
_LIKE_ENOUGH = 0.4
"""To a label, for the amounts of a row to be taken for what was paid, or for the change."""

_EVIDENCE = 2.3, 2.2
"""With which every second total of those receipts was right, and how soon more makes it surer."""


def asks_for_total(question: str) -> bool:
    """Whether a question asks what a receipt comes to."""
    return bool(_TOTAL_QUESTION.search(question)) and not _OTHER_QUESTION.search(question)


def asks_for_date(question: str) -> bool:
    """Whether a question asks for the date of a document as a whole."""
    return bool(_DATE_QUESTION.search(question)) and not _OTHER_DATE.search(question)


def look_up_on_receipt(question: str, page: Page) -> Found | None:
    """Answer a question for the total or the dearest item of a receipt; None for others, and where it has none."""
    if asks_for_total(question):
        return total_of(page)
    if _DEAREST_QUESTION.search(question):
        return _dearest(page)
    return None


def look_up_by_form(question: str, page: Page) -> Found | None:
    """Answer a question for a date, a time or a number of a document by what such look like."""
    if asks_for_date(question):
        return date_of(page)
    if _NUMBER_QUESTION.search(question):
        return _surest(page, lambda text: [found[0] for found in _NUMBER.finditer(text)])
    if _TIME_QUESTION.search(question):
        return _surest(page, lambda text: [found[0] for found in _TIME.finditer(text)])
    return None


def amount_of(text: str) -> float | None:
    """The amount that a line says and nothing else, with two decimals; None where it says another thing."""
    first = text.split("\n", maxsplit=1)[0]
    written = _CURRENCY.sub("", first).replace(" ", "").replace("O", "0")
    found = _AMOUNT.fullmatch(written)
    return float(f"{found[1].replace(',', '')}.{found[2]}") if found else None


class _Amount(NamedTuple):
    """An amount in a row of a receipt."""

    value: float
    line: ReadLine
    is_last: bool


class _Row(NamedTuple):
    """The amounts of a row, and how much its words are like labels of some kinds, from 0 to 1."""

    amounts: list[_Amount]
    total: float
    other: float
    paid: float
    change: float


def total_of(page: Page) -> Found | None:
    """The total of a receipt: the amount that most speaks for, by its label, by what is paid, and as a sum."""
    rows = [_row(row) for row in page.rows]
    amounts = [amount for row in rows for amount in row.amounts]
    values = {amount.value for amount in amounts if amount.value > 0}
    if len(amounts) < _LEAST_AMOUNTS or not values or max(row.total for row in rows) == 0:
        return None
    evidence = {value: _evidence(value, values, rows) for value in values}
    best = max(values, key=lambda value: (evidence[value], value))
    even, steepness = _EVIDENCE
    confidence = 1 / (1 + math.exp(steepness * (even - evidence[best])))
    line = max((amount.line for amount in amounts if amount.value == best), key=lambda line: line.confidence)
    sign = line.text[0] if line.text[0] in _SIGNS and line.confidence >= _SURE_OF_SIGN else ""
    return Found(f"{sign}{best:.2f}", line, confidence)


def _row(lines: Sequence[ReadLine]) -> _Row:
    amounts = [(amount_of(line.text), line) for line in lines]
    known = [(value, line) for value, line in amounts if value is not None]
    words = " ".join(line.text for value, line in amounts if value is None)
    return _Row(
        [_Amount(value, line, line is known[-1][1]) for value, line in known],
        *(_like_label(words, labels) for labels in (_TOTAL_LABELS, _OTHER_LABELS, _PAID_LABELS, _CHANGE_LABELS)),
    )


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


def _evidence(value: float, values: set[float], rows: Sequence[_Row]) -> float:
    weights = _WEIGHTS
    confidences = [amount.line.confidence for row in rows for amount in row.amounts if amount.value == value]
    evidence = weights.read_often * min(sum(confidences), _MAX_READINGS) + weights.large * math.sqrt(
        value / max(values)
    )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        for amount in row.amounts:
            if amount.value == value and amount.is_last:
                sign = weights.beside_total * row.total * (1 - weights.other_beside_total * row.other)
                sign += weights.beside_paid * row.paid - weights.beside_other * row.other * (1 - row.total)
                sign += weights.before_paid * (following.paid if following is not None else 0)
                evidence += sign * math.sqrt(max(amount.line.confidence, _LEAST_CONFIDENCE))
    paid = [amount.value for row in rows if row.paid > _LIKE_ENOUGH for amount in row.amounts]
    change = [amount.value for row in rows if row.change > _LIKE_ENOUGH for amount in row.amounts]
    if any(_is_same(given - back, value) for given in paid for back in change if back > 0):
        evidence += weights.paid_less_change
    cents = {round(100 * other) for other in values if 0.02 < other < value}
    if any(round(100 * value) - one in cents for one in cents):
        evidence += weights.sum_of_two
    return evidence


def _is_same(first: float, second: float) -> bool:
    return abs(first - second) < 0.005


def date_of(page: Page) -> Found | None:
    """The date that was read most surely."""
    return _surest(page, _dates)


def _surest(page: Page, parts: Callable[[str], Iterable[str]]) -> Found | None:
    """Of what parts of lines say, what was read most surely."""
    found = [Found(text, line, line.confidence) for line in page.lines for text in parts(line.text)]
    return max(found, key=lambda one: one.confidence, default=None)


class _Item(NamedTuple):
    """Something that was bought: the line of its name and the amount at the end of its row."""

    name: ReadLine
    amount: _Amount


def _items(page: Page) -> list[_Item]:
    """What was bought: the rows with an amount above the first one with the label of a sum, a tax or a payment."""
    items: list[_Item] = []
    before: ReadLine | None = None
    for lines in page.rows:
        row = _row(lines)
        name = next((line for line in lines if re.search("[A-Za-z]{2}", line.text)), None)
        if not row.amounts:
            before = name
            continue
        if max(row.total, row.other, row.paid) > _LIKE_ENOUGH:
            break
        if name is None:
            name = before
        if name is not None:
            items.append(_Item(name, row.amounts[-1]))
        before = None
    return items if len(items) >= _LEAST_AMOUNTS else []


def _dearest(page: Page) -> Found | None:
    """The item with the highest amount."""
    items = _items(page)
    if not items:
        return None
    name, _ = max(items, key=lambda item: item.amount.value)
    certain = min(item.amount.line.confidence for item in items)
    return Found(PIECES.sub("", name.text), name, name.confidence * certain)


def _dates(text: str) -> Iterator[str]:
    """Dates that there are, as they are written."""
    for found in _NUMERIC_DATE.finditer(text):
        first, month, last = found[1], int(found[3]), found[4]
        orders = [(first, month, last)] if len(first) > 2 else [(last, month, first), (last, int(first), found[3])]
        if any(_is_date(year, number, day) for year, number, day in orders):
            yield found[0]
    named = [(found[0], found[1], found[2], found[3]) for found in _NAMED_DATE.finditer(text)]
    named += [(found[0], found[2], found[1], found[3]) for found in _MONTH_FIRST.finditer(text)]
    for written, day, month_name, year in named:
        name = month_name.lower()
        if name in _MONTHS and _is_date(year, _MONTHS.index(name) + 1, day):
            yield written


def _is_date(year: str, month: int, day: str) -> bool:
    try:
        date = datetime.date(int(year) + (2000 if len(year) == 2 else 0), month, int(day))
    except ValueError:
        return False
    return 1950 <= date.year <= 2100
