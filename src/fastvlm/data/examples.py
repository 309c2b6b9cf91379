"""One training example: pictures, or none, and what is said about them."""

from __future__ import annotations

from dataclasses import dataclass

from fastvlm.batches import DenseLabels, UInt8Array
from fastvlm.messages import Message


@dataclass(frozen=True)
class Example:
    """Pictures, H x W x 3 each, none for text alone, with separate conversations about them.

    Each conversation shows all of the pictures, and several begin with them, so that they share one encoding of them
    in training. dense: labels of one picture (N = 1), where its source knows them.
    """

    sample_id: str
    images: tuple[UInt8Array, ...]
    conversations: tuple[tuple[Message, ...], ...]
    dense: DenseLabels | None = None
