"""One training example: a picture, or none, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass

from fastvlm.batches import DenseLabels, UInt8Array
from fastvlm.messages import Message


@dataclass(frozen=True)
class Example:
    """A picture, H x W x 3, or None for text alone, with separate conversations about it.

    Each conversation begins with the picture, so that all of them share one encoding of it in training.
    dense: labels of this one picture (N = 1), where its source knows them.
    """

    sample_id: str
    image: UInt8Array | None
    conversations: tuple[tuple[Message, ...], ...]
    dense: DenseLabels | None = None
