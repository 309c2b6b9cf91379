"""Batches of text on plain paper with what stands in every cell of it: what an encoder learns to read from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastvlm.batches import DenseLabels, TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.synthetic.documents.degrade import degrade
from fastvlm.data.synthetic.documents.drawing import PlacedCharacters, characters, render
from fastvlm.data.synthetic.documents.fonts import FontSplit, faces_of
from fastvlm.data.synthetic.documents.labels import by_cell, character_map
from fastvlm.data.synthetic.documents.lines import Lines, sample_lines
from fastvlm.data.synthetic.documents.words import WordSplit
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.tiles import ENCODER_STRIDE_PX

READING_VERSION = 1
"""Raised whenever the same step would give other pictures or texts."""

READ_ALL = ("Read the text.", "What does it say?", "Transcribe the text.", "What is written here?", "Read this.")
"""Questions for everything that is written, line by line."""

Grids = Mapping[int, tuple[int, int]]
"""By stage of the encoder, the rows and columns of small cells in each place of its map."""


@dataclass(frozen=True, kw_only=True)
class LineBatches:
    """Canvases with lines of text, each with a question for all of it.

    canvases: (width, height) in pixels, multiples of 64, of which each step takes one. is_single: one line, however
    large the canvas. seed: other streams of pictures. grids: of the dense labels.
    The same step gives the same batch everywhere.
    """

    collator: Collator
    num_steps: int
    batch_size: int
    canvases: Sequence[tuple[int, int]]
    grids: Grids = field(default_factory=dict)
    is_single: bool = False
    fonts: FontSplit = "train"
    words: WordSplit = "train"
    seed: int = 0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = np.random.default_rng([READING_VERSION, self.seed, step])
        rng = random.Random(int(generator.integers(2**62)))
        width_px, height_px = self.canvases[int(generator.integers(len(self.canvases)))]
        faces = faces_of(self.fonts)
        pages = [
            sample_lines(
                rng, faces, width_px=width_px, height_px=height_px, split=self.words,
                max_lines=1 if self.is_single else 8,
            )
            for _ in range(self.batch_size)
        ]  # fmt: skip
        pictures = degrade(np.stack([render(page.drawing) for page in pages]), generator)
        examples = [
            Example(
                sample_id=f"lines/{self.seed}/{step}/{number}",
                images=(picture,),
                conversations=((user(ImagePart(picture), rng.choice(READ_ALL)), assistant("\n".join(page.texts))),),
                dense=self._labels(page) if self.grids else None,
            )
            for number, (page, picture) in enumerate(zip(pages, pictures, strict=True))
        ]
        return self._collator(width_px, height_px)(examples)

    def _collator(self, width_px: int, height_px: int) -> Collator:
        """The collator that leaves pictures of this size as they are."""
        config = replace(self.collator.processor.config, max_visual_tokens=num_cells(width_px, height_px))
        return replace(self.collator, processor=ImageProcessor(config))

    def _labels(self, page: Lines) -> DenseLabels:
        drawing = page.drawing
        return dense_characters(characters(drawing), self.grids, width_px=drawing.width_px, height_px=drawing.height_px)


def num_cells(width_px: int, height_px: int) -> int:
    """Visual tokens of a canvas whose sides are multiples of a cell's."""
    return width_px * height_px // ENCODER_STRIDE_PX**2


def dense_characters(placed: PlacedCharacters, grids: Grids, *, width_px: int, height_px: int) -> DenseLabels:
    """The dense labels of one picture: for each stage, N = 1 x rows * columns x the size of its map."""
    maps = {}
    for stage, (rows, columns) in grids.items():
        stride_px = 4 << stage
        found = character_map(
            placed,
            width_px=width_px,
            height_px=height_px,
            cell_width_px=stride_px // columns,
            cell_height_px=stride_px // rows,
        )
        maps[stage] = by_cell(found, rows=rows, columns=columns)[None]
    nothing = np.zeros((1, 0, 0), np.float32)
    return DenseLabels(class_maps=maps, token_features=nothing, token_weights=nothing)
