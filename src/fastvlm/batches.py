"""The arrays that travel between folders: numpy on the host, shapes written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastvlm.tiles import TileLayout

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PixelTiles:
    """One image, ready for the encoder.

    levels: num_tiles x tile height x tile width x 3, uint8. table: 3 x 256, what each level of a channel is once it is
    normalised with the checkpoint's mean and std.
    """

    levels: UInt8Array
    table: Float32Array
    layout: TileLayout

    @property
    def pixels(self) -> Float32Array:
        """Normalised, num_tiles x 3 x tile height x tile width; made anew whenever it is asked for."""
        num_tiles, height_px, width_px, _ = self.levels.shape
        pixels: Float32Array = np.empty((num_tiles, 3, height_px, width_px), dtype=np.float32)
        for tile, levels in zip(pixels, self.levels, strict=True):
            for channel in range(3):
                # Every level is in the table; `clip` only spares the check, and with it a copy.
                np.take(self.table[channel], levels[..., channel], out=tile[channel], mode="clip")
        return pixels


@dataclass(frozen=True)
class PromptTokens:
    """A rendered conversation of T positions, with one position for every visual token.

    token_ids: T; positions of visual tokens hold 0 and are never looked up.
    image_index: T; -1 for text, otherwise the number of the image whose visual tokens stand here.
    supervised: T; True where training predicts this token (the assistant's words and the end of the turn).
    """

    token_ids: Int64Array
    image_index: Int64Array
    supervised: BoolArray

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_visual_tokens(self) -> int:
        """Positions reserved for visual tokens."""
        return int((self.image_index >= 0).sum())

    @property
    def num_text_tokens(self) -> int:
        """Positions of ordinary tokens."""
        return len(self) - self.num_visual_tokens


@dataclass(frozen=True)
class DenseLabels:
    """What a generated picture knows about each of its places, for auxiliary losses; N pictures of one size.

    class_maps: by stage of the encoder, the first being 0, N x K x the size of its map: for each of K classifications
    the class in each cell.
    token_features: N x (H/64 * W/64) x F, what each visual token should know, as numbers.
    token_weights: the same shape, how much each of them matters.
    content: what the classes and numbers are about: the objects of a scene, or characters and colours.
    """

    class_maps: Mapping[int, Int64Array]
    token_features: Float32Array
    token_weights: Float32Array
    content: Literal["objects", "characters"] = "objects"


@dataclass(frozen=True)
class GroundingLabels:
    """What the phrases of a batch mean in its pictures, for auxiliary losses: K phrases, A answers, V visual tokens.

    phrases: K x 2, the row of each and the position where it ends.
    candidates, referents, tallies: K x (1 + V), shares of attention: the first is that of the row's first position,
    which stands for nothing, the others those of the picture's visual tokens. A phrase's candidates are what fits its
    words without a superlative, its referents what it means (all 0 where that is open to dispute); both share equally.
    A tally gives each candidate the same fixed share, so that nothing's share tells their number.
    classes: K x C, number of a class, -1 where unknown. marks: K x M of 0 and 1, all -1 where unknown. kinds: K x L
    likewise, which shapes and colours there are among what it means.
    answers: A x 4, a row, the position that predicts an answer's first token, and where the phrases of its question's
    subject and of the other thing end. comparisons: A x D, classes of how the two compare, -1 where unknown.
    """

    phrases: Int64Array
    candidates: Float32Array
    referents: Float32Array
    tallies: Float32Array
    classes: Int64Array
    marks: Float32Array
    kinds: Float32Array
    answers: Int64Array
    comparisons: Int64Array


@dataclass(frozen=True)
class ReadingPlaces:
    """Where in the pictures of a batch its words stand, for auxiliary losses; V visual tokens.

    named: N x 2, the row and the position where the question has named something that is written. read: R x 2, the row
    and the position that predicts a token of an answer that is read off the picture. named_shares, read_shares:
    N x (1 + V) and R x (1 + V), what attention belongs to, as in GroundingLabels. read_spots: R x 2, where in its
    visual token the first letter of what is read stands, column and row of 16 and 4, -1 where that is open.
    asked: A x 4, the row and the position that predicts an answer's first token, or any that is read, and where its
    question has named the first and the last of what it names. read_first: R booleans, whether it is the first of an
    answer that has to be found, as transcripts do not.
    """

    named: Int64Array
    named_shares: Float32Array
    read: Int64Array
    read_shares: Float32Array
    read_spots: Int64Array
    read_first: BoolArray
    asked: Int64Array


@dataclass(frozen=True)
class TrainingBatch:
    """B conversations of at most T positions about images of one size.

    pixels: N x 3 x H x W, the tiles of all rows in the order of their slots; or, as they came from pictures and a
    quarter of the size, levels of 0 to 255, uint8 of N x H x W x 3.
    token_ids: B x T, right-padded. is_visual: B x T, slots in row-major order match the visual tokens of `pixels`.
    supervised: B x T. positions: B x T, rotary positions.
    segments: B x T, -1 for padding, 0 for what every segment sees, k > 0 for the k-th question of a row:
    a position sees earlier positions of segment 0 and of its own segment.
    sample_ids: one name for each row, for error messages.
    features: M x C, what the encoder made of the pictures, one row for each slot, in place of `pixels`; else None.
    dense: labels of the same N pictures, where the source knows them. grounding: what the words mean, likewise.
    reading: where the words stand, likewise.
    """

    pixels: Float32Array | UInt8Array
    token_ids: Int64Array
    is_visual: BoolArray
    supervised: BoolArray
    positions: Int64Array
    segments: Int64Array
    sample_ids: tuple[str, ...]
    features: Float32Array | None = None
    dense: DenseLabels | None = None
    grounding: GroundingLabels | None = None
    reading: ReadingPlaces | None = None


@dataclass(frozen=True)
class CaptionBatch:
    """B pictures with K captions each, for contrastive pretraining.

    pixels: B x 3 x H x W. token_ids: B x K x T, captions from their start token to their end token, padded with 0.
    teacher_pictures: B x M x width, what M teachers made of these very pixels; teacher_words: B x K x M x width, what
    they made of the captions; both None without teachers. sample_ids: one name for each picture.
    """

    pixels: Float32Array
    token_ids: Int64Array
    sample_ids: tuple[str, ...]
    teacher_pictures: Float32Array | None = None
    teacher_words: Float32Array | None = None


@dataclass(frozen=True)
class VisualTokens:
    """The encoder's output for one image, held by the runtime that made it.

    data: num_visual_tokens x decoder width, an array of the runtime's own kind, on the runtime's own device.
    """

    data: object
    num_tokens: int


FinishReason = Literal["stop", "length"]
