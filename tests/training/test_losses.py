"""Losses against plain float64 references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastvlm.training.losses import answer_weights, class_map_loss, count_loss, next_token_loss


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


def test_class_map_loss_weighs_background_down() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(2, 4, 3, 5)), random.integers(0, 4, (2, 3, 5))
    log_probability = np.take_along_axis(_log_softmax(logits, 1), labels[:, None], 1)[:, 0]
    weights = np.where(labels == 0, 0.25, 1.0)
    expected = -(weights * log_probability).sum() / weights.sum()
    actual = class_map_loss(torch.tensor(logits), torch.tensor(labels), background_weight=0.25)
    assert float(actual) == pytest.approx(expected, rel=1e-9)


def test_count_loss_is_poisson_and_least_at_the_true_rates() -> None:
    random = np.random.default_rng(2)
    log_rates, counts = random.normal(size=(2, 3, 4)), random.integers(0, 9, (2, 3, 4)).astype(float)
    expected = (np.exp(log_rates) - counts * log_rates).sum(-1).mean()
    assert float(count_loss(torch.tensor(log_rates), torch.tensor(counts))) == pytest.approx(expected, rel=1e-9)
    true = torch.tensor(counts + 1e-3).log()
    assert count_loss(true, torch.tensor(counts)) < count_loss(true + 0.1, torch.tensor(counts))
    assert count_loss(true, torch.tensor(counts)) < count_loss(true - 0.1, torch.tensor(counts))
