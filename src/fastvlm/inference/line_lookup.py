"""Finds on a page that was read line by line what a question asks for, by what the lines say and where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations

from fastvlm.inference.arrow_lookup import look_up_arrow
from fastvlm.inference.chart_lookup import Chart, find_chart, written
from fastvlm.inference.chart_points import points_of
from fastvlm.inference.colour_lookup import look_up_colour
from fastvlm.inference.count_lookup import look_up_count
from fastvlm.inference.form_lookup import look_up_field, look_up_field_on_line, repaired_label, values_below
from fastvlm.inference.mentions import (
    FRAME_WORDS,
    FUNCTION_WORDS,
    HIGHEST_WORDS,
    LOWEST_WORDS,
    SYNONYMS,
    Mention,
    mentions_of,
    shape_of,
    words_of,
)
from fastvlm.inference.page import Found, Page, ReadLine, joined_line, likeness, number_of
from fastvlm.inference.pie_lookup import Slice, find_pie
from fastvlm.inference.questions import ASIDES, is_yes_or_no
from fastvlm.inference.receipt_items import without_pieces_behind
from fastvlm.inference.receipt_lookup import (
    asks_for_date,
    look_up_by_form,
    look_up_on_receipt,
    may_be_date,
    without_time,
    written_date,
)
from fastvlm.inference.receipt_rows import amount_of, is_receipt, written_amount
from fastvlm.inference.text_lookup import LEAST_LINES, asks_for_missing_title, look_up_text, look_up_title
from fastvlm.inference.tick_lookup import look_up_ticks
from fastvlm.inference.trend_lookup import asks_for_trend, says_only_trend, trend_of

_MAX_MENTIONS = 6
"""That are tried two by two."""

_LEAST_AT_ALL = 0.6
"""Of words that may be a misread label; what is less alike is another word."""

_AMOUNT_WORDS = frozenset({"amount", "change", "gst", "net", "subtotal", "tax", "total", "vat"})
_MANY_WORDS = frozenset({"many", "often", "quantity", "pieces"})
_PRICE_WORDS = frozenset({"cost", "costs", "price", "paid", "much"})
_TYPE_WORDS = frozenset({"amount", "date", "day", "name", "no", "number", "time"})
"""Said of what a label stands for; a question that names a label and one of these names no second label."""

_NO_QUESTION = re.compile(
    r"^\W*(thanks?|read|describe|caption|transcribe|summari[sz]e|translate|write)\b|\bkind of (document|picture)\b",
    re.I,
)
_BEFORE_TAX = re.compile(r"\b(before (the )?tax|net (sum|amount|total))\b", re.I)
_ASKS_FOR_FIELD = re.compile(r"\b(which|what) (field|entry)\b|\bfield with\b|\bwhere is\b.*\bentered\b", re.I)
_ASKS_FOR_NAME = re.compile(r"\b(which|what|whose|where)\b(?!.*\b(value|number|amount|price|much|many)\b)", re.I)

_NEAR = 0.1
"""Of its measured height, by which the number over a bar may differ; a number that differs more is misread."""

_SURE_OF_ONE = 0.6
"""How often there is one of an item whose number is not told, by about."""

_SURE_OF_MEASURE = 0.6
"""How often what is measured is right, by about."""

_ASKS_FOR_NAMED = re.compile(
    r"\b(?:what|which|give|tell|show|read|find|entered|written|value)\b(?P<named>.*)|^\W*(?P<alone>\w+(?: no\.?)?)\W*$",
    re.I | re.S,
)
"""What a question asks for, behind the word that says so, or all of it."""

_LEAST_CELLS = 3
"""Numbers below a heading, for the highest of them to be worth looking for."""


def look_up(question: str, page: Page) -> Found | None:
    """Find the answer to a question on a page; None where nothing on it seems to be the answer, or a yes or no is.

    Found are a short text as a whole and its colour, where an arrow points, a line by its number and the word behind
    another; which boxes are ticked; what receipts say of the total, of what was bought and of the shop; how many lines,
    fields, rows, columns or bars there are; where the row and the column meet that a question names, in which row a
    number stands, and which one has the highest or the lowest number of a column; bars and points of a chart, and where
    they go; the field in which a value stands; what stands beside, below or above a label that is named; the label of a
    number that is named; dates, times and numbers of documents without a label; and titles. Labels are compared by
    likeness, since lines are misread.
    """
    if is_yes_or_no(question):
        return None
    text = look_up_text(question, page) or look_up_colour(question, page) or look_up_arrow(question, page)
    if text is not None or len(page.lines) < LEAST_LINES or _NO_QUESTION.search(question):
        return text
    found = look_up_ticks(question, page) or look_up_on_receipt(question, page)
    if found is not None:
        return found
    chart = find_chart(page)
    pie = find_pie(page) if chart is None else []
    count = look_up_count(question, page, chart, pie)
    if count is not None:
        return count
    if chart is not None:
        found = _on_chart(question, chart, page)
    else:
        found = _on_pie(question, pie) or _on_page(question, page)
    return None if found is None else replace(found, text=written_date(found.text))


def _on_pie(question: str, pie: Sequence[Slice]) -> Found | None:
    """The largest or the smallest slice, or the share of the one that is named."""
    words, mentions = words_of(question), mentions_of(question, [one.name for one in pie])
    sign = _sign(words)
    sizes = [one.size for one in pie]
    # One that was not read may be it.
    is_known = bool(pie) and (100 - sum(sizes) < max(sizes) if sign > 0 else True)
    if sign and not mentions and is_known:
        best = max(pie, key=lambda one: sign * one.size)
        return Found(best.name.text, best.name, best.name.confidence * min(one.share.confidence for one in pie))
    if sign or not mentions:
        return None
    named = next(one for one in pie if one.name is mentions[0].line)
    return Found(named.share.text, named.share, mentions[0].likeness * named.share.confidence)


def _on_page(question: str, page: Page) -> Found | None:
    words, mentions = _named(question, page)
    named = [mention for mention in mentions if not mention.line.is_number]
    # A number names a row only where no words do, and first the cell that it stands in.
    found = _cell(named, page) or _row(mentions, page) or _cell(mentions, page) or _extreme(words, mentions, page)
    found = found or look_up_field(question, page) or _beside(question, words, mentions, page)
    found = found or look_up_field_on_line(question, page)
    return found or look_up_by_form(question, page) or look_up_title(question, page)


def _on_chart(question: str, chart: Chart, page: Page) -> Found | None:
    words, mentions = _named(question, page)
    mentions = [mention for mention in mentions if mention.line not in chart.axis.ticks]
    if asks_for_trend(question):
        return _trend(question, mentions, chart, page)
    found = _category(words, mentions, chart, page)
    if found is not None or any(mention.line in chart.labels for mention in mentions):
        return found  # what stands beside a label is another label
    found = _beside(question, words, mentions, page)
    found = found or look_up_by_form(question, page) or look_up_title(question, page)
    return None if found is not None and found.line in chart.labels else found  # a category is no title


def _named(question: str, page: Page) -> tuple[list[str], list[Mention]]:
    """The words of a question, and the lines that are likeliest to be what it names."""
    asked = _BEFORE_TAX.sub("subtotal", question)
    return words_of(asked), mentions_of(asked, page.lines)[:_MAX_MENTIONS]


def _beside(question: str, words: Sequence[str], mentions: Sequence[Mention], page: Page) -> Found | None:
    """The label of what a question names, or what belongs to such a label."""
    found = (_label(question, mentions, page) or _first_value(words, mentions, page)) if mentions else None
    if found is None or not asks_for_date(question):
        return found
    # What stands beside a date is often the time.
    return replace(found, text=without_time(found.text)) if may_be_date(found.text) else None


def names_what_is_missing(question: str, page: Page) -> bool:
    """Whether a question asks for a title where there is none, or names what no words of a page are at all alike.

    Names, that is, by a word with a capital.
    """
    if asks_for_missing_title(question, page):
        return True
    asked = _ASKS_FOR_NAMED.search(question)
    if asked is None or is_yes_or_no(question) or question.isupper():
        return False
    named = [word.lower() for word in re.findall(r"\b[A-Z][a-z]{2,}\b", asked["named"] or asked["alone"] or "")]
    named = [word for word in named if word not in FRAME_WORDS | FUNCTION_WORDS | ASIDES]
    named += [other for word in named for other in _also_called(word)]
    said = [shape_of("".join(part)) for line in page.lines for part in _parts(words_of(line.text))]
    alike = [likeness(shape_of(name), other) for name in named for other in said]
    return bool(alike) and max(alike) < _LEAST_AT_ALL


def _also_called(word: str) -> Iterator[str]:
    for label, others in SYNONYMS.items():
        if word == label or word in others:
            yield from (label, *others)


def _parts(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """Words one by one and two by two."""
    for start in range(len(words)):
        yield words[start : start + 1]
        yield words[start : start + 2]


def _cell(mentions: Sequence[Mention], page: Page) -> Found | None:
    """Of a table whose row and column are named."""
    for row, heading in permutations((mention for mention in mentions if not mention.rest), 2):
        if row.stop <= heading.start or heading.stop <= row.start:
            cell = page.cell(row.line, heading.line)
            if cell is not None and cell is not row.line and cell is not heading.line:
                return Found(cell.text, cell, min(row.likeness, heading.likeness) * cell.confidence)
    return None


def _row(mentions: Sequence[Mention], page: Page) -> Found | None:
    """The first cell of the row in which a number stands that is named, in a column that is named."""
    for heading, cell in permutations((mention for mention in mentions if not mention.rest), 2):
        is_apart = cell.stop <= heading.start or heading.stop <= cell.start
        if is_apart and cell.line.is_number and any(cell.line is other for other in page.column_of(heading.line)):
            name = _name_of(cell.line, page)
            if name is not None:
                return Found(name.text, name, min(heading.likeness, cell.likeness) * name.confidence)
    return None


def _extreme(words: Sequence[str], mentions: Sequence[Mention], page: Page) -> Found | None:
    """The first cell of the row with the highest or the lowest number of a column that is named."""
    sign = _sign(words)
    for mention in mentions if sign else ():
        cells = [(number_of(line.text), line) for line in page.column_of(mention.line)]
        numbers = [(number, line) for number, line in cells if number is not None]
        if len(numbers) >= max(_LEAST_CELLS, len(cells) - 1):
            _, line = max(numbers, key=lambda one: sign * one[0])
            name = _name_of(line, page)
            if name is not None:
                confidence = min(one.confidence for _, one in numbers)
                return Found(name.text, name, mention.likeness * confidence * name.confidence)
    return _extreme_bar(sign, page) if sign and not mentions else None


def _category(words: Sequence[str], mentions: Sequence[Mention], chart: Chart, page: Page) -> Found | None:
    """The highest or the lowest bar, or what a bar that is named is worth; of the series that is named, if one is."""
    named = next((mention for mention in mentions if mention.line in chart.labels), None)
    entries = chart.legend(page)
    series = next((mention.line for mention in mentions if mention.line in entries), None)
    others = [entry for entry in entries if entry is not series]
    if named is not None:
        return _bar(named, chart, page, series, others)
    sign = _sign(words)
    if not sign or any(mention.line not in entries for mention in mentions):
        return None
    values = [(value, label) for label, value in zip(chart.labels, _values(chart, page, series, others), strict=True)]
    measured = [(value, label) for value, label in values if value is not None]
    # What could not be measured may be a bar of no height, which is the lowest.
    if len(measured) < max(2, len(values) - (1 if sign > 0 else 0)):
        return None
    _, label = max(measured, key=lambda one: sign * one[0])
    return Found(label.text, label, label.confidence * _SURE_OF_MEASURE)


def _trend(question: str, mentions: Sequence[Mention], chart: Chart, page: Page) -> Found | None:
    """Where a chart goes, or the series of it that is named; None for a part of it, and for one of several series."""
    entries = chart.legend(page)
    series = next((mention for mention in mentions if mention.line in entries), None)
    if series is None and len(entries) > 1:
        return None
    is_whole = says_only_trend(question) if series is None else says_only_trend(question, series.start, series.stop)
    line = None if series is None else series.line
    trend = (
        trend_of(_values(chart, page, line, [entry for entry in entries if entry is not line])) if is_whole else None
    )
    return None if trend is None else Found(trend, chart.labels[-1], _SURE_OF_MEASURE)


def _bar(named: Mention, chart: Chart, page: Page, series: ReadLine | None, others: Sequence[ReadLine]) -> Found | None:
    """What a bar is worth: as is written over it, or as it is measured where that is another thing."""
    values = _values(chart, page, series, others)
    value = next(value for label, value in zip(chart.labels, values, strict=True) if label is named.line)
    is_up = chart.axis.direction == "up"
    over = page.number_above(named.line) if is_up else next(iter(page.right_of(named.line)), None)
    number = None if over is None or over in chart.axis.ticks else number_of(over.text)
    if over is not None and number is not None and (value is None or abs(number - value) <= _NEAR * abs(value)):
        return Found(over.text, over, named.likeness * over.confidence)
    if value is None:
        return None
    return Found(written(value), named.line, named.likeness * _SURE_OF_MEASURE, is_measured=True)


def _values(chart: Chart, page: Page, series: ReadLine | None, others: Sequence[ReadLine]) -> list[float | None]:
    """What each category is worth, by its bar; or by a point of a line, where there are no bars."""
    values = [chart.value(label, series, others) for label in chart.labels]
    if series is not None or any(value is not None for value in values):
        return values
    return points_of(chart, page.lines)


def _sign(words: Iterable[str]) -> int:
    """1 where a question asks for the highest, -1 for the lowest, 0 otherwise."""
    return bool(HIGHEST_WORDS & set(words)) - bool(LOWEST_WORDS & set(words))


def _extreme_bar(sign: int, page: Page) -> Found | None:
    """The label of the bar of a chart whose number, written over it or behind it, is the highest or the lowest."""
    bars: list[tuple[float, ReadLine, ReadLine]] = []
    for label in page.lines:
        right = page.right_of(label)
        near = page.number_above(label) or (right[0] if right else None)
        number = None if near is None or label.is_number else number_of(near.text)
        if near is not None and number is not None:
            bars.append((number, near, label))
    if len(bars) < _LEAST_CELLS:
        return None
    _, _, label = max(bars, key=lambda bar: sign * bar[0])
    return Found(label.text, label, label.confidence * min(near.confidence for _, near, _ in bars))


def _label(question: str, mentions: Sequence[Mention], page: Page) -> Found | None:
    """What the line is called whose number, or whose entry in a form, a question names."""
    is_field = bool(_ASKS_FOR_FIELD.search(question))
    for mention in mentions:
        is_asked = is_field or (mention.line.is_number and _ASKS_FOR_NAME.search(question))
        name = _name_of(mention.line, page) if is_asked and not mention.rest else None
        if name is not None:
            text = repaired_label(name, name.text) if is_field else without_pieces_behind(name.text)
            return Found(text, name, mention.likeness * name.confidence)
    return None


def _name_of(line: ReadLine, page: Page) -> ReadLine | None:
    """What stands first in the row of a line, words rather than a number."""
    before = page.left_of(line)
    return next((other for other in before if not other.is_number), before[0] if before else None)


def _first_value(words: Sequence[str], mentions: Sequence[Mention], page: Page) -> Found | None:
    """What belongs to the likeliest label that is named; of sums, to the likeliest one that has an amount."""
    if not _AMOUNT_WORDS & set(words):
        return _value(words, mentions[0], page)
    found = [value for mention in mentions if (value := _value(words, mention, page)) is not None]
    return next((value for value in found if amount_of(value.text) is not None), found[0] if found else None)


def _value(words: Sequence[str], mention: Mention, page: Page) -> Found | None:
    """What belongs to a label that is named; not for the highest of something, which is asked for by its name."""
    others = {*words[: mention.start], *words[mention.stop :]}  # a field may be called *price* or *minimum* itself
    if _sign(others):
        return None
    if _MANY_WORDS & others:
        return _quantity(mention, page)
    is_price = bool(_PRICE_WORDS & others)
    price = _price_of(mention, page) if is_price else None
    has_rest = mention.rest and (price is None or amount_of(mention.rest) is not None)
    if has_rest and (mention.is_apart or not page.right_of(mention.line)):
        return Found(mention.rest, mention.line, mention.likeness * mention.line.confidence)
    value = price if is_price else _value_of(mention.line, page)
    # Something beside a label may be a column whose heading was not found.
    names_more = others - FUNCTION_WORDS - FRAME_WORDS - _TYPE_WORDS - ASIDES
    if value is None or (not is_price and names_more):
        return None
    text = written_amount(value.text, page) if (_AMOUNT_WORDS | _PRICE_WORDS) & set(words) else value.text
    return Found(text, value, mention.likeness * value.confidence)


def _quantity(mention: Mention, page: Page) -> Found | None:
    """How many pieces of an item there are.

    Before its name, behind it, as `x2`, the next whole number beside it, or below it before a price, as `2 x 3.50`.
    """
    said = [(mention.before, mention.line), (mention.rest, mention.line)]
    said += [(line.text, line) for line in page.right_of(mention.line)]
    for text, line in said:
        found = re.fullmatch(r"\W*[x×]?\s?(\d{1,3})\s?[x×]?", text, re.I)
        if found:
            return Found(found[1], line, mention.likeness * line.confidence)
    below = _pieces_below(mention.line, page)
    if below is not None:
        return Found(below[0], below[1][0], mention.likeness * below[1][0].confidence)
    # A number before its name that was not understood is how many there are.
    is_item = is_receipt(page) and _price_of(mention, page) is not None and mention.line.text[:1].isalpha()
    return Found("1", mention.line, mention.likeness * _SURE_OF_ONE) if is_item else None


def _pieces_below(label: ReadLine, page: Page) -> tuple[str, Sequence[ReadLine]] | None:
    """How many pieces of an item the row below it tells, and that row: `2 x 3.50`."""
    if any(amount_of(line.text) is not None for line in page.right_of(label)):
        return None
    row = next((row for row in page.rows if row[0].box.top >= label.box.bottom - 2), [])
    pieces = re.match(r"(\d{1,3})\s?[x×]\s?\d", joined_line(row).text, re.I) if row else None
    return None if pieces is None else (pieces[1], row)


def _value_of(label: ReadLine, page: Page) -> ReadLine | None:
    """What stands on the right of a label, below it or, a number, above it."""
    below = values_below(page).get(label)
    if below is not None:
        return below
    right = page.right_of(label)
    above = page.number_above(label)
    # Of two labels side by side, as below bars, each has its number above it.
    if right and (right[0].is_number or above is None or page.number_above(right[0]) is None):
        # Of several numbers the question does not say which.
        return right[0] if len(right) == 1 or not right[1].is_number else None
    return page.below(label) or above


def _price_of(mention: Mention, page: Page) -> ReadLine | None:
    """The last amount in the row of an item, or in the row below it, where all of its name is on a line of its own."""
    label = mention.line
    below, pieces = (None, None) if mention.rest else (page.below(label), _pieces_below(label, page))
    rows = [page.right_of(label), [] if below is None else page.right_of(below), [] if pieces is None else pieces[1]]
    priced = ([line for line in row if amount_of(line.text) is not None] for row in rows)
    return next((amounts[-1] for amounts in priced if amounts), None)
