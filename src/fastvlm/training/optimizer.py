"""How parameters move: AdamW with decay on matrices only, and a learning rate that depends on the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW. learning_rate: the peak. warmup_steps: linear rise. clip_norm: largest gradient norm."""

    learning_rate: float
    warmup_steps: int
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    final_fraction: float = 0.0


def learning_rate(settings: OptimizerSettings, *, step: int, num_steps: int) -> float:
    """The rate of one step: a linear rise, then a cosine that ends, after the last step, at final_fraction of it."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, num_steps - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_fraction + (1 - settings.final_fraction) * cosine)


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the parameters that require gradients, in a fixed order; vectors and scales do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if _decays(p)], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if not _decays(p)], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
    )


def _decays(parameter: nn.Parameter) -> bool:
    """Matrices and kernels decay; biases, norms and per-channel scales (C or C x 1 x 1) do not."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]
