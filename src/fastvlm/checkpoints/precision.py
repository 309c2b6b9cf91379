"""Precisions by name, as torch knows them."""

from __future__ import annotations

from copy import deepcopy

import torch

from fastvlm.checkpoints.tensors import BYTES_PER_NUMBER
from fastvlm.models.vision.fastvithd import FastViTHD, fuse

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in BYTES_PER_NUMBER}
"""Float16 overflows easily with weights trained in bfloat16, so it is never chosen by itself."""


def fuse_in_float32(encoder: FastViTHD, *, dtype: torch.dtype | None) -> FastViTHD:
    """Return the fused form of an encoder, which is left alone; a fused one is returned as it is.

    Sums and quotients of weights lose digits in 16 bits, so they are taken in float32 and the results cast, to
    `dtype` or to the encoder's own.
    """
    if encoder.config.form == "fused":
        return encoder
    own = next(encoder.parameters()).dtype
    precise = encoder if own == torch.float32 else deepcopy(encoder).float()
    return fuse(precise).to(dtype=dtype or own)
