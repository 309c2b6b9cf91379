"""The pictures of a batch where they are trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.models.vision import gpu_convolution


def shown(pixels: Float32Array | UInt8Array, device: torch.device) -> Tensor:
    """The pixels of a batch on a device, N x 3 x H x W, laid out as its convolutions want; levels become pixels."""
    placed = torch.from_numpy(pixels).to(device)
    if pixels.dtype == np.uint8:
        placed = placed.permute(0, 3, 1, 2).float().div_(255)
    return placed.contiguous(memory_format=gpu_convolution.memory_format(device))
