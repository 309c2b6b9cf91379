"""Who a receipt is from, by what stands at its head: the name of the shop, its address and its phone number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastvlm.inference.page import Found, Page, joined_line
from fastvlm.inference.receipt_rows import is_dated, is_receipt, row_of

_PLACE = r"(?:the |this )?(?:shop|store|company|merchant|seller|business|restaurant|place)"
_PHONE_QUESTION = re.compile(r"\b(?:tele)?phone\b|\bnumber\b.*\bcall\b|^\W*tel\W*$", re.I)
_ADDRESS_QUESTION = re.compile(
    rf"\b(?:the|its|shop'?s?|store'?s?) address\b|^\W*(?:which )?address\b|\b(?:which|what) (?:address|street)\b|"
    rf"\bwhere (?:(?:is|are) )?(?:{_PLACE}|they) ?(?:located)?\W*$|\bwhich street is {_PLACE}",
    re.I,
)
_SHOP_QUESTION = re.compile(
    rf"\bn[ame]{{2,3}} of {_PLACE}|\b(?:which|what) (?:shop|store|company|merchant|place)\b|\b(?:shop|store) name\b|"
    rf"\bwhat is {_PLACE} called\b|\bwho issued\b|\bwhere was (?:this|it|that) bought\b",
    re.I,
)
_OTHER_QUESTION = re.compile(
    r"\b(e-?mail|web|website|ip|shipping|delivery|how (?:many|much)|column|row|items?|products?|date|time|when|day|"
    r"colou?r|logo|city|country|tax|vat|gst|fax|id|customer|client|buyer|billed)\b|"
    r"\b(shop|store) number\b|\bstreet food\b",
    re.I,
)

_PHONE = re.compile(r"(?<![\w.])[+(]?\d[\d()]*(?:[ -][\d()]+)*(?![\w./:-])")
_PHONE_DIGITS = range(7, 16)
_LONGEST_PHONE_LINE = 60
_PHONE_LABEL = re.compile(r"^\W*(?:te[l1i][a-z]?|telephone|phone|ph|mob|mobile)\b\W*", re.I)
_STREET = re.compile(
    r"\d.*\b(?:st|street|rd|road|ave|avenue|sq|square|ln|lane|dr|drive|blvd|boulevard|way|court|jalan|jln|rue)\b", re.I
)
_NO_NAME = re.compile(r"\W*(?:tax |sales |cash )?(?:invoice|receipt|bill|welcome|welcome to|memo)\W*", re.I)
_AND_COMPANY = re.compile(r"(?<=[a-z]) [48] (?=(?:co|company|sons?|bros|brothers|partners)\b)", re.I)

_SURE_OF_SHOP = 0.8
"""How often the first line of a receipt is the name of the shop, by about."""


def look_up_header(question: str, page: Page) -> Found | None:
    """Answer a question for the shop of a receipt, its address or its phone number; None for others."""
    kinds = ((_PHONE_QUESTION, _phone), (_ADDRESS_QUESTION, _address), (_SHOP_QUESTION, _shop))
    asked = next((find for pattern, find in kinds if pattern.search(question)), None)
    return asked(page) if asked and not _OTHER_QUESTION.search(question) and is_receipt(page) else None


def _head(page: Page) -> Iterator[Found]:
    """What stands above the first amount, row by row, but for the kind of document."""
    for lines in page.rows:
        if row_of(lines).amounts:
            return
        line = joined_line(lines)
        if not _NO_NAME.fullmatch(line.text):
            yield Found(line.text, line, line.confidence)


def _shop(page: Page) -> Found | None:
    first = next(_head(page), None)
    if first is None or not re.search("[A-Za-z]{2}", first.text) or is_dated(first.text):
        return None
    # Between words an & is read for a digit that looks like it.
    return Found(_AND_COMPANY.sub(" & ", first.text), first.line, _SURE_OF_SHOP * first.confidence)


def _address(page: Page) -> Found | None:
    rows = list(_head(page))[1:]
    return next((row for row in rows if _STREET.search(row.text) and not is_dated(row.text)), None)


def _phone(page: Page) -> Found | None:
    for line in page.lines:
        if len(line.text) > _LONGEST_PHONE_LINE:
            continue
        number = _PHONE.search(_PHONE_LABEL.sub("", line.text))
        if number is None or sum(map(str.isdigit, number[0])) not in _PHONE_DIGITS:
            continue
        is_alone = number[0] == line.text.strip() and number[0][0] in "+(0" and not number[0].isdigit()
        if _PHONE_LABEL.match(line.text) or is_alone:
            return Found(number[0], line, line.confidence)
    return None
