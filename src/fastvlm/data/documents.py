"""Batches of generated documents: lines of text to learn to read from, and documents of all kinds with questions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from fastvlm.batches import DenseLabels, Float32Array, TrainingBatch, UInt8Array
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.reading_places import WrittenRow, WrittenTalk, as_shown, reading_places, shown_strings
from fastvlm.data.sources import BLIND_EVERY
from fastvlm.data.synthetic.documents.degrade import degrade
from fastvlm.data.synthetic.documents.document import Kind
from fastvlm.data.synthetic.documents.drawing import Drawing, characters, render
from fastvlm.data.synthetic.documents.fonts import FontSplit, faces_of
from fastvlm.data.synthetic.documents.labels import asked, by_cell, character_map
from fastvlm.data.synthetic.documents.lines import sample_lines
from fastvlm.data.synthetic.documents.phrasings import PHRASINGS
from fastvlm.data.synthetic.documents.questions import DocumentQuestion
from fastvlm.data.synthetic.documents.samples import (
    CANVASES,
    DOCUMENTS_VERSION,
    FAMILY_WEIGHTS,
    LARGE_CANVASES,
    DocumentSample,
    document_sample,
    keeps_colors,
)
from fastvlm.data.synthetic.documents.words import WordSplit
from fastvlm.data.synthetic.outside import unrelated_question
from fastvlm.data.synthetic.unrelated import unrelated_picture
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.tiles import ENCODER_STRIDE_PX

OUTSIDE_EVERY = 5

Grids = Mapping[int, tuple[int, int]]
"""By stage of the encoder, the rows and columns of small cells in each place of its map."""


@dataclass(frozen=True, kw_only=True)
class LineBatches:
    """Canvases with lines of text, each with a question for all of it.

    canvases: (width, height) in pixels, multiples of 64, of which each step takes one; half of the steps draw a little
    less, as pictures of people have any size. grids: of the dense labels, none without. max_lines:
    on a canvas. num_characters: the fewest and the most of a line, None for any. seed: each gives pictures of its own.
    The same step gives the same batch everywhere, on the same typefaces.
    """

    collator: Collator
    num_steps: int
    batch_size: int
    canvases: Sequence[tuple[int, int]]
    grids: Grids = field(default_factory=dict)
    max_lines: int = 8
    num_characters: tuple[int, int] | None = None
    fonts: FontSplit = "train"
    words: WordSplit = "train"
    seed: int = 0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = np.random.default_rng([DOCUMENTS_VERSION, self.seed, step])
        rng = random.Random(int(generator.integers(2**62)))
        canvas = self.canvases[int(generator.integers(len(self.canvases)))]
        width_px, height_px = _trimmed(canvas, rng)
        pages = [
            sample_lines(
                rng,
                faces_of(self.fonts),
                width_px=width_px,
                height_px=height_px,
                split=self.words,
                max_lines=self.max_lines,
                num_characters=self.num_characters,
            )
            for _ in range(self.batch_size)
        ]
        pictures = degrade(np.stack([render(page.drawing) for page in pages]), generator)
        questions = [rng.choice(PHRASINGS["read"].train) for _ in pages]
        examples = [
            Example(
                sample_id=f"lines/{self.seed}/{step}/{number}",
                images=(picture,),
                conversations=((user(ImagePart(picture), question), assistant("\n".join(page.texts))),),
                dense=dense_characters(page.drawing, self.grids, self.collator.processor, generator),
            )
            for number, (page, picture, question) in enumerate(zip(pages, pictures, questions, strict=True))
        ]
        batch = self.collator(examples)
        talks = [
            WrittenTalk(question, "\n".join(page.texts), is_read=True, is_transcript=True)
            for page, question in zip(pages, questions, strict=True)
        ]
        rows = [
            WrittenRow(shown_strings(page.drawing, self.collator.processor), (talk,))
            for page, talk in zip(pages, talks, strict=True)
        ]
        return replace(batch, reading=reading_places(batch, rows, self.collator.tokenizer))


@dataclass(frozen=True, kw_only=True)
class DocumentBatches:
    """Documents of all kinds with questions, those of one step on one canvas, or a little less, as in `LineBatches`.

    questions_per_picture: each a conversation of its own about the same picture; one picture in `OUTSIDE_EVERY` is also
    asked what no document answers, and one in `BLIND_EVERY` is not shown. outside_answer, no_picture_answer: what is
    said then. first_index: number of the first document of the training split, so that the stages of a run see
    different ones. large_share: of pictures that are larger than those that are judged. unrelated_share: of documents
    in whose place a picture of nothing that is known is shown; all questions are answered by outside_answer then.
    The same step gives the same batch everywhere, on the same typefaces.
    """

    collator: Collator
    num_steps: int
    batch_size: int
    questions_per_picture: int
    outside_answer: str
    no_picture_answer: str
    grids: Grids = field(default_factory=dict)
    first_index: int = 0
    large_share: float = 0.0
    unrelated_share: float = 0.0

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        start = self.first_index + step * self.batch_size
        rng = random.Random(f"{DOCUMENTS_VERSION}/documents/{start}")
        canvases = _families_by_canvas(is_large=self.large_share > 0 and rng.random() < self.large_share)
        canvas = rng.choices(list(canvases), [sum(weights.values()) for weights in canvases.values()])[0]
        families, drawn = canvases[canvas], _trimmed(canvas, rng)
        samples = [
            document_sample(
                "train",
                start + number,
                rng.choices(list(families), list(families.values()))[0],
                drawn,
                num_questions=_CHOSEN_FROM * self.questions_per_picture,
                phrasing="train",
                is_degraded=False,
            )
            for number in range(self.batch_size)
        ]
        samples = [
            replace(sample, questions=tuple(chosen_questions(sample.questions, self.questions_per_picture, rng)))
            for sample in samples
        ]
        generator = np.random.default_rng(start)
        samples = [
            self._unrelated(sample, generator) if rng.random() < self.unrelated_share else sample for sample in samples
        ]
        pictures = degrade(
            np.stack([sample.image for sample in samples]),
            generator,
            keeps_colors=[keeps_colors(sample.document) for sample in samples],
        )
        examples = [
            self._example(start + number, sample, picture, generator)
            for number, (sample, picture) in enumerate(zip(samples, pictures, strict=True))
        ]
        batch = with_looks(self.collator(examples))
        rows = [
            _written(sample, self.collator.processor) if example.images else WrittenRow()
            for sample, example in zip(samples, examples, strict=True)
        ]
        return replace(batch, reading=reading_places(batch, rows, self.collator.tokenizer))

    def _unrelated(self, sample: DocumentSample, generator: np.random.Generator) -> DocumentSample:
        """A picture without text in the place of a document, whose questions it cannot answer."""
        height_px, width_px, _ = sample.image.shape
        return DocumentSample(
            replace(sample.document, drawing=replace(sample.document.drawing, marks=())),
            unrelated_picture(generator, width_px=width_px, height_px=height_px),
            tuple(replace(question, answer=self.outside_answer) for question in sample.questions),
        )

    def _example(
        self, index: int, sample: DocumentSample, picture: UInt8Array, generator: np.random.Generator
    ) -> Example:
        height_px, width_px, _ = picture.shape
        sample_id = f"{sample.document.kind}/{width_px}x{height_px}/train/{index}"
        # What is asked, and what is answered where the picture is shown and where it is not.
        turns = [(question.text, question.answer, self.no_picture_answer) for question in sample.questions]
        rng = random.Random(sample_id)
        if rng.random() < 1 / OUTSIDE_EVERY:
            text, _ = unrelated_question(rng, phrasing="train")
            turns.insert(rng.randrange(len(turns) + 1), (text, self.outside_answer, self.outside_answer))
        if rng.random() < 1 / BLIND_EVERY:
            blind = ((user(text), assistant(answer)) for text, _, answer in turns)
            return Example(sample_id=sample_id, images=(), conversations=tuple(blind))
        return Example(
            sample_id=sample_id,
            images=(picture,),
            conversations=tuple((user(ImagePart(picture), text), assistant(answer)) for text, answer, _ in turns),
            dense=dense_characters(sample.document.drawing, self.grids, self.collator.processor, generator),
        )


NOT_READ = frozenset(
    (
        "num_items", "num_fields", "ticked", "num_ticked", "num_rows", "num_columns", "num_bars", "num_categories",
        "num_points", "chart_kind", "higher", "trend", "num_series", "num_lines", "has_word", "arrow", "text_color",
        "sign_color", "num_words", "num_digits", "kind", "caption", "statement", "not_shown",
    )
)  # fmt: skip
"""Intents whose answers do not stand in the picture, or only by chance."""


_CHOSEN_FROM = 2
"""Times as many questions are made as are asked."""

_ASKED_LESS: Mapping[str, float] = {"not_shown": 0.4, "kind": 0.3, "caption": 0.5}
_LOOKED_UP = 2.0


def chosen_questions(questions: Sequence[DocumentQuestion], number: int, rng: random.Random) -> list[DocumentQuestion]:
    """So many of these questions, in their order; what has to be found by its name is chosen more often.

    Half of the questions that name a field or a cell have none that they could mean, as they are drawn: a model that
    cannot find anything yet does best to say so, and learns nothing from the others.
    """

    def rank(question: DocumentQuestion) -> float:
        is_looked_up = bool(question.named) and question.intent not in NOT_READ
        weight = _LOOKED_UP if is_looked_up else _ASKED_LESS.get(question.intent, 1.0)
        return -float(rng.random() ** (1 / weight))

    ranks = [rank(question) for question in questions]
    chosen = sorted(range(len(questions)), key=ranks.__getitem__)[:number]
    return [questions[index] for index in sorted(chosen)]


def _written(sample: DocumentSample, processor: ImageProcessor) -> WrittenRow:
    talks = (
        WrittenTalk(
            question.text,
            question.answer,
            question.named,
            is_read=question.intent not in NOT_READ,
            is_transcript=question.intent in ("read", "says"),
            is_missing=question.intent in ("not_shown", "statement"),
        )
        for question in sample.questions
    )
    return WrittenRow(shown_strings(sample.document.drawing, processor), tuple(talks))


@cache
def _families_by_canvas(*, is_large: bool) -> dict[tuple[int, int], dict[Kind, float]]:
    """What can be drawn on each canvas, with its share of all pictures."""
    found: dict[tuple[int, int], dict[Kind, float]] = {}
    for family, canvases in (LARGE_CANVASES if is_large else CANVASES).items():
        for canvas in canvases:
            found.setdefault(canvas, {})[family] = FAMILY_WEIGHTS[family] / len(canvases)
    return found


_TRIMMED_SHARE = 0.5


def _trimmed(canvas: tuple[int, int], rng: random.Random) -> tuple[int, int]:
    """The size to draw at: that of a canvas, or up to a cell less, as pictures of people have any size."""
    if rng.random() >= _TRIMMED_SHARE:
        return canvas
    width_px, height_px = canvas
    least = ENCODER_STRIDE_PX // 2 if height_px > ENCODER_STRIDE_PX else ENCODER_STRIDE_PX // 4
    return width_px - rng.randrange(ENCODER_STRIDE_PX), height_px - rng.randrange(least)


def dense_characters(
    drawing: Drawing, grids: Grids, processor: ImageProcessor, generator: np.random.Generator
) -> DenseLabels | None:
    """Which character stands in each small cell of a document as a processor shows it on one tile; None without grids.

    By stage 1 x rows * columns x the size of its map; which empty cells are asked for is drawn from `generator`.
    """
    if not grids:
        return None
    layout = processor.layout(drawing.width_px, drawing.height_px)
    placed = characters(drawing)
    placed = replace(placed, centers_px=as_shown(placed.centers_px, drawing, processor))
    maps = {}
    for stage, (rows, columns) in grids.items():
        stride_px = 4 << stage
        found = character_map(
            placed,
            width_px=layout.tile_width_px,
            height_px=layout.tile_height_px,
            cell_width_px=stride_px // columns,
            cell_height_px=stride_px // rows,
        )
        maps[stage] = by_cell(asked(found, generator), rows=rows, columns=columns)[None]
    nothing = np.zeros((1, 0, 0), np.float32)
    return DenseLabels(class_maps=maps, token_features=nothing, token_weights=nothing, content="characters")


COLOR_CELLS = 8
"""Across and down, the cells of a visual token whose mean colour it should know."""

NUM_COLORS = 3 * COLOR_CELLS**2
NUM_EDGES = 4

PLACE_UNIT = 4
"""Visual tokens that count as one in the distances from the edges."""


def with_looks(batch: TrainingBatch) -> TrainingBatch:
    """A batch whose visual tokens should also know what they look like and where they are: not all there is is text.

    The numbers of a token are the mean colours of its small cells, as the encoder is given them: the red ones from left
    to right and top to bottom, then the green and the blue ones. Together they matter as much as one number does. The
    last four tell how many tokens there are to its left, above it, to its right and below it.
    """
    if batch.dense is None:
        return batch
    colors = _mean_colors(batch.pixels)
    num, _, rows, _, columns, _ = colors.shape
    colors = colors.transpose(0, 2, 4, 1, 3, 5).reshape(num, rows * columns, NUM_COLORS)
    row, column = (places.ravel() for places in np.indices((rows, columns)))
    edges = np.stack((column, row, columns - 1 - column, rows - 1 - row), 1).astype(np.float32) / PLACE_UNIT
    looks: Float32Array = np.concatenate((colors, np.broadcast_to(edges, (num, *edges.shape))), 2)
    weights = np.ones_like(looks)
    weights[:, :, :NUM_COLORS] /= NUM_COLORS
    return replace(batch, dense=replace(batch.dense, token_features=looks, token_weights=weights))


_CELL_PX = ENCODER_STRIDE_PX // COLOR_CELLS


def _mean_colors(pixels: Float32Array | UInt8Array) -> Float32Array:
    """Mean colours of small cells, N x 3 x rows x 8 x columns x 8, of pixels or of levels (see TrainingBatch)."""
    if pixels.dtype != np.uint8:
        num, channels, height_px, width_px = pixels.shape
        rows, columns = height_px // ENCODER_STRIDE_PX, width_px // ENCODER_STRIDE_PX
        cells = pixels.reshape(num, channels, rows, COLOR_CELLS, _CELL_PX, columns, COLOR_CELLS, _CELL_PX)
        return np.asarray(cells.mean((4, 7)), np.float32)
    num, height_px, width_px, channels = pixels.shape
    rows, columns = height_px // ENCODER_STRIDE_PX, width_px // ENCODER_STRIDE_PX
    # Whole rows are added up first, which is quick.
    down = pixels.reshape(num, height_px // _CELL_PX, _CELL_PX, width_px * channels).sum(2, dtype=np.uint16)
    sums = down.reshape(num, rows, COLOR_CELLS, columns, COLOR_CELLS, _CELL_PX, channels).sum(5, dtype=np.uint32)
    means = sums.astype(np.float32) / np.float32(255 * _CELL_PX**2)
    return np.asarray(means.transpose(0, 5, 1, 2, 3, 4), np.float32)
