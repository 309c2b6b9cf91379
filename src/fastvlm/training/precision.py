"""In which precision a machine trains fastest: bfloat16 where it computes in it, weights and losses in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastvlm.models.vision.fastvithd import FastViTHD

_GPU_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Not cuDNN's, which prepares every new length of a row for seconds."""


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster than in float32: GPUs that have it, CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Compute products in bfloat16 where that is fast; a no-op elsewhere.

    Weights stay in float32. On processors a convolution and attention choose for themselves what they compute how (see
    `vision.convolution` and `attention` of the models). Callers choose what runs inside.
    """
    if not has_fast_bfloat16(device):
        yield
    elif device.type == "cpu":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    else:
        with torch.autocast(device.type, dtype=torch.bfloat16), sdpa_kernel(_GPU_ATTENTION):
            yield


@contextmanager
def encoder_precision(encoder: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute an encoder in mixed precision where it gains by that: on GPUs, and FastViTHD while it learns.

    On processors the convolutions of others, and what none learns from, stay in float32.
    """
    if device.type == "cpu" and not (isinstance(encoder, FastViTHD) and torch.is_grad_enabled()):
        yield
        return
    with mixed_precision(device):
        yield
