"""What a model is made of, in numbers that a person asks for. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fastvlm.checkpoints.config import ModelConfig, config_to_dict
from fastvlm.checkpoints.image_modes import processing_in_mode
from fastvlm.checkpoints.stored import Layout, StoredCheckpoint
from fastvlm.checkpoints.strict import CLIP_HEAD
from fastvlm.checkpoints.tensors import BYTES_PER_NUMBER
from fastvlm.messages import ImagePart, user
from fastvlm.processing.config import ImageMode
from fastvlm.processing.prompt import render_text
from fastvlm.processing.tiling import ImageProcessor

_NO_PARAMETERS = (".num_batches_tracked", ".running_mean", ".running_var")
TYPICAL_PICTURE_PX = (1024, 768)


@dataclass(frozen=True)
class ModelSummary:
    """A checkpoint in numbers.

    num_parameters: of each part and of the `total`. weight_bytes: memory of all weights, by precision.
    cache_bytes_per_token: memory of one position of a conversation, by precision. prompt: a question with one image,
    as it is written down. end_tokens: what ends an answer, with the tokens' ids.
    visual_tokens: of a picture of 1024 x 768 pixels, by image mode.
    """

    folder: Path
    layout: Layout
    config: ModelConfig
    num_parameters: Mapping[str, int]
    stored_dtypes: tuple[str, ...]
    weight_bytes: Mapping[str, int]
    cache_bytes_per_token: Mapping[str, int]
    prompt: str
    end_tokens: Mapping[str, int]
    visual_tokens: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {
            "folder": str(self.folder),
            "layout": self.layout,
            "config": config_to_dict(self.config),
            "num_parameters": dict(self.num_parameters),
            "stored_dtypes": list(self.stored_dtypes),
            "weight_bytes": dict(self.weight_bytes),
            "cache_bytes_per_token": dict(self.cache_bytes_per_token),
            "prompt": self.prompt,
            "end_tokens": dict(self.end_tokens),
            "visual_tokens": dict(self.visual_tokens),
        }


def summarize(stored: StoredCheckpoint) -> ModelSummary:
    """Count the parameters that answering takes: without statistics of BatchNorm, and without a CLIP head."""
    tensors = {
        name: tensor
        for name, tensor in stored.tensors.items()
        if not name.endswith(_NO_PARAMETERS) and not name.startswith(CLIP_HEAD)
    }
    counts: dict[str, int] = {}
    for name, tensor in tensors.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(tensor.shape)
    total = sum(counts.values())
    decoder = stored.config.vlm.decoder
    numbers_per_token = 2 * decoder.num_layers * decoder.num_key_value_heads * decoder.head_dim
    texts = {number: text for text, number in stored.tokenizer.special_token_ids.items()}
    return ModelSummary(
        folder=stored.folder,
        layout=stored.layout,
        config=stored.config,
        num_parameters={**counts, "total": total},
        stored_dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        weight_bytes={name: total * size for name, size in BYTES_PER_NUMBER.items()},
        cache_bytes_per_token={name: numbers_per_token * size for name, size in BYTES_PER_NUMBER.items()},
        prompt=render_text([user(ImagePart(None), "QUESTION")], stored.config.template),
        end_tokens={texts.get(number, str(number)): number for number in stored.config.eos_token_ids},
        visual_tokens={
            mode: ImageProcessor(processing_in_mode(stored.config.processing, mode))
            .layout(*TYPICAL_PICTURE_PX)
            .num_visual_tokens
            for mode in get_args(ImageMode)
        },
    )
