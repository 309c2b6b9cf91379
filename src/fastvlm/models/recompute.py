"""Layers whose activations are computed again on the way back instead of being kept, for memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def apply(layer: nn.Module, *inputs: Any, is_recomputed: bool, **options: Any) -> Tensor:
    """Call a layer; with `is_recomputed` and gradients wanted, keep its inputs alone (gradient checkpointing).

    A layer that learns statistics of its batches would learn them twice and keeps everything instead.
    """
    if is_recomputed and torch.is_grad_enabled() and not _learns_statistics(layer):
        again: Tensor = checkpoint(layer, *inputs, use_reentrant=False, **options)
        return again
    out: Tensor = layer(*inputs, **options)
    return out


def _learns_statistics(layer: nn.Module) -> bool:
    return any(part.training and isinstance(part, nn.modules.batchnorm._BatchNorm) for part in layer.modules())
