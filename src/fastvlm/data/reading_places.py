"""Where in a picture the words of a row of conversations stand: labels for teaching a decoder where to read.

A decoder that copies a number has to look, letter after letter, at the visual token that holds the next one, and has to
find the first by what a question names. Made documents know these places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastvlm.batches import Float32Array, Int64Array, ReadingPlaces, TrainingBatch
from fastvlm.data.synthetic.documents.drawing import Drawing, character_places
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer
from fastvlm.tiles import ENCODER_STRIDE_PX


@dataclass(frozen=True)
class WrittenTalk:
    """A question about a document with its answer. named: what it names of what is written there.

    is_read: the answer stands there, and not by chance. is_transcript: in several strings, one after the other.
    is_missing: of what is named, what cannot be found is not there.
    """

    question: str
    answer: str
    named: tuple[str, ...] = ()
    is_read: bool = False
    is_transcript: bool = False
    is_missing: bool = False


@dataclass(frozen=True)
class WrittenString:
    """A string of a drawing. spots: for each character the number of the visual token that holds it, and where in it
    across and down, N x 3. center: across and down, in pixels of the drawing."""

    text: str
    spots: Int64Array
    center: Float32Array


@dataclass(frozen=True)
class WrittenRow:
    """What a row of a batch is about. strings: of what is shown; none where nothing is."""

    strings: Sequence[WrittenString] = ()
    talks: tuple[WrittenTalk, ...] = ()


def reading_places(batch: TrainingBatch, rows: Sequence[WrittenRow], tokenizer: Tokenizer) -> ReadingPlaces:
    """Find the places of what the rows of a batch name and read, which is of one picture for each row."""
    found = _Found(int(batch.is_visual.sum(axis=1).max(initial=0)))
    for number, row in enumerate(rows):
        if row.strings:
            _find(found, batch, number, row.talks, row.strings, tokenizer)
    return found.arrays()


def as_shown(places_px: Float32Array, drawing: Drawing, processor: ImageProcessor) -> Float32Array:
    """Where places of a drawing, N x 2 across and down, are on the tile that a processor shows it on."""
    left_px, top_px, right_px, bottom_px = processor.place(drawing.width_px, drawing.height_px)
    scale = np.array(((right_px - left_px) / drawing.width_px, (bottom_px - top_px) / drawing.height_px), np.float32)
    shown: Float32Array = places_px * scale + np.array((left_px, top_px), np.float32)
    return shown


PLACES_ACROSS, PLACES_DOWN = 16, 4
"""Where in a visual token a letter stands, told by so many columns and rows: as finely as encoders learn to read."""


def spots_of(places_px: Int64Array, *, columns: int, stride_px: int = ENCODER_STRIDE_PX) -> Int64Array:
    """The visual tokens that show places of a picture, N x 2 across and down, and where in these they are, N x 3.

    columns: visual tokens in a row of the picture. stride_px: of a visual token.
    """
    cells, within = places_px // stride_px, places_px % stride_px
    spots = within * np.array((PLACES_ACROSS, PLACES_DOWN)) // stride_px
    return np.column_stack((cells[:, 1] * columns + cells[:, 0], spots))


def shown_strings(drawing: Drawing, processor: ImageProcessor) -> list[WrittenString]:
    """The strings of a drawing that a processor shows on one tile."""
    layout = processor.layout(drawing.width_px, drawing.height_px)
    rows, columns = layout.tile_height_px // ENCODER_STRIDE_PX, layout.tile_width_px // ENCODER_STRIDE_PX
    strings = []
    for mark, places in zip(drawing.texts, character_places(drawing), strict=True):
        if not mark.text:
            continue
        last_px = np.array((columns, rows)) * ENCODER_STRIDE_PX - 1
        shown_px = as_shown(places, drawing, processor).astype(np.int64).clip(0, last_px)
        strings.append(WrittenString(mark.text, spots_of(shown_px, columns=columns), places.mean(0)))
    return strings


def _find(
    found: _Found,
    batch: TrainingBatch,
    number: int,
    talks: Sequence[WrittenTalk],
    strings: Sequence[WrittenString],
    tokenizer: Tokenizer,
) -> None:
    token_ids, is_visual, segments = batch.token_ids[number], batch.is_visual[number], batch.segments[number]
    num_used = int((segments >= 0).sum())
    by_question = {talk.question.strip(): talk for talk in talks}
    talk: WrittenTalk | None = None
    names: list[int] = []
    for run in _runs(batch.supervised[number][:num_used], segments[:num_used]):
        positions = [position for position in run if not is_visual[position]]
        if not positions:
            continue
        text, ends = _text([int(token_ids[position]) for position in positions], tokenizer)
        if not batch.supervised[number][positions[0]]:
            talk = by_question.get(text.strip())
            names = [] if talk is None else _find_names(found, number, talk, text, (positions, ends), strings)
        elif talk is not None and text == talk.answer:
            # What comes next is looked for one position earlier.
            asking = positions if talk.is_read else positions[:1]
            found.asked += [(number, position - 1, names[0], names[-1]) for position in asking if names]
            if talk.is_read:
                _find_answer(found, number, talk, (positions, ends), strings)


_Tokens = tuple[Sequence[int], Int64Array]
"""The positions of the tokens of a text, and how many of its characters are complete after each."""


def _find_names(
    found: _Found, number: int, talk: WrittenTalk, text: str, tokens: _Tokens, strings: Sequence[WrittenString]
) -> list[int]:
    """Note where what a question names is written; returns the positions where it has named each."""
    positions, ends = tokens
    names: list[int] = []
    for name in talk.named:
        stands = _whole_word(name, text)
        written = [int(token) for _, spots in _occurrences(name, strings) for token in spots[:, 0]]
        if stands is not None and (written or talk.is_missing):
            names.append(positions[int(np.searchsorted(ends, stands + len(name)))])
            found.named.add(number, names[-1], written)
    return names


def _find_answer(
    found: _Found, number: int, talk: WrittenTalk, tokens: _Tokens, strings: Sequence[WrittenString]
) -> None:
    """Note where each token of an answer is read."""
    places = _places_of_answer(talk, strings)
    for index, (position, end) in enumerate(zip(*tokens, strict=True)):
        start = int(tokens[1][index - 1]) if index else 0
        spots = [spot for character in places[start : int(end)] for spot in character]
        if spots:
            found.read.add(number, position - 1, [token for token, _, _ in spots])
            found.spots.append(_only_spot(places[start]))
            found.is_first.append(index == 0 and not talk.is_transcript)


def _text(token_ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, Int64Array]:
    """The text of tokens, and how many of its characters are complete after each."""
    pieces = [tokenizer.decode([token]) for token in token_ids]
    text = "".join(pieces)
    if _INCOMPLETE not in text:
        return text, np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    beginnings = [tokenizer.decode(token_ids[: number + 1]).rstrip(_INCOMPLETE) for number in range(len(token_ids))]
    return tokenizer.decode(token_ids), np.array([len(beginning) for beginning in beginnings], np.int64)


_INCOMPLETE = "\ufffd"


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


_Spot = tuple[int, int, int]


def _spot(numbers: Int64Array) -> _Spot:
    token, across, down = (int(number) for number in numbers)
    return token, across, down


def _only_spot(spots: Sequence[_Spot]) -> tuple[int, int]:
    """Where in its visual token a character stands, -1 where it stands nowhere or in several places."""
    return spots[0][1:] if len(spots) == 1 else (-1, -1)


def _places_of_answer(talk: WrittenTalk, strings: Sequence[WrittenString]) -> list[list[_Spot]]:
    """For each character of an answer the visual tokens that hold it, and where in them it stands.

    Of several places those count that stand in line with what the question names, beside it or below it.
    """
    whole = _occurrences(talk.answer, strings)
    if whole:
        named = [string.center for name in talk.named for string, _ in _occurrences(name, strings)[:1]]
        distances = [sum(float(np.abs(string.center - other).min()) for other in named) for string, _ in whole]
        nearest = [
            spots.tolist()
            for (_, spots), distance in zip(whole, distances, strict=True)
            if distance <= min(distances) + 1
        ]
        return [[tuple(spots[index]) for spots in nearest] for index in range(len(talk.answer))]
    places: list[list[_Spot]] = [[] for _ in talk.answer]
    cursor = 0
    for string in strings if talk.is_transcript else ():
        start = talk.answer.find(string.text, cursor)
        if 0 <= start <= cursor + 1:  # a space or a new line lies between
            for index, spot in enumerate(string.spots):
                places[start + index] = [_spot(spot)]
            cursor = start + len(string.text)
    return places


def _occurrences(text: str, strings: Sequence[WrittenString]) -> list[tuple[WrittenString, Int64Array]]:
    """Strings that hold a text as whole words, with its characters' spots; alone in a string goes before."""
    alone = [(string, string.spots) for string in strings if string.text == text]
    if alone:
        return alone
    starts = [(string, _whole_word(text, string.text)) for string in strings]
    return [(string, string.spots[start : start + len(text)]) for string, start in starts if start is not None]


def _whole_word(text: str, whole: str) -> int | None:
    """Where a text stands in another one as whole words and numbers, and not as a part of them; `x3` is three times."""
    if text not in whole:
        return None
    before = r"(?<![^\W_])(?<!\d[.,])" if not text.isdigit() else r"(?:(?<![^\W_])(?<!\d[.,])|(?<=\bx))"
    match = re.search(rf"{before}{re.escape(text)}(?![^\W_])(?![.,]\d)", whole)
    return None if match is None else match.start()


class _Places:
    def __init__(self, num_visual: int) -> None:
        self.num_visual = num_visual
        self.places: list[tuple[int, int]] = []
        self.shares: list[Float32Array] = []

    def add(self, row: int, position: int, tokens: Sequence[int]) -> None:
        """Note that at a position of a row attention belongs to these visual tokens, each as often as it is named.

        Without any it belongs to the row's first position, as where phrases of scenes fit nothing.
        """
        shares = np.zeros(1 + self.num_visual, np.float32)
        np.add.at(shares, np.array(tokens or [-1]) + 1, 1 / max(1, len(tokens)))
        self.places.append((row, position))
        self.shares.append(shares)

    def arrays(self) -> tuple[Int64Array, Float32Array]:
        """The rows and positions, N x 2, and their shares, N x (1 + V)."""
        shares = np.stack(self.shares) if self.shares else np.zeros((0, 1 + self.num_visual), np.float32)
        return np.array(self.places, np.int64).reshape(-1, 2), shares


@dataclass
class _Found:
    num_visual: int
    named: _Places = field(init=False)
    read: _Places = field(init=False)
    spots: list[tuple[int, int]] = field(default_factory=list)
    is_first: list[bool] = field(default_factory=list)
    asked: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.named, self.read = _Places(self.num_visual), _Places(self.num_visual)

    def arrays(self) -> ReadingPlaces:
        """Everything that was found, as arrays."""
        spots = np.array(self.spots, np.int64).reshape(-1, 2)
        asked = np.array(self.asked, np.int64).reshape(-1, 4)
        is_first = np.array(self.is_first, bool)
        return ReadingPlaces(*self.named.arrays(), *self.read.arrays(), spots, is_first, asked)
