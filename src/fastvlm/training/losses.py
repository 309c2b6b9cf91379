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


def attention_loss(log_shares: Tensor, wanted: Tensor) -> Tensor:
    """Divergence of K x T shares of attention, given as logarithms, from the wanted ones, which are 0 where masked.

    A row of `wanted` without shares counts as nothing; the mean is over all K rows, and 0 where there are none.
    """
    least = torch.finfo(wanted.dtype).tiny
    # A masked share is zero and its logarithm infinite: it must not meet the zero that is wanted of it.
    divergence = wanted * (wanted.clamp(min=least).log() - log_shares.masked_fill(wanted == 0, 0))
    return divergence.sum() / max(1, len(wanted))


def known_class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy of K x C logits against K classes where these are not -1; 0 where none is known."""
    known = classes >= 0
    if not known.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[known].float(), classes[known])


def known_mark_loss(logits: Tensor, marks: Tensor) -> Tensor:
    """Mean binary cross-entropy of K x M logits against marks of 0 or 1 in the rows where they are not -1."""
    known = marks[:, 0] >= 0
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known].float(), marks[known])
