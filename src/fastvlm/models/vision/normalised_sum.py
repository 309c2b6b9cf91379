"""The sum of normalised branches while they learn, in few passes over their maps.

torch's BatchNorm on processors passes several times over every map, slowly where a map has fewer channels than a vector
has lanes, and every branch and every addition passes again. What branches add up to is, channel by channel, a straight
function of few maps, so that their moments and one weighted sum are enough, in both directions (`kernels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastvlm.models.vision import kernels

_MOST_MAPS = 2


class Branch(NamedTuple):
    """A normalised map. source: which of the maps. scale: C, by which the map is multiplied before it is normalised (a
    depthwise 1 x 1 convolution). share: C, by which the result is multiplied.
    """

    source: int
    norm: nn.BatchNorm2d
    scale: Tensor | None = None
    share: Tensor | None = None


def normalised_sum(maps: Sequence[Tensor], branches: Sequence[Branch], *, has_residual: bool = False) -> Tensor:
    """Add up share * norm(scale * map) over all branches, and the first map itself with `has_residual`.

    maps: B x C x H x W each. Learns and keeps statistics exactly as the norms would when called; of their hooks those
    that look at the input are called.
    """
    norms = [branch.norm for branch in branches]
    if len(maps) > _MOST_MAPS or not all(map(kernels.suit, maps)) or not all(map(_learns_here, norms)):
        return _one_by_one(maps, branches, has_residual=has_residual)
    for branch in branches:
        for hook in branch.norm._forward_pre_hooks.values():
            hook(branch.norm, (maps[branch.source],))
    total, means, variances = _NormalisedSum.apply(  # type: ignore[no-untyped-call]
        [branch.source for branch in branches],
        [norm.eps for norm in norms],
        has_residual,
        *(branch.scale for branch in branches),
        *(branch.share for branch in branches),
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *maps,
    )
    _keep_statistics(branches, means, variances, count=maps[0].numel() // maps[0].shape[1])
    summed: Tensor = total
    return summed


def _learns_here(norm: nn.BatchNorm2d) -> bool:
    """Whether a norm takes its statistics from the batch, in this process alone, and keeps a running mean of them."""
    return type(norm) is nn.BatchNorm2d and norm.training and norm.momentum is not None and norm.track_running_stats


def _one_by_one(maps: Sequence[Tensor], branches: Sequence[Branch], *, has_residual: bool) -> Tensor:
    total = maps[0] if has_residual else None
    for branch in branches:
        map_ = maps[branch.source]
        if branch.scale is not None:
            map_ = map_ * branch.scale[:, None, None]
        normalised = branch.norm(map_)
        if branch.share is not None:
            normalised = normalised * branch.share[:, None, None]
        total = normalised if total is None else total + normalised
    assert total is not None
    return total


class _NormalisedSum(torch.autograd.Function):
    """The sum over branches of share * (gain * (scale * map - scale * mean) * rate + bias), where rate is
    (scale^2 * variance + epsilon)^-1/2, and the moments that it was normalised by, maps x C each.
    """

    @staticmethod
    def forward(
        ctx: Any, sources: list[int], epsilons: list[float], has_residual: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """tensors: the scale of each branch, then the shares, gains and biases, then the maps."""
        ctx.rest = (sources, epsilons, has_residual)
        *given, maps = _unpacked(tensors, len(sources))
        found = torch.ops.fastvlm.normalised_sum(maps, sources, *given, epsilons, has_residual)
        total, means, variances = found
        ctx.mark_non_differentiable(means, variances)
        ctx.save_for_backward(means, variances, *tensors)
        return total, means, variances

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
        """Gradients of all tensors; those of the maps include what reaches them by way of their moments."""
        sources, epsilons, has_residual = ctx.rest
        means, variances, *tensors = ctx.saved_tensors
        *given, maps = _unpacked(tensors, len(sources))
        *of_given, of_maps = torch.ops.fastvlm.normalised_sum_gradients(
            gradient, maps, sources, *given, epsilons, has_residual, means, variances
        )
        rows = [row for table in of_given for row in table.unbind()]
        wanted = [row if is_wanted else None for row, is_wanted in zip(rows, ctx.needs_input_grad[3:], strict=False)]
        return None, None, None, *wanted, *of_maps


def _unpacked(tensors: Sequence[Tensor | None], num_branches: int) -> list[list[Any]]:
    """Scales, shares, gains, biases and maps."""
    cuts = [number * num_branches for number in range(5)]
    return [list(tensors[first:end]) for first, end in zip(cuts, [*cuts[1:], len(tensors)], strict=True)]


@torch.no_grad()
def _keep_statistics(branches: Sequence[Branch], means: Tensor, variances: Tensor, *, count: int) -> None:
    """Move the running statistics of each norm as torch does, with variances that are not biased."""
    mean_of, variance_of = means.unbind(), (variances * (count / (count - 1))).unbind()
    for branch in branches:
        norm, mean, variance = branch.norm, mean_of[branch.source], variance_of[branch.source]
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        assert norm.momentum is not None
        if branch.scale is not None:
            mean, variance = branch.scale * mean, branch.scale.square() * variance
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance, norm.momentum)
        norm.num_batches_tracked += 1
