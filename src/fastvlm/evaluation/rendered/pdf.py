"""Receipts, forms, tables and pages, typeset with reportlab and drawn with pypdfium2."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from random import Random
from typing import Any, Literal

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.errors import DataError, require_extra
from fastvlm.evaluation.rendered.charts import SMALLEST_TEXT_SHARE
from fastvlm.evaluation.rendered.content import Form, Page, Receipt, Table

Alignment = Literal["left", "centre", "right"]

_BODY_PT = 20.0
_LONGEST_PT = _BODY_PT / SMALLEST_TEXT_SHARE

_FAMILIES = {
    "Helvetica": ("Helvetica", "Helvetica-Bold", "Helvetica-Oblique"),
    "Times": ("Times-Roman", "Times-Bold", "Times-Italic"),
    "Courier": ("Courier", "Courier-Bold", "Courier-Oblique"),
    "Typewriter": ("Courier-Bold", "Courier-Bold", "Courier-BoldOblique"),
}
_ACCENTS = ("#1f3a5f", "#7a1f2b", "#2f5d3a", "#4a3560", "#333333", "#8a4b14")
_PALE_ACCENTS = ("#e3ebf4", "#f6e3e0", "#e4f0e2", "#ece5f3", "#e9e9e9", "#fbefd0")
_INKS = ("#000000", "#151515", "#222222", "#1b2430")
_PAPERS = ("#ffffff", "#ffffff", "#fdfcf6", "#fafafa", "#f8f4ea")
_DESKS = ("#7d6b58", "#9aa5ae", "#c9c2b4", "#5b6770", "#b7a58c")
_PENS = ("#16309a", "#101010", "#1d4f91", "#333333")

_Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Style:
    """What all marks of one document share."""

    regular: str
    bold: str
    italic: str
    ink: str
    accent: str
    pale: str
    leading: float

    @classmethod
    def chosen(cls, rng: Random, *families: str, leadings: tuple[float, float] = (1.25, 1.5)) -> _Style:
        hue = rng.randrange(len(_ACCENTS))
        fonts = _FAMILIES[rng.choice(families)]
        return cls(*fonts, rng.choice(_INKS), _ACCENTS[hue], _PALE_ACCENTS[hue], _BODY_PT * rng.uniform(*leadings))


@dataclass(frozen=True)
class _Pen:
    """What a form is filled in with."""

    font: str
    colour: str


def _width_of(words: str, font: str, size: float = _BODY_PT) -> float:
    require_extra("reportlab", "eval")
    from reportlab.pdfbase.pdfmetrics import stringWidth

    return float(stringWidth(words, font, size))


def _widest(words: Sequence[str], font: str, size: float = _BODY_PT) -> float:
    return max((_width_of(each, font, size) for each in words), default=0.0)


@dataclass
class _Sheet:
    """Marks on a sheet of a known width that grows downwards; y: the next baseline, in points from the top."""

    style: _Style
    width: float
    margin: float
    y: float
    marks: list[Callable[[Any, float], None]] = field(default_factory=list)

    @property
    def right(self) -> float:
        return self.width - self.margin

    def text(self, x: float, words: str, font: str = "", *, size: float = _BODY_PT, colour: str = "",
             alignment: Alignment = "left") -> None:  # fmt: skip
        y = self.y

        def draw(canvas: Any, height: float) -> None:
            canvas.setFillColor(colour or self.style.ink)
            canvas.setFont(font or self.style.regular, size)
            methods = {"left": canvas.drawString, "centre": canvas.drawCentredString, "right": canvas.drawRightString}
            methods[alignment](x, height - y, words)

        self.marks.append(draw)

    def line(self, words: str, font: str = "", *, alignment: Alignment = "left", size: float = _BODY_PT,
             colour: str = "") -> None:  # fmt: skip
        """Words between the margins, and on to the next baseline."""
        x = {"left": self.margin, "centre": self.width / 2, "right": self.right}[alignment]
        self.text(x, words, font, size=size, colour=colour, alignment=alignment)
        self.y += self.style.leading

    def pair(self, left: str, right: str, font: str = "", *, leaders: bool = False) -> None:
        """Words at both margins, and on to the next baseline."""
        self.text(self.margin, left, font)
        self.text(self.right, right, font, alignment="right")
        if leaders:
            named = font or self.style.regular
            start, end = self.margin + _width_of(left, named) + 4, self.right - _width_of(right, named) - 4
            self.stroke((start, self.y - 1.5), (end, self.y - 1.5), thickness=1.8, dashes=(1.8, 4.6))
        self.y += self.style.leading

    def rule(self, above: float, *, thickness: float = 1.0, dashes: Sequence[float] = (), colour: str = "") -> None:
        """A line from margin to margin, so much above the next baseline."""
        y = self.y - above
        self.stroke((self.margin, y), (self.right, y), thickness=thickness, dashes=dashes, colour=colour)

    def stroke(self, *points: tuple[float, float], thickness: float = 1.0, dashes: Sequence[float] = (),
               colour: str = "") -> None:  # fmt: skip
        def draw(canvas: Any, height: float) -> None:
            canvas.setStrokeColor(colour or self.style.ink)
            canvas.setLineWidth(thickness)
            canvas.setDash(list(dashes))
            for (x, y), (next_x, next_y) in pairwise(points):
                canvas.line(x, height - y, next_x, height - next_y)

        self.marks.append(draw)

    def box(self, x: float, top: float, width: float, height: float, *, fill: str = "", stroke: str = "",
            thickness: float = 1.0, radius: float = 0.0) -> None:  # fmt: skip
        def draw(canvas: Any, sheet_height: float) -> None:
            canvas.setDash([])
            canvas.setLineWidth(thickness)
            canvas.setFillColor(fill or "#000000")
            canvas.setStrokeColor(stroke or "#000000")
            bottom = sheet_height - top - height
            canvas.roundRect(x, bottom, width, height, radius, stroke=int(bool(stroke)), fill=int(bool(fill)))

        self.marks.append(draw)

    def picture(self, height: float, rng: Random) -> UInt8Array:
        """The sheet as pixels, sometimes with a strip of desk around it."""
        require_extra("reportlab", "eval")
        require_extra("pypdfium2", "eval")
        from pypdfium2 import PdfDocument
        from reportlab.pdfgen.canvas import Canvas

        room = _LONGEST_PT - max(self.width, height)
        if room < 0:
            raise DataError(f"A sheet of {self.width:.0f} x {height:.0f} points makes its text too small.")
        desk = min(rng.uniform(8, 18), room / 2) if rng.random() < 0.3 else 0.0
        size = (self.width + 2 * desk, height + 2 * desk)
        written = io.BytesIO()
        canvas = Canvas(written, pagesize=size, invariant=1)
        for colour, inset in ((rng.choice(_DESKS), 0.0), (rng.choice(_PAPERS), desk)):
            canvas.setFillColor(colour)
            canvas.rect(inset, inset, size[0] - 2 * inset, size[1] - 2 * inset, stroke=0, fill=1)
        canvas.translate(desk, desk)
        for draw in self.marks:
            draw(canvas, height)
        canvas.save()
        with _without_system_fonts(), PdfDocument(written.getvalue()) as document:
            drawn = document[0].render(scale=rng.randint(420, 880) / max(size), rev_byteorder=True).to_numpy()
            return np.ascontiguousarray(drawn[:, :, :3]).copy()


@contextmanager
def _without_system_fonts() -> Iterator[None]:
    """Let pdfium use the standard fonts that it brings, not what a machine has of a similar name."""
    from pypdfium2 import raw

    no_fonts = raw.FPDF_SYSFONTINFO(version=1)
    raw.FPDF_SetSystemFontInfo(no_fonts)
    try:
        yield
    finally:
        raw.FPDF_SetSystemFontInfo(raw.FPDF_GetDefaultSystemFontInfo())


def draw_receipt(receipt: Receipt, rng: Random) -> UInt8Array:
    """A receipt as a picture, uint8 H x W x 3: a till's strip, a slip with dotted leaders, or a broad bill."""
    head = [line for line in (receipt.address, receipt.phone and f"{rng.choice(('Tel. ', 'Phone: '))}{receipt.phone}")
            if line]  # fmt: skip
    when = [text for text in (receipt.date, receipt.time) if text]
    facts = [(when[0], when[1] if len(when) > 1 else "")] if when else []
    if receipt.number:
        facts.append((rng.choice(("Receipt no.", "Receipt", "Receipt number")), receipt.number))
    payment = []
    if receipt.payment and receipt.tendered and receipt.change:
        payment = [(receipt.payment, receipt.tendered), ("Change", receipt.change)]
    elif receipt.payment:
        payment = [(rng.choice(("Paid by", "Payment", "Payment method")), receipt.payment)]
    draw = rng.choice((_draw_slip, _draw_slip, _draw_bill))
    return draw(receipt, head, facts, payment, rng)


def _draw_slip(receipt: Receipt, head: Sequence[str], facts: _Pairs, payment: _Pairs, rng: Random) -> UInt8Array:
    has_leaders = rng.random() < 0.4
    style = _Style.chosen(rng, *(("Times", "Helvetica") if has_leaders else ("Courier", "Typewriter", "Helvetica")))
    alignment: Alignment = "left" if has_leaders else "centre"
    goods = [(f"{item.quantity} x {item.thing}" if receipt.shows_quantities else item.thing, item.amount)
             for item in receipt.items]  # fmt: skip
    total = (receipt.total_label, receipt.total)
    pairs = [*facts, *goods, *receipt.sums, total, *payment]
    shop_size = _BODY_PT * (rng.uniform(1.3, 1.6) if has_leaders else rng.uniform(1.1, 1.4))
    inner = max(
        _widest([left + right for left, right in pairs], style.bold) + (66 if has_leaders else 36),
        _widest([*head, receipt.thanks or ""], style.bold),
        _width_of(receipt.shop, style.bold, shop_size),
    )
    margin = rng.uniform(22, 32)
    sheet = _Sheet(style, inner + 2 * margin, margin, y=margin + shop_size)
    dashes: tuple[float, ...] = rng.choice(((5, 4), (2, 3), ()))

    def rule_off() -> None:
        sheet.rule(style.leading * 0.6, dashes=dashes)
        sheet.y += style.leading * 0.45

    sheet.line(
        receipt.shop, style.bold, alignment=alignment, size=shop_size, colour=style.accent if has_leaders else ""
    )
    for line in head:
        sheet.line(line, alignment=alignment)
    for group in (facts, goods, receipt.sums):
        if group:
            rule_off()
        for left, right in group:
            sheet.pair(left, right, leaders=has_leaders and group is not facts)
    rule_off()
    if has_leaders and not dashes:
        sheet.rule(style.leading * 1.05 - 3)
    sheet.pair(*total, style.bold)
    for left, right in payment:
        sheet.pair(left, right)
    if receipt.thanks:
        sheet.y += 5
        sheet.line(receipt.thanks, style.italic, alignment=alignment)
    return sheet.picture(sheet.y - style.leading + margin, rng)


def _draw_bill(receipt: Receipt, head: Sequence[str], facts: _Pairs, payment: _Pairs, rng: Random) -> UInt8Array:
    style = _Style.chosen(rng, "Helvetica", "Times")
    total = (receipt.total_label, receipt.total)
    indent = 52.0 if receipt.shows_quantities else 0.0
    goods = [item.thing + item.amount for item in receipt.items]
    pairs = [left + right for left, right in (*facts, *receipt.sums, total, *payment)]
    inner = max(
        _widest(goods, style.bold) + indent + 36,
        _widest(pairs, style.bold) + 36,
        _widest(head, style.bold),
        _width_of(receipt.shop, style.bold, 26),
        rng.uniform(320, 400),
    )
    sheet = _Sheet(style, inner + 48, 24, y=36)
    sheet.box(0, 0, sheet.width, 50, fill=style.accent)
    sheet.line(receipt.shop, style.bold, size=26, colour="#ffffff")
    sheet.y = 50 + style.leading
    for line in head:
        sheet.line(line)
    for left, right in facts:
        sheet.pair(left, right)

    def tint(outline: str = "") -> None:
        sheet.box(sheet.margin - 6, sheet.y - _BODY_PT, inner + 12, _BODY_PT * 1.35, fill=style.pale, stroke=outline)

    sheet.y += 6
    tint()
    if receipt.shows_quantities:
        sheet.text(sheet.margin, "Qty", style.bold)
    sheet.text(sheet.margin + indent, "Item", style.bold)
    sheet.pair("", "Amount", style.bold)
    for item in receipt.items:
        if receipt.shows_quantities:
            sheet.text(sheet.margin, str(item.quantity))
        sheet.text(sheet.margin + indent, item.thing)
        sheet.pair("", item.amount)
    sheet.rule(style.leading * 0.65, colour=style.accent)
    sheet.y += 6
    for left, right in receipt.sums:
        sheet.pair(left, right)
    tint(style.accent)
    sheet.pair(*total, style.bold)
    sheet.y += 5
    for left, right in payment:
        sheet.pair(left, right)
    return sheet.picture(sheet.y - style.leading + 24, rng)


def draw_form(form: Form, rng: Random) -> UInt8Array:
    """A filled form as a picture, uint8 H x W x 3: lines, dotted leaders, a ruled grid, or labels over boxes."""
    style = _Style.chosen(rng, "Helvetica", "Helvetica", "Times", leadings=(1.45, 1.75))
    pen = _Pen(rng.choice(("Courier", "Helvetica", "Times-Italic", "Courier-Bold")), rng.choice(_PENS))
    keys, values = zip(*form.fields, strict=True)
    key_width = _widest(keys, style.bold) + 24
    value_width = max(_widest(values, pen.font) + 18, 130.0)
    cell = max(key_width, value_width)
    layout = rng.choice(("lines", "leaders", "grid", "boxes"))
    if layout == "boxes" and 2 * cell + 72 > _LONGEST_PT:
        layout = "lines"
    title_size = _BODY_PT * rng.uniform(1.25, 1.5)
    inner = max(
        {"boxes": 2 * cell + 16, "leaders": key_width + value_width + 40}.get(layout, key_width + value_width),
        _width_of(form.title or "", style.bold, title_size),
        2 * _widest([label for label, _ in form.ticks], style.regular) + 90 if form.ticks else 0.0,
    )
    sheet = _Sheet(style, inner + 56, 28, y=32 + title_size * 0.6)
    if form.title:
        sheet.line(form.title, style.bold, size=title_size, colour=rng.choice((style.accent, "")),
                   alignment=rng.choice(("left", "centre")))  # fmt: skip
        sheet.rule(style.leading - 8, thickness=1.6, colour=style.accent)
        sheet.y += 10
    frame = rng.choice((style.ink, style.accent, "#888888"))
    if layout == "boxes":
        _draw_boxed_fields(sheet, form, cell, pen, frame)
    else:
        for key, value in form.fields:
            _draw_field(sheet, key, value, layout, key_width, pen, frame)
    sheet.y += 10 if form.ticks else 0
    _draw_ticks(sheet, form, inner / 2, pen, rng)
    return sheet.picture(sheet.y - style.leading + 28, rng)


def _draw_boxed_fields(sheet: _Sheet, form: Form, cell: float, pen: _Pen, frame: str) -> None:
    for number, (key, value) in enumerate(form.fields):
        x, y = sheet.margin + number % 2 * (cell + 16), sheet.y
        sheet.text(x, key, sheet.style.bold)
        sheet.box(x, y + 7, cell, 31, stroke=frame, fill="#ffffff")
        sheet.y = y + 29
        sheet.text(x + 8, value, pen.font, colour=pen.colour)
        sheet.y = y + 70 if number % 2 or number == len(form.fields) - 1 else y


def _draw_field(sheet: _Sheet, key: str, value: str, layout: str, key_width: float, pen: _Pen, frame: str) -> None:
    style, y, middle = sheet.style, sheet.y, sheet.margin + key_width
    if layout == "leaders":
        start, end = sheet.margin + _width_of(key, style.regular) + 5, sheet.right - _width_of(value, pen.font) - 5
        sheet.stroke((start, y - 1.5), (end, y - 1.5), thickness=1.8, dashes=(1.8, 4.6))
        sheet.text(sheet.margin, key)
        sheet.text(sheet.right, value, pen.font, colour=pen.colour, alignment="right")
    elif layout == "grid":
        top = y - style.leading * 0.5 - 7
        sheet.box(sheet.margin, top, key_width, style.leading, fill=style.pale, stroke=frame)
        sheet.box(middle, top, sheet.right - middle, style.leading, stroke=frame)
        sheet.text(sheet.margin + 8, key, style.bold)
        sheet.text(middle + 8, value, pen.font, colour=pen.colour)
    else:
        sheet.stroke((middle, y + 5), (sheet.right, y + 5), colour=frame)
        sheet.text(sheet.margin, f"{key}:", style.bold)
        sheet.text(middle + 8, value, pen.font, colour=pen.colour)
    sheet.y += style.leading


def _draw_ticks(sheet: _Sheet, form: Form, column_width: float, pen: _Pen, rng: Random) -> None:
    mark = rng.choice(("cross", "check", "filled"))
    for number, (label, is_ticked) in enumerate(form.ticks):
        x, top, side = sheet.margin + number % 2 * column_width, sheet.y - 16, 18.0
        sheet.box(x, top, side, side, stroke=sheet.style.ink, fill="#ffffff", thickness=1.4)
        if is_ticked and mark == "filled":
            sheet.box(x + 3.5, top + 3.5, side - 7, side - 7, fill=pen.colour)
        elif is_ticked and mark == "cross":
            sheet.stroke((x + 3, top + 3), (x + side - 3, top + side - 3), thickness=2.4, colour=pen.colour)
            sheet.stroke((x + 3, top + side - 3), (x + side - 3, top + 3), thickness=2.4, colour=pen.colour)
        elif is_ticked:
            sheet.stroke((x + 3, top + 9), (x + 8, top + 14), (x + 17, top + 1), thickness=2.6, colour=pen.colour)
        sheet.text(x + 28, label)
        sheet.y += sheet.style.leading if number % 2 or number == len(form.ticks) - 1 else 0


def draw_table(table: Table, rng: Random) -> UInt8Array:
    """A table as a picture, uint8 H x W x 3: with stripes, a grid, rules only, or a coloured head."""
    style = _Style.chosen(rng, "Helvetica", "Helvetica", "Times", leadings=(1.45, 1.8))
    look = rng.choice(("stripes", "grid", "rules", "band"))
    grid_of_words = [(table.corner, *table.columns)]
    grid_of_words += [(name, *cells) for name, cells in zip(table.rows, table.cells, strict=True)]
    pad = rng.uniform(9, 16)
    widths = [_widest(words, style.bold) + 2 * pad for words in zip(*grid_of_words, strict=True)]
    title_size = _BODY_PT * rng.uniform(1.1, 1.35)
    inner = max(sum(widths), _width_of(table.title or "", style.bold, title_size))
    widths[0] += inner - sum(widths)
    edges = list(accumulate(widths, initial=rng.uniform(14, 24)))
    sheet = _Sheet(style, inner + 2 * edges[0], edges[0], y=edges[0] + 18)
    if table.title:
        sheet.line(table.title, rng.choice((style.bold, style.italic)), size=title_size,
                   alignment=rng.choice(("left", "centre")))  # fmt: skip
        sheet.y += 4
    rise = style.leading * 0.5 + 7
    top, bottom = sheet.y - rise, sheet.y - rise + style.leading * len(grid_of_words)
    is_centred = rng.random() < 0.35
    for number, words in enumerate(grid_of_words):
        fill = {"stripes": style.pale if number % 2 else "", "band": style.accent if number == 0 else ""}.get(look, "")
        if fill:
            sheet.box(edges[0], sheet.y - rise, inner, style.leading, fill=fill)
        if look == "grid" or (look == "rules" and number < 2) or (look == "stripes" and number == 1):
            sheet.rule(rise, thickness=1.0 if look == "grid" else 1.8)
        font, colour = style.bold if number == 0 else style.regular, "#ffffff" if fill == style.accent else ""
        sheet.text(edges[0] + pad, words[0], font, colour=colour)
        for left, right, word in zip(edges[1:-1], edges[2:], words[1:], strict=True):
            sheet.text((left + right) / 2 if is_centred else right - pad, word, font, colour=colour,
                       alignment="centre" if is_centred else "right")  # fmt: skip
        sheet.y += style.leading
    if look != "stripes":
        sheet.rule(rise, thickness=1.0 if look == "grid" else 1.8, colour=style.accent if look == "band" else "")
    for x in edges if look == "grid" else ():
        sheet.stroke((x, top), (x, bottom))
    return sheet.picture(bottom + edges[0], rng)


def draw_page(page: Page, rng: Random) -> UInt8Array:
    """A page of text as a picture, uint8 H x W x 3: plain, framed, or with a band for its heading."""
    style = _Style.chosen(rng, "Times", "Times", "Helvetica", "Courier", "Typewriter", leadings=(1.3, 1.8))
    look = rng.choice(("plain", "framed", "band") if page.heading else ("plain", "framed"))
    font = rng.choice((style.regular, style.regular, style.bold if page.is_list else style.regular, style.italic))
    bullet = 24.0 if page.is_list and rng.random() < 0.5 else 0.0
    alignment: Alignment = "centre" if page.is_list and not bullet and rng.random() < 0.5 else "left"
    size = _BODY_PT * rng.uniform(1.0, 1.15)
    heading_size = size * rng.uniform(1.2, 1.7)
    margin = rng.uniform(26, 40)
    inner = max(_widest(page.lines, font, size) + bullet, _width_of(page.heading or "", style.bold, heading_size))
    sheet = _Sheet(style, inner + 2 * margin, margin, y=margin + size * 0.8)
    if page.heading:
        sheet.y = margin * 0.6 + heading_size
        if look == "band":
            sheet.box(0, 0, sheet.width, sheet.y + heading_size * 0.45, fill=style.accent)
        sheet.line(page.heading, style.bold, size=heading_size, colour="#ffffff" if look == "band" else style.accent,
                   alignment=rng.choice(("left", "centre")))  # fmt: skip
        sheet.y += size * 0.8
    for number, line in enumerate(page.lines):
        if number and number == page.num_first:
            sheet.y += style.leading * 0.5
        if bullet:
            sheet.box(sheet.margin + 4, sheet.y - size * 0.5, 7, 7, fill=style.accent, radius=3.4)
            sheet.text(sheet.margin + bullet, line, font, size=size)
            sheet.y += style.leading
        else:
            sheet.line(line, font, size=size, alignment=alignment)
    height = sheet.y - style.leading + margin
    if look == "framed":
        sheet.box(9, 9, sheet.width - 18, height - 18, stroke=style.accent, thickness=2.5)
    return sheet.picture(height, rng)
