"""Documents of the second renderer with everything about them that can be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Literal, TypeVar

from fastvlm.batches import UInt8Array
from fastvlm.evaluation.rendered.charts import Chart, draw_chart, invent_chart
from fastvlm.evaluation.rendered.content import (
    Form,
    Page,
    Receipt,
    Table,
    invent_form,
    invent_page,
    invent_receipt,
    invent_table,
)
from fastvlm.evaluation.rendered.pdf import draw_form, draw_page, draw_receipt, draw_table

_Thing = TypeVar("_Thing")

DocumentKind = Literal["receipt", "form", "table", "chart", "page"]

KINDS: tuple[DocumentKind, ...] = ("receipt", "form", "table", "chart", "page")
NTH = ("first", "second", "third", "fourth", "fifth", "sixth")

_CLEAR_MARGIN = 0.05
"""Bars and points that differ by less, as a share of the largest, and slices, of the whole, are not compared."""


@dataclass(frozen=True)
class RenderedFact:
    """One thing that can be asked about a document; the answer is as printed, or empty where it is not shown."""

    intent: str
    answer: str
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RenderedDocument:
    """A picture, H x W x 3, with what is true of it and what such documents may have but this one does not show."""

    kind: DocumentKind
    image: UInt8Array
    facts: tuple[RenderedFact, ...]
    missing: tuple[RenderedFact, ...]


def rendered_document(index: int) -> RenderedDocument:
    """The document of a number from 0; numbers cycle through the kinds, and the same one gives the same document."""
    rng = Random(f"rendered document {index}")
    kind = KINDS[index % len(KINDS)]
    if kind == "receipt":
        receipt = invent_receipt(rng)
        image, facts = draw_receipt(receipt, rng), receipt_facts(receipt)
    elif kind == "form":
        form = invent_form(rng)
        image, facts = draw_form(form, rng), form_facts(form)
    elif kind == "table":
        table = invent_table(rng)
        image, facts = draw_table(table, rng), table_facts(table)
    elif kind == "chart":
        chart = invent_chart(rng)
        image, facts = draw_chart(chart, rng), chart_facts(chart)
    else:
        page = invent_page(rng)
        image, facts = draw_page(page, rng), page_facts(page)
    return RenderedDocument(
        kind, image, tuple(fact for fact in facts if fact.answer), tuple(fact for fact in facts if not fact.answer)
    )


def receipt_facts(receipt: Receipt) -> list[RenderedFact]:
    """What can be asked about a receipt; an empty answer is of something that it does not show."""
    items = receipt.items
    sums = [amount for _, amount in receipt.sums] or ["", ""]
    facts = [RenderedFact("total", receipt.total), RenderedFact("shop", receipt.shop),
             RenderedFact("num_items", str(len(items))), RenderedFact("subtotal", sums[0]),
             RenderedFact("tax", sums[1])]  # fmt: skip
    shown = {"date": receipt.date, "time": receipt.time, "number": receipt.number, "phone": receipt.phone,
             "address": receipt.address, "payment": receipt.payment, "change": receipt.change}  # fmt: skip
    facts += [RenderedFact(intent, text or "") for intent, text in shown.items()]
    # Where quantities are shown, the price of one and of all could be meant.
    priced = [item for item in items if not (receipt.shows_quantities and item.quantity > 1)]
    facts += [RenderedFact("price", item.amount, {"thing": item.thing}) for item in priced]
    if receipt.shows_quantities:
        facts += [RenderedFact("quantity", str(item.quantity), {"thing": item.thing}) for item in items]
    facts += [RenderedFact("costs", item.thing, {"value": item.amount})
              for item in _with_unique([item.amount for item in items], items) if item in priced]  # fmt: skip
    by_line = _only_largest([item.cents for item in items])
    by_unit = _only_largest([item.cents / item.quantity for item in items])
    if by_line is not None and by_line == by_unit:
        facts.append(RenderedFact("dearest", items[by_line].thing))
    return facts


def form_facts(form: Form) -> list[RenderedFact]:
    """What can be asked about a form; an empty answer is of something that it does not show."""
    facts = [RenderedFact("title", form.title or "")]
    facts += [RenderedFact("value", value, {"key": key}) for key, value in form.fields]
    facts += [RenderedFact("value", "", {"key": key}) for key in form.absent_keys]
    values = [value for _, value in form.fields]
    facts += [RenderedFact("key", key, {"value": value}) for key, value in _with_unique(values, form.fields) if value]
    facts += [RenderedFact("ticked", "yes" if is_ticked else "no", {"key": label}) for label, is_ticked in form.ticks]
    if form.ticks:
        facts.append(RenderedFact("num_ticked", str(sum(is_ticked for _, is_ticked in form.ticks))))
    else:
        # With boxes to tick beside them it is not clear whether those are counted.
        facts.append(RenderedFact("num_fields", str(len(form.fields))))
    return facts


def table_facts(table: Table) -> list[RenderedFact]:
    """What can be asked about a table; an empty answer is of something that it does not show."""
    facts = [RenderedFact("title", table.title or ""), RenderedFact("num_rows", str(len(table.rows))),
             RenderedFact("num_columns", str(len(table.columns)))]  # fmt: skip
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in table.cells]
        values = [row[number] for row in table.numbers]
        facts += [RenderedFact("cell", cell, {"column": column, "row": row})
                  for row, cell in zip(table.rows, cells, strict=True)]  # fmt: skip
        facts += [RenderedFact("row_of", row, {"column": column, "value": cell})
                  for row, cell in _with_unique(cells, list(zip(table.rows, cells, strict=True)))]  # fmt: skip
        for intent, best in (("largest_row", _only_largest(values)), ("smallest_row", _only_smallest(values))):
            if best is not None:
                facts.append(RenderedFact(intent, table.rows[best], {"column": column}))
    facts.append(RenderedFact("cell", "", {"column": table.columns[0], "row": table.absent_row}))
    return facts


def chart_facts(chart: Chart) -> list[RenderedFact]:
    """What can be asked about a chart; an empty answer is of something that it does not show."""
    kind = {"line": "line chart", "pie": "pie chart"}.get(chart.shape, "bar chart")
    facts = [RenderedFact("chart_kind", kind), RenderedFact("title", chart.title or "")]
    if kind != "pie chart":
        facts.append(RenderedFact("axis", chart.axis or ""))
    if kind == "bar chart":
        facts.append(RenderedFact("num_bars", str(sum(len(values) for values in chart.values))))
    if kind == "line chart":
        facts.append(RenderedFact("num_series", str(len(chart.values))))
    else:
        facts.append(RenderedFact("num_categories", str(len(chart.categories))))
    if chart.series:
        return facts + _facts_of_groups(chart)
    return facts + _facts_of_series(chart, kind)


def _facts_of_groups(chart: Chart) -> list[RenderedFact]:
    if chart.shape != "grouped":
        return []
    facts = [RenderedFact("num_series", str(len(chart.series)))]
    for name, values in zip(chart.series, chart.values, strict=True):
        facts += [RenderedFact("group_value", chart.printed(value), {"name": category, "series": name})
                  for category, value in zip(chart.categories, values, strict=True)]  # fmt: skip
    return facts


def _facts_of_series(chart: Chart, kind: str) -> list[RenderedFact]:
    (values,) = chart.values
    names, margin = chart.categories, _CLEAR_MARGIN * (sum(values) if kind == "pie chart" else max(values))
    facts = []
    if kind == "line chart":
        facts.append(RenderedFact("num_points", str(len(values))))
        steps = [after - before for before, after in pairwise(values)]
        if min(steps) > 0 or max(steps) < 0:
            facts.append(RenderedFact("trend", "up" if steps[0] > 0 else "down"))
    if chart.are_printed or kind != "pie chart":
        facts += [RenderedFact("bar_value", chart.printed(value), {"name": name})
                  for name, value in zip(names, values, strict=True)]  # fmt: skip
        facts.append(RenderedFact("bar_value", "", {"name": chart.absent_category}))
    for intent, best in (("highest", _only_largest(values, margin)), ("lowest", _only_smallest(values, margin))):
        if best is not None:
            facts.append(RenderedFact(intent, names[best]))
    facts += [
        RenderedFact(
            "higher", "yes" if values[one] > values[other] else "no", {"name": names[one], "other": names[other]}
        )
        for one in range(len(values))
        for other in range(len(values))
        if abs(values[one] - values[other]) > margin
    ]
    return facts


def page_facts(page: Page) -> list[RenderedFact]:
    """What can be asked about a page; an empty answer is of something that it does not show."""
    facts = [RenderedFact("title", page.heading or ""), RenderedFact("line", page.lines[-1], {"nth": "last"})]
    if page.heading is None:
        facts.append(RenderedFact("num_lines", str(len(page.lines))))
        lines = [*page.lines, *[""] * (len(NTH) - len(page.lines))]
        facts += [RenderedFact("line", line, {"nth": nth}) for nth, line in zip(NTH, lines, strict=True)]
    words = re.findall(r"[a-z]+", " ".join([page.heading or "", *page.lines]).lower())
    counts = Counter(words)
    for line in page.lines:
        tokens = line.split()
        facts += [RenderedFact("after", after, {"word": word})
                  for word, after in pairwise(tokens)
                  if word.isalpha() and after.isalpha() and len(word) > 2 and counts[word.lower()] == 1]  # fmt: skip
    shown = sorted({word for word in words if len(word) >= 5})
    facts += [RenderedFact("has_word", "yes", {"word": word}) for word in shown[:: max(1, len(shown) // 2)][:2]]
    facts += [RenderedFact("has_word", "no", {"word": word}) for word in page.absent_words]
    return facts


def _with_unique(keys: Sequence[str], things: Sequence[_Thing]) -> list[_Thing]:
    counts = Counter(keys)
    return [thing for key, thing in zip(keys, things, strict=True) if counts[key] == 1]


def _only_largest(values: Iterable[float], margin: float = 0.0) -> int | None:
    listed = list(values)
    order = sorted(range(len(listed)), key=lambda number: listed[number])
    return order[-1] if listed[order[-1]] - listed[order[-2]] > margin else None


def _only_smallest(values: Iterable[float], margin: float = 0.0) -> int | None:
    return _only_largest([-value for value in values], margin)
