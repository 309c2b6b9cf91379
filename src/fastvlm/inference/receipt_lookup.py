"""What receipts have that no label stands beside: total, date, time and number; what was bought, and where."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from fastvlm.inference.page import Found, Page, ReadLine, differ_by_one, likeness
from fastvlm.inference.receipt_header import look_up_header
from fastvlm.inference.receipt_items import amounts_of_items, look_up_items
from fastvlm.inference.receipt_number import look_up_code, look_up_number
from fastvlm.inference.receipt_rows import LEAST_AMOUNTS, LIKE_ENOUGH, Amount, Row, is_same_amount, row_of

_TOTAL_QUESTION = re.compile(
    r"\b(grand |final )?(total|sum)\b|\bfinal amount\b|\bcome to\b|\beverything cost\b|\bin total\b|\bto pay\b", re.I
)
_OTHER_QUESTION = re.compile(
    r"\b(sub-?total|net|discount|savings?|weight|items?|who|where|tax|vat|gst|column|row|how many|number of|average)\b",
    re.I,
)
_DATE_QUESTION = re.compile(r"\bdate\b|\bwhen was\b|\b(which|what) day\b", re.I)
_TIME_QUESTION = re.compile(r"\b(what|which|the|give me|tell me the) (time|hour)\b|(?:^|[:,.!])\W*time\W*$", re.I)
_OTHER_DATE = re.compile(r"\b(birth|due|start|end|delivery|what time|column|row)\b", re.I)

_PAYMENT_QUESTION = re.compile(
    r"\b(?:how|with what) (?:was|is|did|were) (?:it|this|that|they|he|she|the \w+) (?:paid|pay)\b|"
    r"\bpayment (?:method|type)\b|\b(?:method|way|means|form|kind|type) (?:of payment|was it paid)\b|"
    r"\bpaid (?:by|with|in) .*\bor\b",
    re.I,
)
_MEANS = (
    "Cash", "Card", "VISA", "Mastercard", "Credit card", "Debit card", "Gift card", "Debit", "Credit", "Voucher",
    "Cheque", "AMEX", "Maestro", "PayPal",
)  # fmt: skip
_CURRENCY_CODE = re.compile(r"\b(?:EUR|USD|GBP|CHF)\b")
_LIKE_MEANS = 0.75
"""Of the words beside an amount, as they were read, to one of the means of payment."""

_SIGNED = re.compile(r"([$€£¥])\s?\d[\d,]*[.,:]\d\d")
_SURE_OF_SIGN = 0.5
"""A sign of a currency is often a misread digit or letter; with less confidence it is left out."""

_LOOK_ALIKE = ({"0", "8"}, {"1", "7"}, {"3", "8"}, {"5", "6"}, {"6", "8"}, {"3", "9"}, {"1", "4"}, {"0", "6"})
_DEDUCTION = re.compile(r"-\s?\d+[.,]\d\d|\b(discount|coupon|rebate|savings?|refund)\b", re.I)
"""What makes a total another sum than that of the items."""

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DATE_LIKE = re.compile(
    r"\b(?:19|20)\d\d\b|\d{1,4}\s?[-/.]\s?[\dOolI]{1,2}\s?[-/.]|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|"
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
    re.I,
)
_NUMERIC_DATE = re.compile(r"(?<![\d/.-])(\d{1,4})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_MONTH_FIRST = re.compile(r"([A-Za-z]{3})[a-z]*[. ]+(\d{1,2})[, ]+(\d{4})(?!\d)")
_WITHOUT_COMMA = re.compile(
    r"((?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?) \d{1,2}) (\d{4})",
    re.I,
)
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(:[0-5]\d)?(?![\d:])(\s?[AP]M\b)?", re.I)
_HALF_DAY = re.compile("[AP]M", re.I)
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
    net_and_tax: float = 1.5
    above_paid_and_change: float = 1.0
    large: float = 0.7


_WEIGHTS = _Weights()
_MAX_READINGS = 3.0
_LEAST_CONFIDENCE = 0.03
_NET_AND_TAX, _LEAST_TAX, _MOST_ROUNDED = 2, 0.05, 0.04
"""Amounts of a row that says what a total is without the tax and what that is; it may be rounded to what coins there
are.
"""

_DOUBTFUL, _SURE_OF_BOTH = 0.6, 0.5
"""A total with less confidence is taken for what was paid without the change, where both were read with so much."""

_EVIDENCE = 2.3, 2.2
"""With which every second total of those receipts was right, and how soon more makes it surer."""


def asks_for_total(question: str) -> bool:
    """Whether a question asks what a receipt comes to."""
    return bool(_TOTAL_QUESTION.search(question)) and not _OTHER_QUESTION.search(question)


def asks_for_date(question: str) -> bool:
    """Whether a question asks for the date of a document as a whole."""
    return bool(_DATE_QUESTION.search(question)) and not _OTHER_DATE.search(question)


def look_up_on_receipt(question: str, page: Page) -> Found | None:
    """Answer a question for the total of a receipt, what was bought or where; None for others, or without an answer."""
    if asks_for_total(question):
        return total_of(page)
    if _PAYMENT_QUESTION.search(question):
        return _payment(page)
    return look_up_items(question, page) or look_up_header(question, page) or look_up_number(question, page)


def look_up_by_form(question: str, page: Page) -> Found | None:
    """Answer a question for a date, a time or a number of a document by what such look like."""
    if asks_for_date(question):
        return date_of(page)
    if _TIME_QUESTION.search(question):
        return _time(page)
    return look_up_code(question, page)


def is_time(text: str) -> bool:
    """Whether a text is the time of a day and nothing else."""
    return _TIME.fullmatch(text.strip()) is not None


def may_be_date(text: str) -> bool:
    """Whether a text is a date, a part of one, or a misread one."""
    return bool(_DATE_LIKE.search(text)) and not is_time(text)


def _payment(page: Page) -> Found | None:
    """What a receipt was paid with: the words of the row of the payment, below what was bought, as they are usual."""
    for lines in reversed(page.rows):
        row = row_of(lines)
        words = _CURRENCY_CODE.sub("", row.words).strip()
        usual = max(_MEANS, key=lambda means: likeness(means.lower(), words.lower()))
        if row.amounts and likeness(usual.lower(), words.lower()) >= _LIKE_MEANS:
            return Found(usual.upper() if words.isupper() else usual, lines[0], lines[0].confidence)
    return None


def without_time(text: str) -> str:
    """A date without the time that stands beside it, and without numbers and signs that are part of no date."""
    rest = " ".join(_TIME.sub(" ", text).split()).strip(" ,-")
    if not may_be_date(rest):
        return text
    dates = list(_dates(rest))
    is_alone = len(dates) == 1 and not re.search("[a-z]", rest.replace(dates[0], ""), re.I)
    return dates[0] if is_alone else rest


def written_date(text: str) -> str:
    """A date that begins with its month, with the comma behind the day, which is often too small to be read."""
    found = _WITHOUT_COMMA.fullmatch(text)
    return text if found is None else f"{found[1]}, {found[2]}"


def total_of(page: Page) -> Found | None:
    """The total of a receipt: the amount that most speaks for, by its label, by what is paid, and as a sum."""
    rows = [row_of(row) for row in page.rows]
    amounts = [amount for row in rows for amount in row.amounts]
    values = {amount.value for amount in amounts if amount.value > 0}
    if len(amounts) < LEAST_AMOUNTS or not values or max(row.total for row in rows) == 0:
        return None
    evidence = {value: _evidence(value, values, rows) for value in values}
    best = max(values, key=lambda value: (evidence[value], value))
    even, steepness = _EVIDENCE
    confidence = 1 / (1 + math.exp(steepness * (even - evidence[best])))
    computed = _paid_less_change(rows) if confidence < _DOUBTFUL else None
    if computed is not None and computed.confidence >= _SURE_OF_BOTH:
        return computed
    line = max((amount.line for amount in amounts if amount.value == best), key=lambda line: line.confidence)
    signed = _SIGNED.search(line.text) if line.confidence >= _SURE_OF_SIGN else None
    sign = "" if signed is None else signed[1]
    is_confirmed = sum(amount.value == best for amount in amounts) > 1 or _is_paid_less_change(best, rows)
    value = best if is_confirmed else _corrected(best, line, page, rows)
    return Found(f"{sign}{value:.2f}", line, confidence)


def _corrected(value: float, line: ReadLine, page: Page, rows: Sequence[Row]) -> float:
    """A total of which one digit was misread, as the sum of what was read more surely above it; or as it was read."""
    above = [row.amounts[-1] for row in rows if row.amounts and row.amounts[-1].line.box.bottom <= line.box.top + 2]
    sums = [amounts for amounts in (amounts_of_items(page), above[-2:]) if len(amounts) > 1]
    if any(is_same_amount(_sum(amounts), value) for amounts in sums) or _DEDUCTION.search(page.text):
        return value
    for amounts in sums:
        is_surer = min(amount.line.confidence for amount in amounts) > line.confidence
        if is_surer and _look_alike(f"{_sum(amounts):.2f}", f"{value:.2f}"):
            return _sum(amounts)
    return value


def _sum(amounts: Sequence[Amount]) -> float:
    return sum(amount.value for amount in amounts)


def _look_alike(first: str, second: str) -> bool:
    """Whether two amounts differ in one digit, and in digits that are read for each other."""
    if not differ_by_one(first, second):
        return False
    return next({one, other} for one, other in zip(first, second, strict=True) if one != other) in _LOOK_ALIKE


def _evidence(value: float, values: set[float], rows: Sequence[Row]) -> float:
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
    if _is_paid_less_change(value, rows):
        evidence += weights.paid_less_change
    if _is_above_paid_and_change(value, rows):
        evidence += weights.above_paid_and_change
    for row in rows:
        parts = [amount.value for amount in row.amounts if amount.value >= _LEAST_TAX]
        is_net_and_tax = len(parts) == _NET_AND_TAX and parts[0] > parts[1]
        if is_net_and_tax and abs(sum(parts) - value) <= _MOST_ROUNDED + 0.005:
            evidence += weights.net_and_tax
    cents = {round(100 * other) for other in values if 0.02 < other < value}
    if any(round(100 * value) - one in cents for one in cents):
        evidence += weights.sum_of_two
    return evidence


def _is_paid_less_change(value: float, rows: Sequence[Row]) -> bool:
    return any(is_same_amount(given.value - back.value, value) for given, back in _paid_and_change(rows))


def _is_above_paid_and_change(value: float, rows: Sequence[Row]) -> bool:
    """Whether an amount and the second one below it come to the one between them, whatever these rows are called."""
    last = [row.amounts[-1].value for row in rows if row.amounts]
    return any(
        is_same_amount(total, value) and back > 0 and is_same_amount(total + back, given)
        for total, given, back in zip(last, last[1:], last[2:], strict=False)
    )


def _paid_less_change(rows: Sequence[Row]) -> Found | None:
    """What was paid without the change, which a total is that was not read; None where there are no such two."""
    found = max(_paid_and_change(rows), key=lambda pair: pair[0].value, default=None)
    if found is None or found[0].value <= found[1].value:
        return None
    given, back = found
    confidence = min(given.line.confidence, back.line.confidence)
    return Found(f"{given.value - back.value:.2f}", given.line, confidence)


def _paid_and_change(rows: Sequence[Row]) -> list[tuple[Amount, Amount]]:
    """What may have been paid, each with what may have been given back."""
    paid = [amount for row in rows if row.paid > LIKE_ENOUGH for amount in row.amounts]
    change = [amount for row in rows if row.change > LIKE_ENOUGH for amount in row.amounts if amount.value > 0]
    return [(given, back) for given in paid for back in change]


def date_of(page: Page) -> Found | None:
    """The date that was read most surely."""
    return _surest(page, _dates)


def _time(page: Page) -> Found | None:
    """The time that was read most surely, with the half of the day that stands behind it."""
    found = _surest(page, lambda text: [found[0] for found in _TIME.finditer(text)])
    if found is None:
        return None
    half = next((line for line in page.right_of(found.line)[:1] if _HALF_DAY.fullmatch(line.text)), None)
    if half is None or not found.line.text.endswith(found.text):
        return found
    return Found(f"{found.text} {half.text}", found.line, found.confidence * half.confidence)


def _surest(page: Page, parts: Callable[[str], Iterable[str]]) -> Found | None:
    """Of what parts of lines say, what was read most surely."""
    found = [Found(text, line, line.confidence) for line in page.lines for text in parts(line.text)]
    return max(found, key=lambda one: one.confidence, default=None)


def dates_of(text: str) -> set[datetime.date]:
    """All dates that a text may mean: of 12/03/2021 two."""
    return {date for _, dates in _dated(text) for date in dates}


def _dates(text: str) -> Iterator[str]:
    """Dates that there are, as they are written."""
    return (written for written, dates in _dated(text) if dates)


def _dated(text: str) -> Iterator[tuple[str, list[datetime.date]]]:
    """What is written like a date, and the dates that it may be, none where there is no such."""
    for found in _NUMERIC_DATE.finditer(text):
        first, month, last = found[1], int(found[3]), found[4]
        orders = [(first, month, last)] if len(first) > 2 else [(last, month, first), (last, int(first), found[3])]
        yield found[0], [date for order in orders if (date := _date(*order)) is not None]
    named = [(found[0], found[1], found[2], found[3]) for found in _NAMED_DATE.finditer(text)]
    named += [(found[0], found[2], found[1], found[3]) for found in _MONTH_FIRST.finditer(text)]
    for written, day, month_name, year in named:
        name = month_name.lower()
        date = _date(year, _MONTHS.index(name) + 1, day) if name in _MONTHS else None
        yield written, [] if date is None else [date]


def _date(year: str, month: int, day: str) -> datetime.date | None:
    try:
        date = datetime.date(int(year) + (2000 if len(year) == 2 else 0), month, int(day))
    except ValueError:
        return None
    return date if 1950 <= date.year <= 2100 else None
