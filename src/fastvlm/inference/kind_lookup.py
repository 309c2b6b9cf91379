"""Tells what kind of document a page is, by what stands on it."""

from __future__ import annotations

from fastvlm.inference.chart_lookup import find_chart
from fastvlm.inference.count_lookup import rows_of_table
from fastvlm.inference.form_lookup import field_labels, is_usual_label
from fastvlm.inference.page import Found, Page
from fastvlm.inference.pie_lookup import find_pie, is_whole
from fastvlm.inference.receipt_rows import is_receipt

_LEAST_LABELS = 2
"""As forms usually have, for a page of two columns to be one, and no table."""

_SURE = 0.9
"""How often the kind of a page is right that is told by its lines, by about."""


def look_up_kind(page: Page) -> Found | None:
    """A receipt by its amounts and a sum, a chart by its axis, a form or a table by its rows; None for other pages."""
    if not page.lines:
        return None
    labels = field_labels(page)
    if is_receipt(page):
        kind = "a receipt"
    elif find_chart(page) is not None or is_whole(find_pie(page)):
        kind = "a chart"
    elif labels and sum(map(is_usual_label, labels)) >= _LEAST_LABELS:
        kind = "a form"
    elif rows_of_table(page):
        kind = "a table"
    elif labels:
        kind = "a form"
    else:
        return None
    return Found(kind, page.lines[0], _SURE)
