"""Losses against plain float64 references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastvlm.training.losses import answer_weights, class_map_loss, feature_loss, next_token_loss


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


def test_class_map_loss_weighs_background_down() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(2, 4, 3, 5)), random.integers(0, 4, (2, 3, 5))
    log_probability = np.take_along_axis(_log_softmax(logits, 1), labels[:, None], 1)[:, 0]
    weights = np.where(labels == 0, 0.25, 1.0)
    expected = -(weights * log_probability).sum() / weights.sum()
    actual = class_map_loss(torch.tensor(logits), torch.tensor(labels), background_weight=0.25)
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
