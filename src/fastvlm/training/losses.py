"""Losses over tensors; each is checked against a plain float64 reference in the tests."""

from __future__ import annotations

from dataclasses import dataclass

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
    answers = answer_numbers(supervised)
    lengths = torch.bincount(answers)
    return lengths[answers] ** -exponent


def answer_numbers(supervised: Tensor) -> Tensor:
    """Which answer each marked token of B x T belongs to, from 0, in row-major order."""
    starts = supervised.clone()
    starts[:, 1:] &= ~supervised[:, :-1]
    return starts.flatten().cumsum(0)[supervised.flatten()] - 1


def weighted_class_loss(logits: Tensor, labels: Tensor, *, background_weight: float) -> Tensor:
    """Mean cross-entropy of N x C x ... logits against N x ... classes, class 0 (background) weighted down.

    The mean is over the weights of what there is.
    """
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


def known_class_loss(logits: Tensor, classes: Tensor, *, evenness: float = 0.0) -> Tensor:
    """Mean cross-entropy of K x C logits against K classes where these are not -1; 0 where none is known.

    evenness: between every one of the K counting the same (0) and every class that occurs (1).
    """
    known = classes >= 0
    if not known.any():
        return logits.sum() * 0
    losses = F.cross_entropy(logits[known].float(), classes[known], reduction="none")
    weights = torch.bincount(classes[known])[classes[known]].float() ** -evenness
    return (losses * weights).sum() / weights.sum()


def known_mark_loss(logits: Tensor, marks: Tensor) -> Tensor:
    """Mean binary cross-entropy of K x M logits against marks of 0 or 1 in the rows where they are not -1."""
    known = marks[:, 0] >= 0
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known].float(), marks[known])


def contrastive_loss(
    pictures: Tensor, words: Tensor, scale: Tensor, *, all_pictures: Tensor, all_words: Tensor, first: int
) -> Tensor:
    """CLIP's loss of n pairs among N: each picture has to find its words among all, and the words their picture.

    pictures, words: n x width, of length one. all_pictures, all_words: N x width, the pairs of all processes, in which
    these stand from row `first` on; without other processes they are the same.
    """
    targets = first + torch.arange(len(pictures), device=pictures.device)
    by_picture = F.cross_entropy(scale * pictures @ all_words.T, targets)
    by_words = F.cross_entropy(scale * words @ all_pictures.T, targets)
    return (by_picture + by_words) / 2


@dataclass(frozen=True)
class TeacherEmbeddings:
    """What M teachers make of n pairs, and of all N: n x M x width and N x M x width, each of length one."""

    pictures: Tensor
    words: Tensor
    all_pictures: Tensor
    all_words: Tensor


def similarity_distillation_loss(
    pictures: Tensor,
    words: Tensor,
    scale: Tensor,
    teachers: TeacherEmbeddings,
    *,
    all_pictures: Tensor,
    all_words: Tensor,
    teacher_scale: float = 100.0,
) -> Tensor:
    """Cross-entropy of n pairs' shares of similarity with those of the teachers, whose mean is taken (MobileCLIP).

    In both directions, halved; arguments as for `contrastive_loss`.
    """

    def one_way(own: Tensor, others: Tensor, teacher_own: Tensor, teacher_others: Tensor) -> Tensor:
        similar = teacher_scale * torch.einsum("nmd,kmd->mnk", teacher_own, teacher_others)
        wanted = similar.softmax(-1).mean(0)
        return F.cross_entropy(scale * own @ others.T, wanted)

    by_picture = one_way(pictures, all_words, teachers.pictures, teachers.all_words)
    by_words = one_way(words, all_pictures, teachers.words, teachers.all_pictures)
    return (by_picture + by_words) / 2
