"""Layers whose activations are computed again on the way back instead of being kept, for memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


def apply(layer: nn.Module, *inputs: Any, is_recomputed: bool, **options: Any) -> Tensor:
    """Call a layer; with `is_recomputed` and gradients wanted, keep its inputs alone (gradient checkpointing).

    A layer that learns statistics of its batches would learn them twice and keeps everything instead.
    """
    if is_recomputed and torch.is_grad_enabled() and not _learns_statistics(layer):
        contexts = partial(_contexts, _attention_backends())
        again: Tensor = checkpoint(layer, *inputs, use_reentrant=False, context_fn=contexts, **options)
        return again
    out: Tensor = layer(*inputs, **options)
    return out


def _contexts(backends: list[SDPBackend]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first computing and around the second, which is outside of what chose attention's way at first."""
    return nullcontext(), sdpa_kernel(backends)


def _attention_backends() -> list[SDPBackend]:
    """The ways to compute attention that are allowed here and now."""
    settings: Any = torch.backends.cuda  # they are processors' too
    allowed = {
        SDPBackend.MATH: settings.math_sdp_enabled(),
        SDPBackend.FLASH_ATTENTION: settings.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: settings.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: settings.cudnn_sdp_enabled(),
    }
    return [backend for backend, is_allowed in allowed.items() if is_allowed]


def _learns_statistics(layer: nn.Module) -> bool:
    return any(part.training and isinstance(part, nn.modules.batchnorm._BatchNorm) for part in layer.modules())
