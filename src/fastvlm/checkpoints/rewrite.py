"""From one layout to another: a checkpoint is read, and written again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.load import load_stored
from fastvlm.checkpoints.precision import DTYPES
from fastvlm.checkpoints.save import MAX_SHARD_BYTES, save_checkpoint
from fastvlm.checkpoints.stored import Layout, read_checkpoint
from fastvlm.errors import CheckpointError


def rewrite_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    layout: Layout,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    encoder_ranges: Mapping[str, float] | None = None,
    fuse: bool = False,
) -> Path:
    """Read a model (a folder, a hub id, or `embedded`) and write it into a new folder; returns that folder.

    layout: `fastvlm` keeps the encoder's form and its CLIP head, the foreign ones hold what their programs know.
    dtype: `float32`, `bfloat16` or `float16` for all weights, None keeps every bit. encoder_ranges: of a calibration of
    the source, for the layout `fastvlm`; None keeps the source's own. fuse: write the encoder in its fused form, for
    answering, also where the layout could hold the form of training. The licence files come along.
    The folder appears whole or not at all, also where writing is interrupted.
    Raises CheckpointError for an unknown precision, a source that is not whole, or a folder that is not empty.
    """
    if dtype is not None and dtype not in DTYPES:
        raise CheckpointError(f"Expected a precision of {', '.join(DTYPES)}, got {dtype!r}.")
    if encoder_ranges is not None and layout != "fastvlm":
        raise CheckpointError(f"Expected the layout fastvlm for a calibrated checkpoint, got {layout}.")
    stored = read_checkpoint(resolve(source))
    loaded = load_stored(stored, form="fused" if fuse else "stored", clip_head="keep")
    if encoder_ranges is None and layout == "fastvlm":
        encoder_ranges = stored.encoder_ranges
    return save_checkpoint(
        folder,
        loaded.model,
        loaded.config,
        loaded.tokenizer,
        layout=layout,
        dtype=DTYPES[dtype] if dtype is not None else None,
        max_shard_bytes=max_shard_bytes,
        derived_from=loaded.folder,
        encoder_ranges=encoder_ranges,
    )
