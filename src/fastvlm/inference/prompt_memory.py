"""What the last prompt and its answer left in the cache, so that the next one reads only what is new in it.

A second question about a picture, or the next turn of a chat, begins as the last prompt did: the same words and the
same visual tokens in the same places.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import Float32Array, Int64Array, PromptTokens, VisualTokens
from fastvlm.runtimes.protocol import Cache, Embeddings, Runtime

_LEAST_KEPT, _LEAST_SHARE = 8, 0.25
"""Fewer positions, or a smaller share of a prompt, such as a template's words before another picture, are read sooner
than a cache is taken up."""


@dataclass
class Reading:
    """A prompt that is read and answered. images: in the order of their numbers in `prompt`.

    cache: of an earlier prompt whose first `num_kept` positions are this one's, or None. said: tokens of the answer.
    """

    prompt: PromptTokens
    images: tuple[VisualTokens, ...]
    cache: Cache | None = None
    num_kept: int = 0
    is_read: bool = False
    said: tuple[int, ...] = ()

    def read(self, runtime: Runtime, embeddings: Embeddings) -> tuple[Float32Array, Cache]:
        """Read the prompt, given as embeddings, as far as it is new; returns what `Runtime.prefill` would."""
        if self.cache is None:
            logits, self.cache = runtime.prefill([embeddings])
        else:
            logits, self.cache = runtime.resume(self.cache, embeddings, num_kept=self.num_kept)
        self.is_read = True
        return logits, self.cache


class PromptMemory:
    """Remembers the last prompt that was answered. While a prompt is answered its cache is nobody else's."""

    def __init__(self) -> None:
        self._last: Reading | None = None
        self._lock = threading.Lock()

    def start(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Reading:
        """Begin to read a prompt, with the cache of the last one as far as both are alike."""
        reading = Reading(prompt, tuple(images))
        last = self._exchange(None)
        if last is not None and last.cache is not None:
            num_kept = min(_num_alike(last, reading), last.cache.num_positions, len(prompt) - 1)
            if num_kept >= max(_LEAST_KEPT, _LEAST_SHARE * len(prompt)):
                reading.cache, reading.num_kept = last.cache, num_kept
        return reading

    def keep(self, reading: Reading, said: Sequence[int]) -> None:
        """Remember a prompt once its answer has ended, or been broken off, after the tokens `said`."""
        reading.said = tuple(said)
        self._exchange(reading if reading.is_read else None)

    def clear(self) -> None:
        """Forget it, and give its memory back."""
        self._exchange(None)

    def _exchange(self, reading: Reading | None) -> Reading | None:
        with self._lock:
            last, self._last = self._last, reading
        return last


def _num_alike(last: Reading, reading: Reading) -> int:
    """How many positions two prompts begin with in common; the answer to the first counts as part of it."""
    # While both are held, no two images have the same id.
    numbers = {id(image): number for number, image in enumerate((*last.images, *reading.images))}
    before = np.concatenate([_contents(last, numbers), np.array(last.said, np.int64)])
    now = _contents(reading, numbers)
    shared = min(len(before), len(now))
    differs = np.flatnonzero(before[:shared] != now[:shared])
    return int(differs[0]) if len(differs) else shared


def _contents(reading: Reading, numbers: Mapping[int, int]) -> Int64Array:
    """What stands at each position: a token's id, or below zero the number of an image and the place in it."""
    contents = np.array(reading.prompt.token_ids, np.int64)
    for index, image in enumerate(reading.images):
        places = np.flatnonzero(reading.prompt.image_index == index)
        contents[places] = -(1 + (numbers[id(image)] << 32)) - np.arange(len(places))
    return contents
