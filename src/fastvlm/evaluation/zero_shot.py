"""What two towers know without being trained for it: classes by their names, and pictures by their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import Float32Array, Int64Array


@dataclass(frozen=True)
class Retrieval:
    """Shares of queries whose match is among the first 1, 5 and 10, in both directions (CLIP's R@1, R@5, R@10)."""

    picture_to_words: tuple[float, float, float]
    words_to_picture: tuple[float, float, float]


RANKS = (1, 5, 10)


def class_embeddings(prompts: Sequence[Float32Array]) -> Float32Array:
    """One direction for each class from the embeddings of its prompts, P x width each: their mean, of length one."""
    means = np.stack([prompt.mean(0) for prompt in prompts])
    normalised: Float32Array = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return normalised


def zero_shot_accuracy(pictures: Float32Array, labels: Int64Array, class_directions: Float32Array) -> float:
    """Share of pictures, N x width, that are nearest to their own class among C x width."""
    return float(((pictures @ class_directions.T).argmax(1) == labels).mean())


def retrieval(pictures: Float32Array, words: Float32Array, picture_of: Int64Array) -> Retrieval:
    """Find captions by pictures and pictures by captions (the protocol of COCO and Flickr30k).

    pictures: N x width. words: M x width, where picture_of says which picture each caption is of; a picture counts as
    found with any of its captions.
    """
    similar = pictures @ words.T
    is_match = picture_of[None] == np.arange(len(pictures))[:, None]
    return Retrieval(_recalls(similar, is_match), _recalls(similar.T, is_match.T))


def _recalls(
    similar: Float32Array, is_match: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[float, float, float]:
    order = np.argsort(-similar, axis=1, kind="stable")
    hits = np.take_along_axis(is_match, order, axis=1)
    first, fifth, tenth = (float(hits[:, :rank].any(1).mean()) for rank in RANKS)
    return first, fifth, tenth
