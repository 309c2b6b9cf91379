"""Counts what a page shows: lines of text, fields of a form, rows and columns of a table, the categories of a chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from statistics import multimode

from fastvlm.inference.chart_lookup import Chart
from fastvlm.inference.form_lookup import field_labels, filled_labels
from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.pie_lookup import Slice, is_whole
from fastvlm.inference.questions import ASIDES
from fastvlm.inference.receipt_rows import is_receipt

_COUNTS = r"\b(?:how many|number of|count)\b.*"
_ROWS_QUESTION = re.compile(_COUNTS + r"(\brows\b|\b(lines|entries)\b.*\b(below|column|table)\b)", re.I)
_COLUMNS_QUESTION = re.compile(_COUNTS + r"(\bcolumns\b|\b(values|numbers)\b.*\brow\b)|^\W*columns\b", re.I)
_FIELDS_QUESTION = re.compile(
    _COUNTS + r"(\bfields\b|\bvalues are (given|there)\b|\bentries are (there|(on|in) (the|this))\b)|^\W*fields\b", re.I
)
_LINES_QUESTION = re.compile(_COUNTS + r"\blines\b", re.I)
_CATEGORIES_QUESTION = re.compile(_COUNTS + r"(\b(bars|categories|points|slices|parts)\b|\bvalues\b.*\bline\b)", re.I)
_COUNT = """
any are bars below beside categories chart column columns connect connected contain contains count data diagram
different do document does each entries every figure find form given graph has header here hold how line lines many
names number numbers page parts picture pie points row rows sheet show shown slices table text there values with
"""
_COUNT_WORDS = frozenset(_COUNT.split()) | ASIDES
"""All that a question for a number of such things says; another word is a condition, of which nothing is known."""

_FIELD = """
any are contain contains count do document does entries fields filled form given has how it many number of on page paper
sheet there values
"""
_FIELD_WORDS = frozenset(_FIELD.split()) | ASIDES
"""The same of fields, which may be said to be filled in."""

_LEAST_ROWS = 3
"""Rows of numbers, for a page to be a table."""

_SHARE_OF_ROWS = 0.6
"""Of rows with numbers, that have as many cells, for a page to be a table and nothing else."""

_SURE = 0.7
"""How often a count is right, by about."""


def look_up_count(question: str, page: Page, chart: Chart | None, pie: Sequence[Slice]) -> Found | None:
    """Answer a question for how many lines, fields, rows, columns or categories there are; None for others."""
    words = set(re.findall("[a-z0-9]+", question.lower()))
    if _FIELDS_QUESTION.search(question):
        is_other = chart is not None or bool(pie)
        return None if is_other or not words <= _FIELD_WORDS else _fields(page, are_filled="filled" in words)
    if not words <= _COUNT_WORDS:
        return None
    number, line = 0, None
    if chart is not None and _CATEGORIES_QUESTION.search(question):
        series = len(chart.legend(page)) if re.search(r"\bbars\b", question, re.I) else 0
        number, line = len(chart.labels) * max(1, series), chart.labels[0]
    elif is_whole(pie) and _CATEGORIES_QUESTION.search(question):
        number, line = len(pie), pie[0].name
    elif _COLUMNS_QUESTION.search(question):
        number, line = _columns(page)
    elif _ROWS_QUESTION.search(question):
        rows = rows_of_table(page)
        number, line = len(rows), rows[0][0] if rows else None
    elif chart is None and _LINES_QUESTION.search(question):
        number, line = len(page.rows), page.lines[0]
    return Found(str(number), line, _SURE) if number and line is not None else None


def _fields(page: Page, *, are_filled: bool) -> Found | None:
    """How many fields a form has, or has with a value."""
    if is_receipt(page) or any(len(row) > 2 for row in rows_of_table(page)):
        return None
    labels = filled_labels(page) if are_filled else field_labels(page)
    return Found(str(len(labels)), labels[0], _SURE) if labels else None


def rows_of_table(page: Page) -> list[list[ReadLine]]:
    """The rows of a table below its header: the most rows in turn of as many cells, with a name and numbers."""
    found = [row for row in page.rows if len(row) > 1 and any(line.is_number for line in row[1:])]
    # A header of years has numbers, and no name in front of them.
    if len(found) > 1 and found[0][0].box.left > found[1][0].box.right:
        found = found[1:]
    runs = [list(run) for _, run in groupby(found, key=len)]
    rows = max(runs, key=lambda run: (len(run), len(run[0])), default=[])
    # A cell that was not found leaves a row shorter: it is one all the same, unless it is another kind of row.
    rows = found if len(rows) >= _SHARE_OF_ROWS * len(found) else rows
    return rows if len(rows) >= _LEAST_ROWS and _has_header(rows[0], page) else []


def _has_header(first: list[ReadLine], page: Page) -> bool:
    """Whether headings stand over the numbers of a row, which receipts and forms do not have."""
    place = next(place for place, row in enumerate(page.rows) if row[0] is first[0])
    above = page.rows[place - 1] if place else []
    return bool(above) and all(any(line in page.column_of(head) for head in above) for line in first if line.is_number)


def _columns(page: Page) -> tuple[int, ReadLine | None]:
    """How many cells most rows of a table have beside the name."""
    rows = rows_of_table(page)
    if not rows:
        return 0, None
    return max(multimode(len(row) for row in rows)) - 1, rows[0][0]
