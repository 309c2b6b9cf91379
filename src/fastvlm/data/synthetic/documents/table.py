"""Tables of numbers with names for their rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastvlm.data.synthetic.documents import strings
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import Drawing, Rectangle, Stroke
from fastvlm.data.synthetic.documents.sheet import Align, Sheet
from fastvlm.data.synthetic.documents.words import any_word

TRAIN_LAYOUTS = ("grid", "rules", "none", "header", "rows")
HELD_OUT_LAYOUTS = ("columns", "shaded")

_SHADE = 28


@dataclass(frozen=True)
class Table:
    """What a table says. values: by row and column, as they are written."""

    title: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


def sample_table(setting: Setting) -> Document:
    """Draw a table that fills its canvas more or less."""
    rng = setting.rng
    paper, ink = setting.paper_and_ink(colored_share=0.06)
    sheet = Sheet(
        setting.width_px, setting.height_px, face=setting.face("sans", "serif", "mono"),
        size_px=rng.randint(18, 22), ink=ink,
        margin_px=rng.uniform(6, 14), leading=rng.uniform(1.25, 1.7),
    )  # fmt: skip
    layout = setting.layout(TRAIN_LAYOUTS, HELD_OUT_LAYOUTS)
    table = _sample(setting, sheet)
    _write(setting, sheet, table, layout)
    drawing = Drawing(setting.width_px, setting.height_px, paper, tuple(sheet.marks))
    columns = "1 column of numbers" if len(table.columns) == 1 else f"{len(table.columns)} columns of numbers"
    return Document(
        kind="table",
        drawing=drawing,
        facts=tuple(_facts(table)),
        transcript="\n".join(sheet.lines),
        caption=f"A table of {len(table.rows)} rows and {columns}.",
        missing=tuple(_missing(setting, table)),
    )


def _sample(setting: Setting, sheet: Sheet) -> Table:
    rng = setting.rng
    has_title = rng.random() < 0.4 and sheet.rows_left > 4
    num_rows = max(2, min(8, sheet.rows_left - 1 - has_title))
    num_rows = rng.randint(max(2, num_rows - 2), num_rows)
    most = max(1, int(sheet.inner_px // (4.2 * sheet.size_px)) - 1)
    num_columns = rng.randint(1, min(5, most)) if most > 1 else 1
    cell_px = sheet.inner_px / (num_columns + 1) - 0.7 * sheet.size_px
    rows = _names(setting, sheet, num_rows, cell_px)
    columns = _names(setting, sheet, num_columns, cell_px, taken=rows)
    kind = rng.choice(("whole", "whole", "money", "share"))
    values = tuple(tuple(_value(setting, kind, sheet, cell_px) for _ in range(num_columns)) for _ in range(num_rows))
    title = setting.text(strings.words).title() if has_title else None
    if title is not None and sheet.width_of(title, scale=1.15) > sheet.inner_px:
        title = None
    return Table(title, rows, columns, values)


def _names(
    setting: Setting, sheet: Sheet, num: int, width_px: float, *, taken: tuple[str, ...] = ()
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    is_years = not taken and setting.words == "train" and setting.rng.random() < 0.15
    if is_years:
        first = setting.rng.randint(1990, 2020)
        return tuple(str(first + number) for number in range(num))
    while len(found) < num:
        word = any_word(setting.rng, setting.words).capitalize()
        if len(word) > 2 and word not in taken and sheet.width_of(word) <= width_px:
            found[word] = None
    return tuple(found)


def _value(setting: Setting, kind: str, sheet: Sheet, width_px: float) -> str:
    rng = setting.rng
    for _ in range(8):
        # Every second number of what judges has more digits than any of the training.
        digits = rng.randint(5, 7) if setting.words == "held_out" and rng.random() < 0.5 else rng.randint(1, 4)
        number = rng.randrange(10 ** (digits - 1), 10**digits)
        text = {"whole": str(number), "money": f"{number / 100:.2f}", "share": f"{number % 101}%"}[kind]
        if sheet.width_of(text) <= width_px:
            return text
    return str(rng.randrange(10, 100))


def _write(setting: Setting, sheet: Sheet, table: Table, layout: str) -> None:
    rng = setting.rng
    if table.title is not None:
        sheet.row((table.title, rng.choice(("left", "center"))), scale=1.15)
    number_align: Align = rng.choice(("right", "right", "center", "left"))
    num_columns = len(table.columns) + 1
    width_px = sheet.inner_px / num_columns
    edges = [sheet.margin_px + 4]
    aligns: list[Align] = ["left"]
    for column in range(1, num_columns):
        share = {"left": 0.12, "center": 0.5, "right": 0.9}[number_align]
        edges.append(sheet.margin_px + (column + share) * width_px)
        aligns.append(number_align)
    top_px = sheet.top_px - 2
    body = (
        (_corner(setting), *table.columns),
        *((row, *values) for row, values in zip(table.rows, table.values, strict=True)),
    )
    for number, cells in enumerate(body):
        row_px = sheet.top_px
        if layout == "shaded" and number % 2 == 1:
            _shade(sheet, row_px)
        sheet.columns(cells, edges, aligns)
        below_px = sheet.top_px - 2
        if layout in ("grid", "rules") or (layout == "header" and number == 0) or (layout == "rows" and number):
            _across(sheet, below_px)
    if layout in ("grid", "rules"):
        _across(sheet, top_px)
    if layout in ("grid", "columns"):
        for column in range(num_columns + 1):
            x_px = sheet.margin_px + column * width_px
            sheet.marks.append(Stroke(((x_px, top_px), (x_px, sheet.top_px - 2)), sheet.ink, 1))


def _corner(setting: Setting) -> str:
    return "" if setting.rng.random() < 0.7 else setting.rng.choice(("Name", "Item", "Row", "Year", "City"))


def _across(sheet: Sheet, y_px: float) -> None:
    sheet.marks.append(Stroke(((sheet.margin_px, y_px), (sheet.width_px - sheet.margin_px, y_px)), sheet.ink, 1))


def _shade(sheet: Sheet, top_px: float) -> None:
    """A bar behind a row, a little nearer to the paper's other end than the ink."""
    is_dark_ink = sum(sheet.ink) < 3 * 128
    level = 255 - _SHADE if is_dark_ink else _SHADE
    bottom_px = top_px + sheet.leading * sheet.size_px
    right_px = sheet.width_px - sheet.margin_px
    sheet.marks.append(Rectangle(sheet.margin_px, top_px - 2, right_px, bottom_px - 2, (level, level, level)))


def _number(text: str) -> float:
    return float(text.rstrip("%"))


def _facts(table: Table) -> Iterator[Fact]:
    yield Fact("num_rows", str(len(table.rows)))
    yield Fact("num_columns", str(len(table.columns)))
    if table.title is not None:
        yield Fact("title", table.title)
    every = tuple(value for values in table.values for value in values)
    for row, values in zip(table.rows, table.values, strict=True):
        for column, value in zip(table.columns, values, strict=True):
            others = tuple(dict.fromkeys(other for other in every if other != value))
            yield Fact("cell", value, {"row": row, "column": column}, others)
    for number, column in enumerate(table.columns):
        own = [values[number] for values in table.values]
        ordered = sorted(range(len(own)), key=lambda row: _number(own[row]))
        for intent, best, next_best in (("largest_row", -1, -2), ("smallest_row", 0, 1)):
            if _number(own[ordered[best]]) != _number(own[ordered[next_best]]):
                others = tuple(row for row in table.rows if row != table.rows[ordered[best]])
                yield Fact(intent, table.rows[ordered[best]], {"column": column}, others)
        for row, value in zip(table.rows, own, strict=True):
            if own.count(value) == 1:
                others = tuple(other for other in table.rows if other != row)
                yield Fact("row_of", row, {"column": column, "value": value}, others)


def _missing(setting: Setting, table: Table) -> Iterator[Fact]:
    known = {*table.rows, *table.columns}
    for _ in range(2):
        word = any_word(setting.rng, setting.words).capitalize()
        if word not in known:
            yield Fact("cell", "", {"row": word, "column": setting.rng.choice(table.columns)})
