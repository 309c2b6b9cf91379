"""CLIP's text transformer: captions to embeddings (paper section 3.2, after MobileCLIP)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastvlm.models.attention import attend
from fastvlm.models.text.config import TextConfig


class TextLayer(nn.Module):
    """Self-attention, then two linear layers with GELU, each normalised before and added after."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads, self.is_causal = config.num_heads, config.is_causal
        self.attention_norm = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.feed_forward_width)
        self.down = nn.Linear(config.feed_forward_width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Refine B x T x width."""
        hidden = hidden + self._attend(self.attention_norm(hidden))
        refined: Tensor = hidden + self.down(F.gelu(self.up(self.feed_forward_norm(hidden))))
        return refined

    def _attend(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.query_key_value(hidden).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        mixed = attend(query, key, value, is_causal=self.is_causal)
        attended: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return attended


class TextTower(nn.Module):
    """Embeds captions: what stands at a caption's first end token, as in CLIP. Padding is attended to, as there."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Parameter(torch.empty(config.width, config.output_width))
        self.init_weights()

    def init_weights(self) -> None:
        """Draw fresh weights with CLIP's deviations, which shrink with width and depth."""
        width = self.config.width
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.projection, std=width**-0.5)
        residual_std = width**-0.5 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.layers.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                is_residual = name.endswith(("output.weight", "down.weight"))
                std = (
                    residual_std if is_residual else (2 * width) ** -0.5 if name.endswith("up.weight") else width**-0.5
                )
                nn.init.normal_(parameter, std=std)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Turn B x T ids, T at most the context length, into B x output width, not normalised."""
        hidden = self.embed_tokens(token_ids) + self.positions[: token_ids.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        places = (token_ids == self.config.end_token_id).int().argmax(1)
        ends = hidden[torch.arange(len(hidden), device=hidden.device), places]
        embedding: Tensor = self.norm(ends) @ self.projection
        return embedding
