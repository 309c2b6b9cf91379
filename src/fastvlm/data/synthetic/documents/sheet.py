"""Text set in rows from top to bottom, as receipts, forms and pages are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fastvlm.data.synthetic.documents.drawing import Mark, Stroke, Text, text_width_px
from fastvlm.data.synthetic.documents.fonts import Face
from fastvlm.data.synthetic.palette import RGB

Align = Literal["left", "center", "right"]
RuleKind = Literal["solid", "double", "dashes", "none"]

ASCENT = 0.8
"""Of the em square, from a row's top to its baseline."""


class Sheet:
    """Collects marks while rows are written. Each row takes `leading` times its size.

    Nothing is refused here: what became too wide or too long is drawn again by `samples`.
    """

    def __init__(
        self, width_px: int, height_px: int, *, face: Face, size_px: int, ink: RGB, margin_px: float, leading: float
    ) -> None:
        self.width_px, self.height_px = width_px, height_px
        self.face, self.size_px, self.ink, self.margin_px, self.leading = face, size_px, ink, margin_px, leading
        self.marks: list[Mark] = []
        self.lines: list[str] = []
        self.top_px = margin_px

    @property
    def inner_px(self) -> float:
        """Between the margins."""
        return self.width_px - 2 * self.margin_px

    @property
    def rows_left(self) -> int:
        """How many rows of the usual size still fit."""
        return int((self.height_px - self.margin_px - self.top_px) // (self.leading * self.size_px))

    def width_of(self, text: str, *, scale: float = 1.0, face: Face | None = None) -> float:
        """How wide a string would be."""
        return text_width_px(text, face or self.face, round(scale * self.size_px))

    def fits(self, *texts: str, gap: float = 1.0) -> bool:
        """Whether strings have room beside each other in a row, with gaps of so many sizes between them."""
        gaps_px = gap * self.size_px * (len(texts) - 1)
        return sum(self.width_of(text) for text in texts) + gaps_px <= self.inner_px

    def row(
        self, *cells: tuple[str, Align], scale: float = 1.0, face: Face | None = None, indent_px: float = 0.0
    ) -> None:
        """Write strings at the left, in the middle and at the right of the next row."""
        size_px = round(scale * self.size_px)
        baseline_px = self.top_px + ASCENT * size_px
        for text, align in cells:
            if text:
                self.put(text, self._left_px(text, align, size_px, face, indent_px), baseline_px, size_px, face)
        self.lines.append(" ".join(text for text, _ in cells if text))
        self.top_px += self.leading * size_px

    def leaders(self, left: str, right: str) -> None:
        """Write a string at the left and one at the right of the next row, and dots between, which nobody reads."""
        baseline_px = self.top_px + ASCENT * self.size_px
        left_px, right_px = self.width_of(left), self.width_of(right)
        room_px = self.inner_px - left_px - right_px - self.size_px
        dots = "." * int(room_px // max(1.0, self.width_of(".")))
        if dots:
            self.put(dots, self.margin_px + left_px + self.size_px / 2, baseline_px, self.size_px)
        self.row((left, "left"), (right, "right"))

    def columns(self, texts: Sequence[str], edges_px: Sequence[float], aligns: Sequence[Align]) -> None:
        """Write strings at edges: their left ends, their middles or their right ends."""
        baseline_px = self.top_px + ASCENT * self.size_px
        for text, edge_px, align in zip(texts, edges_px, aligns, strict=True):
            share = {"left": 0.0, "center": 0.5, "right": 1.0}[align]
            self.put(text, edge_px - share * self.width_of(text), baseline_px, self.size_px, None)
        self.lines.append(" ".join(text for text in texts if text))
        self.top_px += self.leading * self.size_px

    def put(self, text: str, x_px: float, baseline_px: float, size_px: int, face: Face | None = None) -> None:
        """Write a string anywhere."""
        self.marks.append(Text(text, face or self.face, size_px, x_px, baseline_px, self.ink))

    def space(self, rows: float = 0.5) -> None:
        """Leave some room."""
        self.top_px += rows * self.leading * self.size_px

    def rule(self, kind: RuleKind = "solid") -> None:
        """Draw a line across the sheet."""
        if kind == "none":
            return
        left_px, right_px, y_px = self.margin_px, self.width_px - self.margin_px, self.top_px + 2
        if kind == "dashes":
            dash_px = max(3, self.size_px // 3)
            for number in range(int((right_px - left_px) // (2 * dash_px))):
                start_px = left_px + 2 * number * dash_px
                self.marks.append(Stroke(((start_px, y_px), (start_px + dash_px, y_px)), self.ink, 1))
        else:
            self.marks.append(Stroke(((left_px, y_px), (right_px, y_px)), self.ink, 1))
        if kind == "double":
            self.marks.append(Stroke(((left_px, y_px + 3), (right_px, y_px + 3)), self.ink, 1))
        self.top_px += 7 if kind == "double" else 5

    def _left_px(self, text: str, align: Align, size_px: int, face: Face | None, indent_px: float) -> float:
        if align == "left":
            return self.margin_px + indent_px
        text_px = text_width_px(text, face or self.face, size_px)
        if align == "right":
            return self.width_px - self.margin_px - text_px
        return (self.width_px - text_px) / 2
