"""Losses over tensors; each is checked against a plain float64 reference in the tests."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def next_token_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of R x vocabulary logits against R target ids, in float32: the mean, weighted where asked."""
    if weights is None:
        return F.cross_entropy(logits.float(), targets)
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def answer_weights(supervised: Tensor, *, exponent: float = 1.0) -> Tensor:
    """Weights against long answers drowning short ones: B x T marks to one for each marked token, in row-major order.

    An answer is an unbroken run of marks in a row; its n tokens share a weight of n ** (1 - exponent): with an exponent
    of 1 every answer counts the same, with 0 every token.
    """
    starts = supervised.clone()
    starts[:, 1:] &= ~supervised[:, :-1]
    answers = starts.flatten().cumsum(0)[supervised.flatten()] - 1
    lengths = torch.bincount(answers)
    return lengths[answers] ** -exponent


def class_map_loss(logits: Tensor, labels: Tensor, *, background_weight: float) -> Tensor:
    """Mean cross-entropy of N x C x H x W logits against N x H x W classes, class 0 (background) weighted down."""
    weight = torch.ones(logits.shape[1], dtype=logits.dtype, device=logits.device)
    weight[0] = background_weight
    return F.cross_entropy(logits, labels, weight=weight)


def feature_loss(predicted: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error of N x T x F: summed over the F features, mean over the N x T places."""
    return ((predicted - features).square() * weights).sum(-1).mean()
