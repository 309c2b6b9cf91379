"""What every encoder of the miniature learns to see first: sheets full of digits and coloured squares, cell by cell.

It stands in for pretraining on pictures of the world, which gives the paper's encoders what they know of letters and
colours. A card has too little on it to learn that from, and the words of a decoder tell an encoder even less.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import Int64Array, TrainingBatch
from fastvlm.data.collate import batch_of
from fastvlm.data.synthetic.documents.colors import grey
from fastvlm.data.synthetic.documents.drawing import Drawing, Mark, Rectangle, Text, render, text_width_px
from fastvlm.data.synthetic.documents.fonts import Face, faces_of
from fastvlm.data.synthetic.palette import RGB, sample_rgb
from fastvlm.recipes.miniature.cards import KEYS, Square, cell_labels, dense_of, pixels_of, things

SHEET_PX = 128
SHEET_SEED = 3

_SMALLEST_EM_PX, _LARGEST_EM_PX = 9, 30
_SQUARE_SHARE = 0.3


@dataclass(frozen=True)
class Sheet:
    """squares: of the drawing."""

    squares: tuple[Square, ...]
    drawing: Drawing


def sample_sheet(rng: random.Random) -> Sheet:
    """Draw rows of numbers and squares, each row of one size."""
    paper, ink = grey(rng.randint(215, 255)), grey(rng.randint(0, 80))
    marks: list[Mark] = []
    squares: list[Square] = []
    bottom_px = rng.uniform(0, 6)
    while True:
        em_px = round(_SMALLEST_EM_PX * (_LARGEST_EM_PX / _SMALLEST_EM_PX) ** rng.random())
        face = rng.choice(faces_of("train", ("sans",)))
        bottom_px += em_px * rng.uniform(1.0, 1.3)
        if bottom_px + 0.1 * em_px > SHEET_PX:
            return Sheet(tuple(squares), Drawing(SHEET_PX, SHEET_PX, paper, tuple(marks)))
        row_marks, row_squares = _sample_row(rng, face, em_px, bottom_px, ink)
        marks += row_marks
        squares += row_squares


def _sample_row(
    rng: random.Random, face: Face, em_px: int, bottom_px: float, ink: RGB
) -> tuple[list[Mark], list[Square]]:
    """Numbers and squares from the left edge to the right one; the squares once more by their colours."""
    marks: list[Mark] = []
    squares: list[Square] = []
    left_px, side_px = rng.uniform(1, 8), 0.75 * em_px
    while True:
        is_square = rng.random() < _SQUARE_SHARE
        text = str(rng.randint(0, 999))
        width_px = side_px if is_square else text_width_px(text, face, em_px)
        if left_px + width_px > SHEET_PX - 1:
            return marks, squares
        if is_square:
            color, top_px = rng.choice(KEYS), bottom_px - side_px
            fill = sample_rgb(rng, color=color)
            marks.append(Rectangle(left_px, top_px, left_px + side_px, bottom_px, fill=fill))
            squares.append(Square(color, (left_px + side_px / 2, top_px + side_px / 2)))
        else:
            marks.append(Text(text, face, em_px, left_px, bottom_px, ink))
        left_px += width_px + em_px * rng.uniform(0.25, 0.7)


@dataclass(frozen=True, kw_only=True)
class SheetBatches:
    """Sheets with what is in their cells. mapped: by the number of a map, the pixels of one of its places.

    The same step gives the same sheets for every encoder.
    """

    mapped: Mapping[int, int]
    num_steps: int
    batch_size: int
    run_seed: int = 0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = np.random.default_rng([SHEET_SEED, self.run_seed, step])
        pictures = []
        labels: dict[int, list[Int64Array]] = {number: [] for number in self.mapped}
        for number in range(self.batch_size):
            sheet = sample_sheet(random.Random(f"sheets/{self.run_seed}/{step}/{number}"))
            pictures.append(render(sheet.drawing))
            placed = things(sheet.drawing, sheet.squares)
            for index, cells in cell_labels(placed, SHEET_PX, self.mapped, generator).items():
                labels[index].append(cells)
        sample_ids = [f"sheet/{step}/{number}" for number in range(self.batch_size)]
        return batch_of([], sample_ids=sample_ids, pixels=pixels_of(pictures), dense=dense_of(labels))
