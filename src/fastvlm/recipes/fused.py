"""The end of a run that trains a model from nothing: its encoder fused and compared, its checkpoint written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.errors import TrainingError
from fastvlm.models.vision.fastvithd import fuse
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer

_CHECKED_PX = (128, 192)


def save_fused(
    folder: Path, model: FastVLM, tokenizer: Tokenizer, *, name: str, processing: ProcessingConfig, template: str
) -> None:
    """Fuse the encoder and write the checkpoint in bfloat16; the model is on the processor afterwards.

    Raises TrainingError where the fused encoder does not give the maps of the trained one, within 1e-3 of their size.
    """
    model = model.cpu()
    fused = FastVLM(replace(model.config, vision=replace(model.config.vision, form="fused")))
    fused.vision = fuse(model.vision)
    _check(model, fused)
    fused.projector, fused.decoder = model.projector, model.decoder
    config = ModelConfig(
        name=name,
        vlm=fused.config,
        processing=processing,
        template=TEMPLATES[template],
        eos_token_ids=tuple(tokenizer.token_id(token) for token in TEMPLATES[template].stop_tokens),
        licence="Apache-2.0",
    )
    save_checkpoint(folder, fused, config, tokenizer, dtype=torch.bfloat16)


@torch.no_grad()
def _check(model: FastVLM, fused: FastVLM) -> None:
    pixels = torch.rand(2, 3, *_CHECKED_PX, generator=torch.Generator().manual_seed(0))
    expected, got = model.vision(pixels), fused.vision(pixels)
    error = float((expected - got).abs().max() / expected.abs().max())
    if not error < 1e-3:
        raise TrainingError(f"Expected the fused encoder to agree with the trained one within 0.001, got {error:.2g}.")


def padded(vocabulary_size: int) -> int:
    """The next multiple of 64, which matrix products like."""
    return -(-vocabulary_size // 64) * 64
