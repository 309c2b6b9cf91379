"""Who a receipt is from, by what stands at its head: the name of the shop, its address and its phone number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastvlm.inference.page import Found, Page, joined_line
from fastvlm.inference.receipt_items import LEAST_AMOUNTS
from fastvlm.inference.receipt_rows import LIKE_ENOUGH, row_of

_PHONE_QUESTION = re.compile(r"\b((tele)?phone|call|tel)\b", re.I)
_ADDRESS_QUESTION = re.compile(
    r"\b(address|street|located|where (is|are) (the|this) (shop|store|company|place))\b(?!.*\bmail\b)", re.I
)
_SHOP_QUESTION = re.compile(
    r"\b(shop|store|company|merchant|seller|issued|name of the place|where was (this|it|that) bought)\b", re.I
)
_OTHER_QUESTION = re.compile(r"\b(e-?mail|how many|how much|column|row|items?|products?)\b", re.I)

_PHONE = re.compile(r"(?<![\w.])[+(]?\d[\d()]*(?:[ -]?[\d()]+)+(?![\w./:-])")
_PHONE_DIGITS = range(7, 16)
_PHONE_LABEL = re.compile(r"^\W*(te|ph|mob|fax)[a-z1]*\W+", re.I)
_STREET = re.compile(
    r"\b(st|street|rd|road|ave|avenue|sq|square|ln|lane|dr|drive|blvd|boulevard|way|court|jalan|jln|strasse|rue)\b",
    re.I,
)
_NUMBER_AND_NAME = re.compile(r"\W*(no\W*)?\d{1,4}[a-z]?,? [a-z]{2}.*", re.I)
_DATED = re.compile(r"\d\W?[a-z]{3}[a-z]*\W*\d{2}|\b\d{1,4}([-/.])\d{1,2}\1\d{2,4}\b", re.I)

_SURE_OF_SHOP = 0.8
"""How often the first line of a receipt is the name of the shop, by about."""


def look_up_header(question: str, page: Page) -> Found | None:
    """Answer a question for the shop of a receipt, its address or its phone number; None for others."""
    kinds = ((_PHONE_QUESTION, _phone), (_ADDRESS_QUESTION, _address), (_SHOP_QUESTION, _shop))
    asked = next((find for pattern, find in kinds if pattern.search(question)), None)
    return asked(page) if asked and not _OTHER_QUESTION.search(question) and _is_receipt(page) else None


def _is_receipt(page: Page) -> bool:
    rows = [row_of(lines) for lines in page.rows]
    has_sum = any(max(row.total, row.paid) > LIKE_ENOUGH and row.amounts for row in rows)
    return has_sum and sum(len(row.amounts) for row in rows) >= LEAST_AMOUNTS


def _head(page: Page) -> Iterator[Found]:
    """What stands above the first amount, row by row."""
    for lines in page.rows:
        if row_of(lines).amounts:
            return
        line = joined_line(lines)
        yield Found(line.text, line, line.confidence)


def _shop(page: Page) -> Found | None:
    first = next(_head(page), None)
    if first is None or not re.search("[A-Za-z]{2}", first.text) or _DATED.search(first.text):
        return None
    # Between words an & is read for a digit that looks like it.
    name = re.sub(r"(?<=[a-z]) [48] (?=[a-z])", " & ", first.text, flags=re.I)
    return Found(name, first.line, _SURE_OF_SHOP * first.confidence)


def _address(page: Page) -> Found | None:
    rows = [row for row in list(_head(page))[1:] if not _DATED.search(row.text)]
    by_number = [row for row in rows if _NUMBER_AND_NAME.fullmatch(row.text)]
    return next((row for row in by_number if _STREET.search(row.text)), None) or next(iter(by_number), None)


def _phone(page: Page) -> Found | None:
    for line in page.lines:
        number = _PHONE.search(_PHONE_LABEL.sub("", line.text))
        is_labelled = _PHONE_LABEL.match(line.text)
        if number is None or sum(map(str.isdigit, number[0])) not in _PHONE_DIGITS:
            continue
        if is_labelled or (not number[0].isdigit() and not _DATED.search(line.text)):
            return Found(number[0], line, line.confidence)
    return None
