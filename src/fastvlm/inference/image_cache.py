"""Images that were encoded before, so that the next question about one does not encode it again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from typing import Protocol, runtime_checkable

import numpy as np

from fastvlm.batches import PixelTiles, VisualTokens
from fastvlm.runtimes.together import encode_together

MAX_IMAGES = 20
MAX_BYTES = 256 * 1024 * 1024


@runtime_checkable
class _SizedArray(Protocol):
    """Every runtime's arrays say how large they are."""

    @property
    def nbytes(self) -> int: ...


class ImageCache:
    """Visual tokens of the images that one model saw last, found by the content of their pixels and their layout.

    Several threads may ask at once; an image that two of them bring at the same time is encoded by both.

    max_images: images kept at most, or as many as one conversation shows where it shows more; where it is 0, images of
    one size are encoded together. max_bytes: bytes of visual tokens kept at most. What one call asks for never makes
    room for itself: it pushes out images of other conversations only, and what does not fit beside the rest of its own
    is encoded and not kept.
    """

    def __init__(self, *, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES) -> None:
        self.max_images = max_images
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, VisualTokens] = OrderedDict()
        self.num_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get_or_encode(
        self, images: Sequence[PixelTiles], encode: Callable[[PixelTiles], VisualTokens]
    ) -> list[VisualTokens]:
        """Return the visual tokens of one conversation's images, in order, encoding only those not at hand."""
        if not self.max_images:
            return encode_together(images, encode)
        keys = [content_key(image) for image in images]
        found: dict[str, VisualTokens] = {}
        for key, image in zip(keys, images, strict=True):
            if key in found:
                continue
            known = self._take_up(key)
            found[key] = encode(image) if known is None else known
            if known is None:
                with self._lock:
                    self._keep(key, found[key], set(keys))
        return [found[key] for key in keys]

    def _take_up(self, key: str) -> VisualTokens | None:
        with self._lock:
            known = self._entries.get(key)
            if known is not None:
                self._entries.move_to_end(key)
            return known

    def _keep(self, key: str, tokens: VisualTokens, own: Set[str]) -> None:
        if key in self._entries:  # another thread was sooner
            return
        size = _num_bytes(tokens)
        num_own_bytes = sum(_num_bytes(entry) for other, entry in self._entries.items() if other in own)
        if num_own_bytes + size > self._max_bytes:
            return
        self._entries[key] = tokens
        self.num_bytes += size
        others = [other for other in self._entries if other not in own]
        max_images = max(self.max_images, len(own))
        for other in others:
            if len(self._entries) <= max_images and self.num_bytes <= self._max_bytes:
                return
            self.num_bytes -= _num_bytes(self._entries.pop(other))

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._entries.clear()
            self.num_bytes = 0


def content_key(image: PixelTiles) -> str:
    """Return a digest of an image's layout, levels and table: equal content gives an equal key, however it was read."""
    digest = hashlib.sha256(repr((image.layout, image.levels.shape)).encode())
    digest.update(np.ascontiguousarray(image.table).data)
    digest.update(np.ascontiguousarray(image.levels).data)
    return digest.hexdigest()


def _num_bytes(tokens: VisualTokens) -> int:
    if not isinstance(tokens.data, _SizedArray):
        raise TypeError(f"a runtime's visual tokens must know their nbytes, {type(tokens.data).__name__} does not")
    return tokens.data.nbytes
