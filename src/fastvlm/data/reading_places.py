"""Where in a picture the words of a row of conversations stand: labels for teaching a decoder where to read.

A decoder that copies a number has to look, letter after letter, at the visual token that holds the next one, and has to
find the first by what a question names. Made documents know these places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastvlm.batches import Float32Array, Int64Array, ReadingPlaces, TrainingBatch
from fastvlm.data.synthetic.documents.drawing import Drawing, character_places
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer
from fastvlm.tiles import ENCODER_STRIDE_PX


@dataclass(frozen=True)
class WrittenRow:
    """What a row of a batch is about. drawing: None where nothing is shown.

    named: what its questions name of the picture. read: answers that are read off it.
    """

    drawing: Drawing | None
    named: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()


def reading_places(
    batch: TrainingBatch, rows: Sequence[WrittenRow], processor: ImageProcessor, tokenizer: Tokenizer
) -> ReadingPlaces:
    """Find the places of what the rows of a batch name and read, which is of one picture for each row."""
    found = _Found(int(batch.is_visual.sum(axis=1).max(initial=0)))
    for number, row in enumerate(rows):
        if row.drawing is not None:
            _find(found, batch, number, row, _strings(row.drawing, processor), tokenizer)
    return found.arrays()


_String = tuple[str, Int64Array]
"""A string of a drawing, and for each of its characters the number of the visual token that holds it."""


def _strings(drawing: Drawing, processor: ImageProcessor) -> list[_String]:
    layout = processor.layout(drawing.width_px, drawing.height_px)
    left_px, top_px, right_px, bottom_px = processor.place(drawing.width_px, drawing.height_px)
    scale = np.array(((right_px - left_px) / drawing.width_px, (bottom_px - top_px) / drawing.height_px))
    rows, columns = layout.tile_height_px // ENCODER_STRIDE_PX, layout.tile_width_px // ENCODER_STRIDE_PX
    strings = []
    for mark, places in zip(drawing.texts, character_places(drawing), strict=True):
        cells = ((places * scale + (left_px, top_px)) // ENCODER_STRIDE_PX).astype(np.int64)
        across, down = cells[:, 0].clip(0, columns - 1), cells[:, 1].clip(0, rows - 1)
        strings.append((mark.text, down * columns + across))
    return strings


def _find(
    found: _Found, batch: TrainingBatch, number: int, row: WrittenRow, strings: Sequence[_String], tokenizer: Tokenizer
) -> None:
    token_ids, is_visual, segments = batch.token_ids[number], batch.is_visual[number], batch.segments[number]
    num_used = int((segments >= 0).sum())
    for run in _runs(batch.supervised[number][:num_used], segments[:num_used]):
        positions = [position for position in run if not is_visual[position]]
        if not positions:
            continue
        text, ends = _text([int(token_ids[position]) for position in positions], tokenizer)
        if batch.supervised[number][positions[0]]:
            if text in row.read:
                _find_answer(found, number, positions, ends, _places_of_answer(text, strings))
            continue
        for name in sorted(row.named):
            start = text.find(name)
            tokens = [] if start < 0 else [token for own in _occurrences(name, strings) for token in own]
            if tokens:
                position = positions[int(np.searchsorted(ends, start + len(name)))]
                found.named.add(number, position, tokens)


def _text(token_ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, Int64Array]:
    """The text of tokens, and how many of its characters are complete after each."""
    pieces = [tokenizer.decode([token]) for token in token_ids]
    text = "".join(pieces)
    if _INCOMPLETE not in text:
        return text, np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    beginnings = [tokenizer.decode(token_ids[: number + 1]).rstrip(_INCOMPLETE) for number in range(len(token_ids))]
    return tokenizer.decode(token_ids), np.array([len(beginning) for beginning in beginnings], np.int64)


_INCOMPLETE = "\ufffd"


def _find_answer(
    found: _Found, number: int, positions: Sequence[int], ends: Int64Array, places: Sequence[Sequence[int]]
) -> None:
    for place, (position, end) in enumerate(zip(positions, ends, strict=True)):
        start = int(ends[place - 1]) if place else 0
        tokens = [token for character in places[start : int(end)] for token in character]
        if tokens:  # what comes next is looked for one position earlier
            found.read.add(number, position - 1, tokens)


def _runs(supervised: Sequence[bool], segments: Sequence[int]) -> Iterator[list[int]]:
    """Positions that follow each other in one segment and are all supervised, or all not."""
    run: list[int] = []
    for position, kind in enumerate(zip(supervised, segments, strict=True)):
        if run and kind != (supervised[run[0]], segments[run[0]]):
            yield run
            run = []
        run.append(position)
    if run:
        yield run


def _places_of_answer(answer: str, strings: Sequence[_String]) -> list[list[int]]:
    """For each character of an answer the visual tokens that hold it: where the whole answer stands, wherever it does;
    or else string by string in their order, as a transcript has them."""
    whole = _occurrences(answer, strings)
    if whole:
        return [[int(own[index]) for own in whole] for index in range(len(answer))]
    places: list[list[int]] = [[] for _ in answer]
    cursor = 0
    for text, tokens in strings:
        start = answer.find(text, cursor)
        if 0 <= start <= cursor + 1:  # a space or a new line lies between
            for index, token in enumerate(tokens):
                places[start + index] = [int(token)]
            cursor = start + len(text)
    return places


def _occurrences(text: str, strings: Sequence[_String]) -> list[Int64Array]:
    """The visual tokens of a text's characters, wherever it stands as whole words; alone in a string goes before."""
    alone = [tokens for own, tokens in strings if own == text]
    if alone:
        return alone
    found = []
    for own, tokens in strings:
        start = own.find(text)
        end = start + len(text)
        if start >= 0 and not own[start - 1 : start].isalnum() and not own[end : end + 1].isalnum():
            found.append(tokens[start:end])
    return found


class _Places:
    def __init__(self, num_visual: int) -> None:
        self.num_visual = num_visual
        self.places: list[tuple[int, int]] = []
        self.shares: list[Float32Array] = []

    def add(self, row: int, position: int, tokens: Sequence[int]) -> None:
        """Note that at a position of a row attention belongs to these visual tokens, each as often as it is named."""
        shares = np.zeros(1 + self.num_visual, np.float32)
        np.add.at(shares, np.array(tokens) + 1, 1 / len(tokens))
        self.places.append((row, position))
        self.shares.append(shares)

    def arrays(self) -> tuple[Int64Array, Float32Array]:
        shares = np.stack(self.shares) if self.shares else np.zeros((0, 1 + self.num_visual), np.float32)
        return np.array(self.places, np.int64).reshape(-1, 2), shares


@dataclass
class _Found:
    num_visual: int
    named: _Places = field(init=False)
    read: _Places = field(init=False)

    def __post_init__(self) -> None:
        self.named, self.read = _Places(self.num_visual), _Places(self.num_visual)

    def arrays(self) -> ReadingPlaces:
        """Everything that was found, as arrays."""
        return ReadingPlaces(*self.named.arrays(), *self.read.arrays())
