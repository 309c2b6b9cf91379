"""Counts what a page shows: lines of text, rows and columns of a table, the categories of a chart."""

from __future__ import annotations

import re
from statistics import multimode

from fastvlm.inference.chart_lookup import Chart
from fastvlm.inference.page import Found, Page, ReadLine

_COUNTS = r"\b(?:how many|number of|count)\s+(?:the\s+|different\s+|data\s+)*"
_LINES_QUESTION = re.compile(
    _COUNTS + r"lines\b(?!.*\b(goods|below|header|table|chart|point)\b)|^\W*number of lines\W*$", re.I
)
_ROWS_QUESTION = re.compile(
    _COUNTS + r"(rows\b|(lines|entries)\b.*\b(below the header|in (the|each|every) (table|column)))", re.I
)
_COLUMNS_QUESTION = re.compile(
    _COUNTS + r"(columns\b|(values|numbers|entries)\b.*\bin (the|each|every) row)|^\W*columns\b", re.I
)
_CATEGORIES_QUESTION = re.compile(_COUNTS + r"(bars|categories|points|values\b.*\bconnect)\b(?!.*\bgroup\b)", re.I)

_LEAST_CELLS = 3
"""Rows of numbers, for a page to be a table."""

_SURE = 0.7
"""How often a count is right, by about."""


def look_up_count(question: str, page: Page, chart: Chart | None) -> Found | None:
    """Answer a question for how many lines, rows, columns or categories there are; None for others."""
    number, line = 0, None
    if chart is not None and _CATEGORIES_QUESTION.search(question):
        number, line = len(chart.labels), chart.labels[0]
    elif _COLUMNS_QUESTION.search(question):
        number, line = _columns(page)
    elif _ROWS_QUESTION.search(question):
        rows = _rows(page)
        number, line = len(rows), rows[0][0] if rows else None
    elif chart is None and _LINES_QUESTION.search(question):
        number, line = len(page.rows), page.lines[0]
    return Found(str(number), line, _SURE) if number and line is not None else None


def _rows(page: Page) -> list[list[ReadLine]]:
    """The rows of a table below its header: those with a cell for the name and at least one number."""
    rows = [row for row in page.rows if len(row) > 1 and any(line.is_number for line in row[1:])]
    # A header of years has numbers, and no name in front of them.
    if len(rows) > 1 and rows[0][0].box.left > rows[1][0].box.right:
        rows = rows[1:]
    return rows if len(rows) >= _LEAST_CELLS else []


def _columns(page: Page) -> tuple[int, ReadLine | None]:
    """How many cells most rows of a table have beside the name."""
    rows = _rows(page)
    if not rows:
        return 0, None
    return max(multimode(len(row) for row in rows)) - 1, rows[0][0]
