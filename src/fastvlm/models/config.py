"""What a vision-language model is made of. Free of torch, so that every runtime can read it."""

from __future__ import annotations

from dataclasses import dataclass

from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """Encoder, projector (`mlp2x_gelu`: encoder width -> decoder width -> decoder width) and decoder."""

    vision: FastViTHDConfig
    decoder: DecoderConfig
