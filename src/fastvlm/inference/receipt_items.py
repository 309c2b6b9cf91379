"""What was bought, by a receipt: how much of it there is, what it cost, and what cost the most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.questions import ASIDES
from fastvlm.inference.receipt_rows import (
    LEAST_AMOUNTS,
    Amount,
    Row,
    amount_of,
    is_added,
    is_called,
    is_same_amount,
    row_of,
)

_DEAREST_QUESTION = re.compile(r"\b(most expensive|dearest|costs? (the )?most|highest price|most spent)\b", re.I)
_OTHER_DEAREST = re.compile(r"\b(how many|second|third|next|least)\b", re.I)
_PRICE_OF_DEAREST = re.compile(r"\b(how much|price of|amount of)\b|\bwhat (does|did) .* cost\b", re.I)
_COUNT_QUESTION = re.compile(r"\b(how many|number of|count)\b.*\b(items|goods|things|products)\b", re.I)
_KINDS = re.compile(r"\b(different|distinct|lines)\b", re.I)
_PRINTED_COUNT = re.compile(
    r"\W*(?:no\W*of )?(?:total )?(?:items?|qty|pieces|articles)(?: sold| count)?\W*\d*\W*", re.I
)
_COUNT = """
any are articles bill bought count different distinct do document does find goods here how invoice items lines list
listed many number printed products receipt shown slip there things total were
"""
_COUNT_WORDS = frozenset(_COUNT.split()) | ASIDES
"""All that a question for the number of items says; another word is a condition, of which nothing is known."""

_COSTS_QUESTION = re.compile(
    r"(?:\b(?:which|what)(?: (?:item|product|article|thing|good)s?)?\b(?: (?!much)\w+)*|\bitem for|\bproduct for)\s+\D?"
    r"(?P<price>\d+[.,]\d\d)\W*(?:[A-Z]{3}|euros?|dollars?|pounds?)?\W*$",
    re.I,
)
_OTHER_THAN_ITEM = re.compile(
    r"\b(plus|minus|and|or|from|than|date|time|when|who|change|total|tax|many|row|column|tip|left)\b", re.I
)

_PIECES_BEFORE = re.compile(r"^\s*\d{1,3}\s*[x×]?\s+(?=[A-Za-z]{2})", re.I)
_PIECES_BEHIND = re.compile(r"\s+[x×]\s?\d*$|[x×]\d+$", re.I)
_PIECES_BELOW = re.compile(r"^\s*\d{1,3}\s*[x×]\s?\d", re.I)
"""On a line of its own below the name, as in `2 x 4.50`."""

_LEAST_SHARE, _MOST_SHARE = 0.9, 1.2
"""Of what the items above it come to, for a row with the label of a sum to be one: some amounts may be misread, or a
tax added. A total may be any amount."""

_SURE_OF_COUNT = 0.5
"""How often the number of items is right, by about, where no sum says so."""


class _Item(NamedTuple):
    """Something that was bought: the line of its name and the amount at the end of its row."""

    name: ReadLine
    amount: Amount


class _Items(NamedTuple):
    """What was bought. is_proved: whether their amounts come to one that stands below them."""

    items: list[_Item]
    is_proved: bool


def split_pieces(name: str) -> tuple[str, str]:
    """How many there are of an item, where its line begins with that, as `2 x` does, and the rest of the line."""
    before = _PIECES_BEFORE.match(name)
    return ("", name) if before is None else (before[0].strip(), name[before.end() :])


def without_pieces_behind(name: str) -> str:
    """The name of an item without how many there are of it, where that stands behind it, as `x2`."""
    return _PIECES_BEHIND.sub("", name)


def look_up_items(question: str, page: Page) -> Found | None:
    """Answer a question for the dearest item, for what has a price that is named, or for how many items there are."""
    if _DEAREST_QUESTION.search(question) and not _OTHER_DEAREST.search(question):
        return _dearest(page, is_price=bool(_PRICE_OF_DEAREST.search(question)))
    if _COUNT_QUESTION.search(question):
        is_count = set(re.findall("[a-z]+", question.lower())) <= _COUNT_WORDS
        are_kinds = _KINDS.search(question) is not None
        return _count(page, are_kinds=are_kinds) if is_count else None
    costs = _COSTS_QUESTION.search(question)
    if costs is None or _OTHER_THAN_ITEM.search(question):
        return None
    return _item_that_costs(amount_of(costs["price"].replace(",", ".")), page)


def amounts_of_items(page: Page) -> list[Amount]:
    """What each item costs."""
    return [item.amount for item in _items(page).items]


def _items(page: Page) -> _Items:
    """What was bought: the rows with an amount above their sum, or else above the first row that is called like one."""
    items: list[_Item] = []
    total = 0.0
    summed: int | None = None
    called: int | None = None
    before: ReadLine | None = None
    for lines in page.rows:
        row = row_of(lines)
        name = next((line for line in lines if re.search("[A-Za-z]{2}", line.text)), None)
        if not row.amounts:
            before = name
            continue
        amount = row.amounts[-1]
        is_sum = bool(items) and is_same_amount(amount.value, total)
        if is_sum and is_called(row.words):
            return _Items(items, is_proved=len(items) > 1)
        if is_sum and len(items) > 1:
            summed = len(items)  # unless what follows has a sum with it
        if called is None and _is_called_sum(row, total):
            called = len(items)
        total += -amount.value if amount.is_negative else amount.value
        name = name or before
        if name is not None and not amount.is_negative and not is_added(row.words):
            items.append(_Item(name, amount))
        before = None
    if summed is not None:
        return _Items(items[:summed], is_proved=True)
    if called is not None:
        return _Items(items[:called], is_proved=False)
    return _Items(items if len(items) >= LEAST_AMOUNTS else [], is_proved=False)


def _is_called_sum(row: Row, before: float) -> bool:
    """Whether a row has the label of a sum, a tax or a payment, and is no item that is only called like one.

    before: what the items above it come to.
    """
    if is_called(row.words, total=True) or "subtotal" in re.findall("[a-z]+", row.words.lower()):
        return True
    share = row.amounts[-1].value / before if before else 0.0
    return is_called(row.words) and _LEAST_SHARE <= share <= _MOST_SHARE


def _item_that_costs(price: float | None, page: Page) -> Found | None:
    """The item with a price; None where there is no such item, or more than one."""
    found = [item for item in _items(page).items if item.amount.value == price]
    return _named(found[0], found[0].amount.line.confidence) if len(found) == 1 else None


def _named(item: _Item, confidence: float) -> Found:
    name = without_pieces_behind(split_pieces(item.name.text)[1])
    return Found(name, item.name, item.name.confidence * confidence)


def _dearest(page: Page, *, is_price: bool) -> Found | None:
    """The item with the highest amount, or that amount."""
    items = _items(page).items
    if not items:
        return None
    certain = _least_confidence(items)
    dearest = max(items, key=lambda item: item.amount.value)
    if is_price:
        return Found(f"{dearest.amount.value:.2f}", dearest.amount.line, certain)
    return _named(dearest, certain)


def _count(page: Page, *, are_kinds: bool) -> Found | None:
    """How many items there are; are_kinds: whatever number there is of each."""
    items, is_proved = _items(page)
    if not items or (not are_kinds and _are_pieces_told(items, page)):
        return None
    return Found(str(len(items)), items[-1].name, _least_confidence(items) if is_proved else _SURE_OF_COUNT)


def _are_pieces_told(items: Sequence[_Item], page: Page) -> bool:
    """Whether a receipt says how many there are of an item, or of all of them."""
    names = [item.name.text for item in items]
    return any(_PIECES_BEFORE.match(name) or _PIECES_BEHIND.search(name) for name in names) or any(
        _PIECES_BELOW.match(line.text) or _PRINTED_COUNT.fullmatch(line.text) for line in page.lines
    )


def _least_confidence(items: Sequence[_Item]) -> float:
    return min(item.amount.line.confidence for item in items)
