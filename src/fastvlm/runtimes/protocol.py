"""How the numbers are computed, as inference sees it: five verbs over arrays, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fastvlm.batches import Float32Array, Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.tiles import TileLayout


@dataclass(frozen=True)
class Embeddings:
    """The decoder's input for one prompt: num_positions x decoder width, held by the runtime that made it."""

    data: object
    num_positions: int


WeightFormat = Literal["int8", "int4"]
"""Bits that a decoder's matrices can be held in, beside their own."""

EncodePhase = Literal["compile", "encode", "project"]


def ignore(_: object) -> None:
    """Note nothing."""


class Cache(Protocol):
    """Keys and values of a batch of prompts, and of what was decoded after them; decode changes it in place."""

    @property
    def num_positions(self) -> int:
        """Positions held for each row, padding included."""


class Runtime(Protocol):
    """Computes a vision-language model. All arrays are on the host; batches are lists, padding is internal."""

    @property
    def max_positions(self) -> int:
        """Longest context in tokens: prompt plus answer."""

    @property
    def name(self) -> str:
        """Engine, device and precision, as in `torch cpu float32`."""

    @property
    def version(self) -> str:
        """The engine's version and the device's name: what was measured of it holds for these."""

    @property
    def compile_ms(self) -> float:
        """Milliseconds that went into compiling and packing until now, or into taking what came of it from a cache."""

    def prepare(self, layout: TileLayout) -> None:
        """Begin to make what the encoding of such an image will need, beside other work, where that takes long.

        What fails is told by `encode`.
        """

    def encode(self, image: PixelTiles, *, note: Callable[[EncodePhase], None] = ignore) -> VisualTokens:
        """Turn the tiles of one image into visual tokens in the decoder's width.

        note: called with the name of each phase when it ends.
        """

    def embed(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Embeddings:
        """Look up the words and put the visual tokens into their slots.

        Raises PromptError unless every image fills its slots exactly.
        """

    def prefill(self, prompts: Sequence[Embeddings]) -> tuple[Float32Array, Cache]:
        """Read B prompts; returns the logits after the last position, B x vocabulary, and the cache."""

    def resume(self, cache: Cache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, Cache]:
        """Read one prompt whose first `num_kept` positions a cache of one row holds; the cache is used up by it.

        Returns what `prefill` would, for the time of the other positions alone. At least one position is read.
        """

    def decode(self, token_ids: Int64Array, cache: Cache) -> Float32Array:
        """Append one token to each of the B rows; returns the logits after it, B x vocabulary."""
