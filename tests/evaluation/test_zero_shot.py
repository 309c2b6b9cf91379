"""Zero-shot scores on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastvlm.evaluation.zero_shot import class_embeddings, retrieval, zero_shot_accuracy

AXES = np.eye(3, dtype=np.float32)


def test_a_picture_belongs_to_the_nearest_class() -> None:
    pictures = np.array([[0.9, 0.1, 0], [0.2, 0.9, 0], [0.6, 0.5, 0], [0, 0, 1]], np.float32)
    assert zero_shot_accuracy(pictures, np.array([0, 1, 1, 2]), AXES) == 0.75


def test_a_class_is_the_mean_of_its_prompts() -> None:
    directions = class_embeddings([AXES[:2], AXES[2:]])
    np.testing.assert_allclose(directions, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], rtol=1e-6)


def test_retrieval_counts_any_caption_of_a_picture() -> None:
    """Picture 0 finds its second caption first; picture 1 finds another's caption first and its own second."""
    pictures = np.array([[1, 0], [0, 1]], np.float32)
    words = np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]], np.float32)
    found = retrieval(pictures, words, np.array([0, 0, 1]))
    assert found.picture_to_words == (0.5, 1.0, 1.0)
    assert found.words_to_picture == pytest.approx((2 / 3, 1.0, 1.0))
