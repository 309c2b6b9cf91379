"""The miniature's only task: cards with eight letters, each with a number beside it, and questions for the numbers.

Whoever answers has to find a place by what is written there and to read beside it. Everything on a card grows with its
resolution, as with a page that is scanned more finely.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastvlm.batches import CaptionBatch, DenseLabels, Float32Array, Int64Array, TrainingBatch, UInt8Array
from fastvlm.data.collate import Collator, batch_of, pack
from fastvlm.data.synthetic.documents.colors import paper_and_ink
from fastvlm.data.synthetic.documents.drawing import Drawing, PlacedCharacters, Text, characters, render
from fastvlm.data.synthetic.documents.fonts import faces_of
from fastvlm.data.synthetic.documents.labels import asked, by_cell, character_map
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.processing.captions import caption_tokens
from fastvlm.processing.tokenizer import Tokenizer

ROWS, COLUMNS = 4, 2
LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"
"""Without those that look like digits."""

CARDS_VERSION = 1
"""Raised whenever the same seeds would give other cards."""

TRAIN_SEED, TEST_SEED, PRETRAINING_SEED = 0, 1, 2

CELL_PX = (4, 8)
"""Width and height of the cells whose character each map should know."""


@dataclass(frozen=True)
class Card:
    """entries: letters with their numbers, row by row."""

    entries: tuple[tuple[str, str], ...]
    drawing: Drawing


def sample_card(rng: random.Random, size_px: int) -> Card:
    """Draw a card of so many pixels on a side; the same random numbers give the same card at every size."""
    paper, ink = paper_and_ink(rng, colored_share=0.1)
    face = rng.choice(faces_of("train", ("sans",)))
    letters = rng.sample(LETTERS, ROWS * COLUMNS)
    em = rng.uniform(0.075, 0.095)
    # All of it is moved, so that words lie across the middle, where tiles meet, as often as they do on pages.
    across, below = rng.uniform(0.0, 0.15), rng.uniform(-0.06, 0.1)
    marks, entries = [], []
    for number, letter in enumerate(letters):
        row, column = divmod(number, COLUMNS)
        value = str(rng.randint(10, 99))
        left = across + 0.42 * column + rng.uniform(0.02, 0.12)
        baseline = 0.2 + 0.2 * row + below + rng.uniform(-0.02, 0.02)
        marks.append(Text(f"{letter} {value}", face, round(em * size_px), left * size_px, baseline * size_px, ink))
        entries.append((letter, value))
    return Card(tuple(entries), Drawing(size_px, size_px, paper, tuple(marks)))


def tiles_of(picture: UInt8Array, tile_px: int) -> list[UInt8Array]:
    """An overview and the tiles of a square picture, row by row, all of one size (AnyRes)."""
    overview = np.asarray(Image.fromarray(picture).resize((tile_px, tile_px), Image.Resampling.BICUBIC))
    starts = range(0, picture.shape[0], tile_px)
    return [overview, *(picture[top : top + tile_px, left : left + tile_px] for top in starts for left in starts)]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a card is shown to an encoder. tile_px: of the tiles that a larger card is cut into, None for one picture.

    stride_px: of a visual token. mapped: by the number of a map, the pixels that one of its places stands for.
    """

    size_px: int
    stride_px: int
    mapped: Mapping[int, int]
    tile_px: int | None = None

    @property
    def num_tokens(self) -> int:
        """Visual tokens of a card."""
        if self.tile_px is None:
            return (self.size_px // self.stride_px) ** 2
        return ((self.size_px // self.tile_px) ** 2 + 1) * (self.tile_px // self.stride_px) ** 2

    @property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of cells in a place of each map."""
        return {number: (stride // CELL_PX[1], stride // CELL_PX[0]) for number, stride in self.mapped.items()}

    def pictures(self, card: Card) -> list[UInt8Array]:
        """What the encoder is shown of a card."""
        picture = render(card.drawing)
        return [picture] if self.tile_px is None else tiles_of(picture, self.tile_px)

    def labels(self, card: Card, generator: np.random.Generator) -> dict[int, list[Int64Array]]:
        """The characters in the cells of every map of every picture, by the number of the map."""
        placed = characters(card.drawing)
        shown = [(0.0, 0.0, 1.0)]
        side_px = self.size_px
        if self.tile_px is not None:
            side_px = self.tile_px
            starts = range(0, self.size_px, side_px)
            shown = [(0.0, 0.0, side_px / self.size_px)]
            shown += [(float(left), float(top), 1.0) for top in starts for left in starts]
        found: dict[int, list[Int64Array]] = {number: [] for number in self.mapped}
        for left_px, top_px, scale in shown:
            own = PlacedCharacters(
                placed.classes, (placed.centers_px - np.array((left_px, top_px), np.float32)) * np.float32(scale)
            )
            cells = character_map(
                own, width_px=side_px, height_px=side_px, cell_width_px=CELL_PX[0], cell_height_px=CELL_PX[1]
            )
            wanted = asked(cells, generator)
            for number, (rows, columns) in self.grids.items():
                found[number].append(by_cell(wanted, rows=rows, columns=columns))
        return found


@dataclass(frozen=True, kw_only=True)
class CardBatches:
    """Cards with questions. questions: for each card. num_tokens: visual tokens that the decoder is given of a card.

    The same step gives the same cards and questions for every geometry.
    """

    collator: Collator
    geometry: Geometry
    num_tokens: int
    num_steps: int
    batch_size: int
    questions: int
    seed: int
    run_seed: int = 0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = np.random.default_rng([self.seed, self.run_seed, step])
        pictures: list[UInt8Array] = []
        labels: dict[int, list[Int64Array]] = {number: [] for number in self.geometry.mapped}
        rows = []
        for rng in _streams(self.seed, self.run_seed, step, self.batch_size):
            card = sample_card(rng, self.geometry.size_px)
            own = self.geometry.pictures(card)
            pictures += own
            for number, maps in self.geometry.labels(card, generator).items():
                labels[number] += maps
            chosen = rng.sample(card.entries, self.questions)
            prompts = [
                self.collator.prompt(
                    (user(ImagePart(own[0]), f"{letter}?"), assistant(value)),
                    sample_id=f"card/{self.seed}/{step}",
                    visual_token_counts=[self.num_tokens],
                )
                for letter, value in chosen
            ]
            rows.append(pack(prompts))
        nothing = np.zeros((len(pictures), 0, 0), np.float32)
        dense = DenseLabels({number: np.stack(maps) for number, maps in labels.items()}, nothing, nothing, "characters")
        sample_ids = [f"card/{self.seed}/{step}/{number}" for number in range(self.batch_size)]
        return batch_of(rows, sample_ids=sample_ids, pixels=_pixels(pictures), dense=dense)


@dataclass(frozen=True, kw_only=True)
class CaptionedCards:
    """Cards with all that they say as their caption, for contrastive pretraining."""

    tokenizer: Tokenizer
    size_px: int
    num_steps: int
    batch_size: int
    run_seed: int = 0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> CaptionBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        cards = [
            sample_card(rng, self.size_px) for rng in _streams(PRETRAINING_SEED, self.run_seed, step, self.batch_size)
        ]
        captions = [" ".join(f"{letter} {value}" for letter, value in card.entries) for card in cards]
        return CaptionBatch(
            pixels=_pixels([render(card.drawing) for card in cards]),
            token_ids=np.stack([caption_tokens(one, self.tokenizer, context_length=CONTEXT) for one in captions])[
                :, None
            ],
            sample_ids=tuple(f"card/{PRETRAINING_SEED}/{step}/{number}" for number in range(self.batch_size)),
        )


CONTEXT = 48
"""Tokens of a caption at most."""


def _streams(seed: int, run_seed: int, step: int, num: int) -> list[random.Random]:
    return [random.Random(f"cards/{seed}/{run_seed}/{step}/{number}") for number in range(num)]


def _pixels(pictures: Sequence[UInt8Array]) -> Float32Array:
    stacked = np.stack(pictures).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(stacked, dtype=np.float32) / np.float32(255)
