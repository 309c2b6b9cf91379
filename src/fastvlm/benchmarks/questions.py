"""What systems are asked, and what they tell: a question about random pixels, and when each token came."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fastvlm.batches import PixelTiles, PromptTokens
from fastvlm.benchmarks.shapes import IMAGE_TOKEN_ID
from fastvlm.tiles import TileLayout

_NUM_BEFORE = 14
"""Words before the picture, as the template of the released models has them."""


@dataclass(frozen=True)
class Question:
    """A square picture and so many words."""

    size_px: int
    num_text_tokens: int

    @property
    def num_visual_tokens(self) -> int:
        """One for each 64 x 64 pixels."""
        return (self.size_px // 64) ** 2

    def pixels(self) -> PixelTiles:
        """Random pixels, the same every time."""
        shape = (1, self.size_px, self.size_px, 3)
        levels = np.random.default_rng(self.size_px).integers(256, size=shape, dtype=np.uint8)
        table = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (3, 1))
        return PixelTiles(levels, table, TileLayout(self.size_px, self.size_px))

    def prompt(self, *, vocabulary_size: int) -> PromptTokens:
        """Random words around the picture's slots; what stands in a slot is the image token."""
        words = np.random.default_rng(0).integers(IMAGE_TOKEN_ID + 1, vocabulary_size, self.num_text_tokens)
        before = min(_NUM_BEFORE, self.num_text_tokens - 1)
        slots = np.full(self.num_visual_tokens, IMAGE_TOKEN_ID)
        token_ids = np.concatenate([words[:before], slots, words[before:]]).astype(np.int64)
        image_index = np.where(token_ids == IMAGE_TOKEN_ID, 0, -1).astype(np.int64)
        return PromptTokens(token_ids, image_index, np.zeros(len(token_ids), bool))

    @property
    def num_kept(self) -> int:
        """Positions of a prompt that another question about the picture shares: some words, and the picture."""
        return min(_NUM_BEFORE, self.num_text_tokens - 1) + self.num_visual_tokens

    def another(self, prompt: PromptTokens) -> PromptTokens:
        """A prompt with other words after the picture."""
        token_ids = prompt.token_ids.copy()
        token_ids[self.num_kept :] = token_ids[self.num_kept :][::-1]
        return replace(prompt, token_ids=token_ids)


@dataclass(frozen=True)
class Answered:
    """times_ms: milliseconds after the start when each token came. second_ms: time to first token of another question
    about the same picture, asked after that; None where an engine has no way to keep what it read."""

    times_ms: list[float]
    second_ms: float | None = None


class System(Protocol):
    """An engine with a model in it."""

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Answer greedily, never ending early."""
