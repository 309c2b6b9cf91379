"""The miniature's only task: cards with eight coloured squares, each with a number beside it, and questions for those.

Whoever answers has to find a place by what it looks like and to read beside it. Everything on a card grows with its
resolution, as with a page that is scanned more finely.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from fastvlm.batches import CaptionBatch, DenseLabels, Float32Array, Int64Array, TrainingBatch, UInt8Array
from fastvlm.data.collate import Collator, batch_of, pack
from fastvlm.data.reading_places import (
    WrittenRow,
    WrittenString,
    WrittenTalk,
    reading_places,
    spots_of,
)
from fastvlm.data.synthetic.documents.colors import grey
from fastvlm.data.synthetic.documents.drawing import (
    NUM_CHARACTER_CLASSES,
    Drawing,
    Mark,
    PlacedCharacters,
    Rectangle,
    Text,
    character_places,
    characters,
    render,
)
from fastvlm.data.synthetic.documents.fonts import faces_of
from fastvlm.data.synthetic.documents.labels import asked, by_cell, character_map
from fastvlm.data.synthetic.palette import COLORS, sample_rgb
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.processing.captions import caption_tokens
from fastvlm.processing.tokenizer import Tokenizer

ROWS, COLUMNS = 4, 2
KEYS = tuple(color for color in COLORS if color != "white")
"""Colours of the squares; white would not be seen on paper."""

CARDS_VERSION = 2
"""Raised whenever the same seeds would give other cards."""

TRAIN_SEED, TEST_SEED, PRETRAINING_SEED = 0, 1, 2

CELL_PX = (4, 16)
"""Width and height of the cells whose digit or square each map should know; no higher than a place of the map."""

NUM_CLASSES = NUM_CHARACTER_CLASSES + len(KEYS)
"""Of cells: those of characters, and the squares of each colour."""


@dataclass(frozen=True)
class Square:
    """color: by its name. middle_px: across and down."""

    color: str
    middle_px: tuple[float, float]


@dataclass(frozen=True)
class Card:
    """entries: colours with their numbers, row by row. squares: of the drawing, in the same order."""

    entries: tuple[tuple[str, str], ...]
    squares: tuple[Square, ...]
    drawing: Drawing


def things(drawing: Drawing, squares: Sequence[Square]) -> PlacedCharacters:
    """The digits of a drawing and its squares, as classes of cells."""
    placed = characters(drawing)
    colors = tuple(NUM_CHARACTER_CLASSES + KEYS.index(square.color) for square in squares)
    middles = np.array([square.middle_px for square in squares], np.float32).reshape(-1, 2)
    return PlacedCharacters((*placed.classes, *colors), np.concatenate((placed.centers_px, middles)))


def sample_card(rng: random.Random, size_px: int) -> Card:
    """Draw a card of so many pixels on a side; the same random numbers give the same card at every size."""
    paper, ink = grey(rng.randint(215, 255)), grey(rng.randint(0, 80))
    face = rng.choice(faces_of("train", ("sans",)))
    em = rng.uniform(0.075, 0.095)
    # All of it is moved, so that entries lie across the middle, where tiles meet, as often as they do on pages.
    across, below = rng.uniform(0.0, 0.3), rng.uniform(-0.06, 0.1)
    marks: list[Mark] = []
    entries, squares = [], []
    for number, color in enumerate(rng.sample(KEYS, ROWS * COLUMNS)):
        row, column = divmod(number, COLUMNS)
        value = str(rng.randint(10, 99))
        left = across + 0.36 * column + rng.uniform(0.02, 0.12)
        baseline = 0.2 + 0.2 * row + below + rng.uniform(-0.02, 0.02)
        top, right, bottom = baseline - 0.75 * em, left + 0.75 * em, baseline
        sides_px = (left * size_px, top * size_px, right * size_px, bottom * size_px)
        drawn = Rectangle(*sides_px, fill=sample_rgb(rng, color=color))
        text = Text(value, face, round(em * size_px), (right + 0.3 * em) * size_px, baseline * size_px, ink)
        marks += [drawn, text]
        entries.append((color, value))
        squares.append(Square(color, ((left + right) / 2 * size_px, (top + bottom) / 2 * size_px)))
    return Card(tuple(entries), tuple(squares), Drawing(size_px, size_px, paper, tuple(marks)))


def cell_labels(
    placed: PlacedCharacters, side_px: int, mapped: Mapping[int, int], generator: np.random.Generator
) -> dict[int, Int64Array]:
    """What is in the cells of each map of a square picture, K x rows x columns, by the number of the map.

    mapped: by the number of a map, the pixels that one of its places stands for.
    """
    found: dict[int, Int64Array] = {}
    width_px, height_px = CELL_PX
    for number, stride_px in mapped.items():
        lower_px = min(height_px, stride_px)
        cells = character_map(
            placed, width_px=side_px, height_px=side_px, cell_width_px=width_px, cell_height_px=lower_px
        )
        wanted = asked(cells, generator)
        found[number] = by_cell(wanted, rows=stride_px // lower_px, columns=stride_px // width_px)
    return found


def dense_of(labels: Mapping[int, Sequence[Int64Array]]) -> DenseLabels:
    """What is in the cells of several pictures, by the number of the map; nothing else is known of their tokens."""
    maps = {number: np.stack(own) for number, own in labels.items()}
    nothing = np.zeros((len(next(iter(maps.values()))), 0, 0), np.float32)
    return DenseLabels(maps, nothing, nothing, "characters")


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
        width_px, height_px = CELL_PX
        return {number: (max(1, stride // height_px), stride // width_px) for number, stride in self.mapped.items()}

    def strings(self, card: Card) -> list[WrittenString]:
        """Colours and numbers of a card, with where each is shown, of tiles on the one that is finer."""
        squares = [
            (square.color, np.tile(np.array(square.middle_px, np.float32), (len(square.color), 1)))
            for square in card.squares
        ]
        numbers = zip((mark.text for mark in card.drawing.texts), character_places(card.drawing), strict=True)
        return [
            WrittenString(text, self._spots_of(places.astype(np.int64).clip(0, self.size_px - 1)), places.mean(0))
            for text, places in (*squares, *numbers)
        ]

    def _spots_of(self, places_px: Int64Array) -> Int64Array:
        """Visual tokens of places on a card and where in them these are, as `spots_of`; of tiles the finer ones."""
        side_px = self.size_px if self.tile_px is None else self.tile_px
        across = side_px // self.stride_px
        spots = spots_of(places_px % side_px, columns=across, stride_px=self.stride_px)
        if self.tile_px is not None:
            tile = places_px[:, 1] // side_px * (self.size_px // side_px) + places_px[:, 0] // side_px
            spots[:, 0] += (1 + tile) * across**2  # the overview comes first
        return spots

    def pictures(self, card: Card) -> list[UInt8Array]:
        """What the encoder is shown of a card."""
        picture = render(card.drawing)
        return [picture] if self.tile_px is None else tiles_of(picture, self.tile_px)

    def labels(self, card: Card, generator: np.random.Generator) -> dict[int, list[Int64Array]]:
        """The digits and squares in the cells of every map of every picture, by the number of the map."""
        placed = things(card.drawing, card.squares)
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
            for number, cells in cell_labels(own, side_px, self.mapped, generator).items():
                found[number].append(cells)
        return found


@dataclass(frozen=True, kw_only=True)
class CardBatches:
    """Cards with questions. questions: for each card. num_tokens: visual tokens that the decoder is given of a card.

    Unless some were pruned it is known where what is named and what is read stands.
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
        rows, written = [], []
        for rng in _streams(self.seed, self.run_seed, step, self.batch_size):
            card = sample_card(rng, self.geometry.size_px)
            own = self.geometry.pictures(card)
            pictures += own
            for number, maps in self.geometry.labels(card, generator).items():
                labels[number] += maps
            chosen = rng.sample(card.entries, self.questions)
            prompts = [
                self.collator.prompt(
                    (user(ImagePart(own[0]), f"{color}?"), assistant(value)),
                    sample_id=f"card/{self.seed}/{step}",
                    visual_token_counts=[self.num_tokens],
                )
                for color, value in chosen
            ]
            rows.append(pack(prompts))
            talks = tuple(WrittenTalk(f"{color}?", value, (color,), is_read=True) for color, value in chosen)
            written.append(WrittenRow(self.geometry.strings(card), talks))
        sample_ids = [f"card/{self.seed}/{step}/{number}" for number in range(self.batch_size)]
        batch = batch_of(rows, sample_ids=sample_ids, pixels=pixels_of(pictures), dense=dense_of(labels))
        if self.num_tokens != self.geometry.num_tokens:
            return batch
        return replace(batch, reading=reading_places(batch, written, self.collator.tokenizer))


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
        captions = [" ".join(f"{color} {value}" for color, value in card.entries) for card in cards]
        return CaptionBatch(
            pixels=pixels_of([render(card.drawing) for card in cards]),
            token_ids=np.stack([caption_tokens(one, self.tokenizer, context_length=CONTEXT) for one in captions])[
                :, None
            ],
            sample_ids=tuple(f"card/{PRETRAINING_SEED}/{step}/{number}" for number in range(self.batch_size)),
        )


CONTEXT = 48
"""Tokens of a caption at most."""


def _streams(seed: int, run_seed: int, step: int, num: int) -> list[random.Random]:
    return [random.Random(f"cards/{seed}/{run_seed}/{step}/{number}") for number in range(num)]


def pixels_of(pictures: Sequence[UInt8Array]) -> Float32Array:
    """Pictures of one size as an encoder is given them, N x 3 x H x W between 0 and 1."""
    stacked = np.stack(pictures).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(stacked, dtype=np.float32) / np.float32(255)
