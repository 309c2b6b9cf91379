"""Two towers that put pictures and their captions near each other (paper section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastvlm.models.text.config import TextConfig
from fastvlm.models.text.transformer import TextTower
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD

_FIRST_SCALE, _LARGEST_SCALE = 1 / 0.07, 100.0


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Both towers; the encoder's `clip_dim` is the text tower's output width."""

    vision: FastViTHDConfig
    text: TextConfig

    def __post_init__(self) -> None:
        if self.vision.clip_dim != self.text.output_width:
            raise ValueError(
                f"Expected both towers to give embeddings of one width, got {self.vision.clip_dim} for pictures and "
                f"{self.text.output_width} for words."
            )


class CLIP(nn.Module):
    """FastViTHD with its CLIP head, a text tower, and the scale that their similarities are multiplied by."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = FastViTHD(config.vision)
        self.text = TextTower(config.text)
        # A vector of one: sharding takes no scalars.
        self.log_scale = nn.Parameter(torch.tensor([math.log(_FIRST_SCALE)]))

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """Turn B x 3 x H x W into B x width, of length one."""
        return F.normalize(self.vision.clip_embedding(pixels).float(), dim=-1)

    def embed_words(self, token_ids: Tensor) -> Tensor:
        """Turn B x T into B x width, of length one."""
        return F.normalize(self.text(token_ids).float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by, 100 at most, as in CLIP; above that it can still learn to be less."""
        excess = (self.log_scale - math.log(_LARGEST_SCALE)).clamp(min=0)
        return (self.log_scale - excess.detach()).exp().squeeze(0)
