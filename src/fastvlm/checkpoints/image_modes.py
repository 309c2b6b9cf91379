"""Another way of cutting pictures than the one that a checkpoint asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from fastvlm.checkpoints.convert.foreign import native_size_px
from fastvlm.errors import CheckpointError
from fastvlm.processing.config import ImageMode, ProcessingConfig
from fastvlm.tiles import ENCODER_STRIDE_PX

_GRIDS = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))
"""Tiles across and down, for checkpoints that name none: those of LLaVA-NeXT."""


def processing_in_mode(processing: ProcessingConfig, mode: str | None) -> ProcessingConfig:
    """Return the preprocessing with another image mode, at a size that costs as many tokens; None changes nothing.

    Raises CheckpointError for an unknown mode.
    """
    if mode is None or mode == processing.mode:
        return processing
    known = {name: name for name in get_args(ImageMode)}
    if mode not in known:
        raise CheckpointError(f"Expected an image mode of {', '.join(known)}, got {mode!r}.")
    size_px = native_size_px(processing)
    changed = replace(processing, mode="pad", size_px=size_px, max_visual_tokens=(size_px // ENCODER_STRIDE_PX) ** 2)
    if mode == "anyres" and not changed.pinpoints:
        changed = replace(changed, pinpoints=tuple((across * size_px, down * size_px) for across, down in _GRIDS))
    return replace(changed, mode=known[mode])
