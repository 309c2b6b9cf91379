"""Losses against plain float64 references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastvlm.training.losses import (
    TeacherEmbeddings,
    answer_weights,
    contrastive_loss,
    feature_loss,
    next_token_loss,
    similarity_distillation_loss,
    weighted_class_loss,
)


def _log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    shifted = logits - logits.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def test_next_token_loss_is_mean_negative_log_likelihood() -> None:
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(7, 11)), random.integers(0, 11, 7)
    expected = -_log_softmax(logits, 1)[np.arange(7), targets].mean()
    assert float(next_token_loss(torch.tensor(logits), torch.tensor(targets))) == pytest.approx(expected, rel=1e-6)


def test_each_answer_counts_the_same_whatever_its_length() -> None:
    supervised = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 1, 1, 1]]).bool()
    weights = answer_weights(supervised)
    assert weights.tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1, 1 / 3, 1 / 3, 1 / 3])
    random = np.random.default_rng(3)
    logits, targets = random.normal(size=(7, 5)), random.integers(0, 5, 7)
    losses = -_log_softmax(logits, 1)[np.arange(7), targets]
    expected = np.mean([losses[0:2].mean(), losses[2], losses[3], losses[4:7].mean()])
    actual = next_token_loss(torch.tensor(logits), torch.tensor(targets), weights)
    assert float(actual) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_exponent_leads_from_each_token_to_each_answer(exponent: float) -> None:
    supervised = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    lengths = [2, 2, 1, 1, 3, 3, 3, 5, 5, 5, 5, 5]
    weights = answer_weights(supervised, exponent=exponent)
    assert weights.is_floating_point()
    assert weights.tolist() == pytest.approx([length**-exponent for length in lengths])
    # The tokens of an answer of n share a weight of n ** (1 - exponent).
    assert float(weights[4:7].sum()) == pytest.approx(3 ** (1 - exponent))
    if exponent == 1:
        assert torch.equal(weights, answer_weights(supervised))


def test_equal_weights_are_no_weights() -> None:
    random = np.random.default_rng(4)
    logits, targets = torch.tensor(random.normal(size=(7, 5))), torch.tensor(random.integers(0, 5, 7))
    supervised = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 1, 1, 1]]).bool()
    weighted = next_token_loss(logits, targets, answer_weights(supervised, exponent=0.0))
    assert float(weighted) == pytest.approx(float(next_token_loss(logits, targets)), rel=1e-6)


def test_weighted_class_loss_weighs_background_down() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(2, 4, 3, 5)), random.integers(0, 4, (2, 3, 5))
    log_probability = np.take_along_axis(_log_softmax(logits, 1), labels[:, None], 1)[:, 0]
    weights = np.where(labels == 0, 0.25, 1.0)
    expected = -(weights * log_probability).sum() / weights.sum()
    actual = weighted_class_loss(torch.tensor(logits), torch.tensor(labels), background_weight=0.25)
    assert float(actual) == pytest.approx(expected, rel=1e-9)


def test_feature_loss_is_the_weighted_square_summed_over_features_and_least_at_the_truth() -> None:
    random = np.random.default_rng(2)
    predicted, features = random.normal(size=(2, 3, 4)), random.integers(0, 9, (2, 3, 4)).astype(float)
    weights = random.uniform(0.1, 1, (2, 3, 4))
    expected = (weights * (predicted - features) ** 2).sum() / (2 * 3)
    truth, importance = torch.tensor(features), torch.tensor(weights)
    assert float(feature_loss(torch.tensor(predicted), truth, importance)) == pytest.approx(expected, rel=1e-9)
    assert feature_loss(truth, truth, importance) == 0
    assert feature_loss(truth + 0.1, truth, importance) == pytest.approx(0.01 * weights.sum() / 6, rel=1e-9)
    assert feature_loss(truth - 0.1, truth, importance) > 0


def _unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    values = generator.normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def _cross_entropy(wanted: np.ndarray, logits: np.ndarray) -> float:
    return float(-(wanted * _log_softmax(logits, -1)).sum(-1).mean())


def test_contrastive_loss_is_the_mean_of_both_directions() -> None:
    generator = np.random.default_rng(0)
    pictures, words, scale = _unit(generator, 5, 8), _unit(generator, 5, 8), 14.0
    similar = scale * pictures @ words.T
    expected = (_cross_entropy(np.eye(5), similar) + _cross_entropy(np.eye(5), similar.T)) / 2
    first, second = torch.tensor(pictures), torch.tensor(words)
    got = contrastive_loss(
        first, second, torch.tensor(scale, dtype=torch.float64), all_pictures=first, all_words=second, first=0
    )
    assert float(got) == pytest.approx(expected, rel=1e-12)


def test_contrastive_loss_of_shares_of_the_pairs_is_that_of_all() -> None:
    generator = np.random.default_rng(1)
    pictures, words = (torch.tensor(_unit(generator, 6, 8)) for _ in range(2))
    scale = torch.tensor(9.0, dtype=torch.float64)
    whole = contrastive_loss(pictures, words, scale, all_pictures=pictures, all_words=words, first=0)
    shares = [
        contrastive_loss(
            pictures[first : first + 3],
            words[first : first + 3],
            scale,
            all_pictures=pictures,
            all_words=words,
            first=first,
        )
        for first in (0, 3)
    ]
    assert float(sum(shares) / 2) == pytest.approx(float(whole), rel=1e-12)


def test_distillation_is_the_cross_entropy_with_the_mean_of_the_teachers() -> None:
    generator = np.random.default_rng(2)
    pictures, words = _unit(generator, 4, 8), _unit(generator, 4, 8)
    teacher_pictures, teacher_words = _unit(generator, 4, 2, 6), _unit(generator, 4, 2, 6)
    scale, teacher_scale = 11.0, 30.0

    def wanted(own: np.ndarray, others: np.ndarray) -> np.ndarray:
        members = [np.exp(_log_softmax(teacher_scale * own[:, m] @ others[:, m].T, -1)) for m in range(2)]
        return np.mean(members, axis=0)

    similar = scale * pictures @ words.T
    expected = (
        _cross_entropy(wanted(teacher_pictures, teacher_words), similar)
        + _cross_entropy(wanted(teacher_words, teacher_pictures), similar.T)
    ) / 2
    first, second, third, fourth = map(torch.tensor, (pictures, words, teacher_pictures, teacher_words))
    got = similarity_distillation_loss(
        first,
        second,
        torch.tensor(scale, dtype=torch.float64),
        TeacherEmbeddings(third, fourth, third, fourth),
        all_pictures=first,
        all_words=second,
        teacher_scale=teacher_scale,
    )
    assert float(got) == pytest.approx(expected, rel=1e-12)


def test_a_student_like_its_teacher_has_nothing_to_learn() -> None:
    """The gradient is zero where the student's similarities are the teachers', at the same scale."""
    generator = np.random.default_rng(3)
    pictures, words = (torch.tensor(_unit(generator, 4, 8), requires_grad=True) for _ in range(2))
    held = [values.detach()[:, None] for values in (pictures, words)]
    loss = similarity_distillation_loss(
        pictures,
        words,
        torch.tensor(100.0, dtype=torch.float64),
        TeacherEmbeddings(held[0], held[1], held[0], held[1]),
        all_pictures=pictures,
        all_words=words,
    )
    loss.backward()
    assert float(pictures.grad.abs().max()) < 1e-10
