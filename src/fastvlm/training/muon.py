"""Muon (Jordan et al. 2024): momentum whose singular values are made alike before it moves a matrix.

torch.optim.Muon does the same in bfloat16 only, which is thirty times slower than float32 on processors without
instructions for it; this one works in bfloat16 only where that is fast, and on all matrices of one shape at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastvlm.training.precision import has_fast_bfloat16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_RMS_OF_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Moves matrices as far as AdamW would (Liu et al. 2025); a kernel is a matrix of a row for each output channel."""

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # there is no loss to evaluate again
        """Move every parameter that has a gradient; `closure` must be None."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[len(parameter), parameter[0].numel()].append(parameter)
            for parameters in by_shape.values():
                self._move(parameters, group)

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        directions = torch.stack([self._direction(parameter, group) for parameter in parameters])
        is_rounded = directions.dtype == torch.float32 and has_fast_bfloat16(directions.device)
        updates = orthogonalised(directions.bfloat16() if is_rounded else directions)
        rate = group["lr"] * _RMS_OF_ADAMW * max(updates.shape[1:]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(parameter), alpha=-rate)

    def _direction(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Nesterov's momentum of the gradient, as a matrix."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(momentum, group["momentum"]).flatten(1)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of K x m x n matrices near 1 by a few Newton-Schulz steps, keeping singular vectors."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    linear, cubic, quintic = _COEFFICIENTS
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return x.mT if is_tall else x
