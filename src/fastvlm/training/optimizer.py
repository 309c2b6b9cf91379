"""How parameters move: AdamW with decay on matrices only, Muon for the matrices of parts where asked,
and a learning rate that depends on the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastvlm.training.muon import Muon


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW. learning_rate: the peak. warmup_steps: linear rise. clip_norm: largest gradient norm.

    muon_parts: modules by the dotted end of their name, such as `decoder.layers`, whose matrices and kernels Muon moves
    (`muon.py`): it learns the same from fewer steps.
    """

    learning_rate: float
    warmup_steps: int
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    final_fraction: float = 0.0
    muon_parts: tuple[str, ...] = ()


def learning_rate(settings: OptimizerSettings, *, step: int, num_steps: int) -> float:
    """The rate of one step: a linear rise, then a cosine that ends, after the last step, at final_fraction of it."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, num_steps - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_fraction + (1 - settings.final_fraction) * cosine)


class JointOptimizer:
    """Several optimizers, each with parameters of its own, stepped, saved and restored as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move every parameter once."""
        for optimizer in self.optimizers:
            optimizer.step()

    def states(self) -> dict[int, dict[str, Tensor]]:
        """What the optimizers remember of each parameter, by its number; the numbers run on over the optimizers."""
        states: dict[int, dict[str, Tensor]] = {}
        for first, optimizer in zip(self._first_numbers(), self.optimizers, strict=True):
            states |= {first + number: state for number, state in optimizer.state_dict()["state"].items()}
        return states

    def restore(self, states: dict[int, dict[str, Tensor]]) -> None:
        """Take over what `states` gave."""
        firsts = self._first_numbers()
        for first, end, optimizer in zip(firsts, [*firsts[1:], math.inf], self.optimizers, strict=True):
            own = {number - first: state for number, state in states.items() if first <= number < end}
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})

    def _first_numbers(self) -> list[int]:
        sizes = [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in self.optimizers]
        return [sum(sizes[:index]) for index in range(len(sizes))]


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> JointOptimizer:
    """Optimize the parameters that require gradients, in a fixed order; vectors and scales do not decay."""
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    is_orthogonal = [_is_matrix(parameter) and _is_in(name, settings.muon_parts) for name, parameter in named]
    matrices = [parameter for (_, parameter), chosen in zip(named, is_orthogonal, strict=True) if chosen]
    parameters = [parameter for (_, parameter), chosen in zip(named, is_orthogonal, strict=True) if not chosen]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if _decays(p)], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if not _decays(p)], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
    )
    if not matrices:
        return JointOptimizer(adamw)
    muon = Muon(matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return JointOptimizer(muon, adamw)


def _is_in(name: str, parts: tuple[str, ...]) -> bool:
    return any(f".{part}." in f".{name}" for part in parts)


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether many inputs meet in each output: a matrix or a kernel, but not a depthwise one."""
    return parameter.ndim >= 2 and parameter.shape[1] > 1


def _decays(parameter: nn.Parameter) -> bool:
    """Matrices and kernels decay; biases, norms and per-channel scales (C or C x 1 x 1) do not."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]
