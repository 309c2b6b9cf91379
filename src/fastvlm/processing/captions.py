"""Captions to token ids of one length, for the text tower."""

from __future__ import annotations

import numpy as np

from fastvlm.batches import Int64Array
from fastvlm.processing.tokenizer import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
"""What CLIP's tokenizer calls the tokens around a caption."""


def caption_tokens(caption: str, tokenizer: Tokenizer, *, context_length: int) -> Int64Array:
    """Write a caption between its start and its end, padded with 0; a longer one loses its last words, as in CLIP.

    Raises CheckpointError where the tokenizer lacks the two tokens.
    """
    start, end = tokenizer.token_id(START), tokenizer.token_id(END)
    words = tokenizer.encode(caption, position="start")[: context_length - 2]
    padded = np.zeros(context_length, np.int64)
    padded[: len(words) + 2] = [start, *words, end]
    return padded
