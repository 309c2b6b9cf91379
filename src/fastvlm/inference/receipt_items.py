"""What was bought, by a receipt: how much of it there is, what it cost, and what cost the most."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.receipt_rows import LIKE_ENOUGH, Amount, Row, amount_of, row_of

LEAST_AMOUNTS = 3
"""A page with fewer amounts is no receipt of which one could be told to be the total."""

_DEAREST_QUESTION = re.compile(r"\b(most expensive|dearest|costs? (the )?most|highest price)\b", re.I)
_COUNT_QUESTION = re.compile(
    r"\b(how many|number of|count) (the |lines of )?((different|distinct) )?"
    r"(items|goods|things|products|lines of goods)\b",
    re.I,
)
_OTHER_COUNT = re.compile(r"\b(pieces|quantity|cost|price|column|row)\b", re.I)
_PRICE = re.compile(r"(?<![\d.,])\d+[.,]\d\d(?!\d)")

_PIECES_BEFORE = re.compile(r"^\s*\d{1,3}\s*[x×]?\s+(?=[A-Za-z]{2})", re.I)
_PIECES_BEHIND = re.compile(r"\s+[x×]\s?\d*$|[x×]\d+$", re.I)

_SURELY_LIKE = 0.8
"""To a label, for a row not to be an item that is only called like one."""

_LEAST_SHARE, _MOST_SHARE = 0.9, 1.2
"""Of what the items above it come to, for a row to be a sum of them: some amounts may be misread, or a tax added."""

_SURE_OF_COUNT = 0.5
"""How often the number of items is right, by about, where no sum says so."""


class _Item(NamedTuple):
    """Something that was bought: the line of its name and the amount at the end of its row."""

    name: ReadLine
    amount: Amount


def split_pieces(name: str) -> tuple[str, str]:
    """How many there are of an item, where its line begins with that, as `2 x` does, and the rest of the line."""
    before = _PIECES_BEFORE.match(name)
    return ("", name) if before is None else (before[0].strip(), name[before.end() :])


def without_pieces_behind(name: str) -> str:
    """The name of an item without how many there are of it, where that stands behind it, as `x2`."""
    return _PIECES_BEHIND.sub("", name)


def look_up_items(question: str, page: Page) -> Found | None:
    """Answer a question for the dearest item, for what has a price that is named, or for how many items there are."""
    if _DEAREST_QUESTION.search(question):
        return _dearest(page)
    if _COUNT_QUESTION.search(question) and not _OTHER_COUNT.search(question):
        return _count(page)
    return _item_that_costs(question, page)


def amounts_of_items(page: Page) -> list[Amount]:
    """What each item costs."""
    return [item.amount for item in _items(page)]


def _item_that_costs(question: str, page: Page) -> Found | None:
    """The item with the amount that a question names; None where there is no such item, or more than one."""
    named = _PRICE.search(question)
    if named is None:
        return None
    price = amount_of(named[0].replace(",", "."))
    found = [item for item in _items(page) if item.amount.value == price]
    return _named(found[0], found[0].amount.line.confidence) if len(found) == 1 else None


def _items(page: Page) -> list[_Item]:
    """What was bought: the rows with an amount above the first one that is a sum or a payment; none without such a row,
    where they are few.
    """
    items: list[_Item] = []
    before: ReadLine | None = None
    for lines in page.rows:
        row = row_of(lines)
        name = next((line for line in lines if re.search("[A-Za-z]{2}", line.text)), None)
        if not row.amounts:
            before = name
            continue
        total = sum(item.amount.value for item in items)
        if _is_sum(row, total) or (len(items) > 1 and _is_same(row.amounts[-1].value, total)):
            return items
        name = name or before
        if name is not None:
            items.append(_Item(name, row.amounts[-1]))
        before = None
    return items if len(items) >= LEAST_AMOUNTS else []


def _is_sum(row: Row, before: float) -> bool:
    """Whether a row has the label of a sum, a tax or a payment, and no item is only called like one.

    before: what the items above it come to.
    """
    if row.total >= _SURELY_LIKE:
        return True
    likeness, share = max(row.total, row.other, row.paid), row.amounts[-1].value / before if before else 0.0
    return likeness > LIKE_ENOUGH and _LEAST_SHARE <= share <= (math.inf if likeness >= _SURELY_LIKE else _MOST_SHARE)


def _is_same(first: float, second: float) -> bool:
    return abs(first - second) < 0.005


def _named(item: _Item, confidence: float) -> Found:
    return Found(without_pieces_behind(split_pieces(item.name.text)[1]), item.name, item.name.confidence * confidence)


def _dearest(page: Page) -> Found | None:
    """The item with the highest amount."""
    items = _items(page)
    if not items:
        return None
    return _named(max(items, key=lambda item: item.amount.value), min(item.amount.line.confidence for item in items))


def _count(page: Page) -> Found | None:
    """How many items there are; surely where their amounts have a sum that stands on the page."""
    items = _items(page)
    if not items:
        return None
    total = sum(item.amount.value for item in items)
    sums = [amount for lines in page.rows for amount in row_of(lines).amounts]
    is_sum = any(_is_same(amount.value, total) for amount in sums)
    return Found(str(len(items)), items[-1].name, 1.0 if is_sum else _SURE_OF_COUNT)
