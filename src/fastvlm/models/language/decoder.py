"""The language model: Qwen2 and Llama, which differ in biases and in numbers only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastvlm.models import recompute
from fastvlm.models.attention import attend
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.language.kv_cache import KVCache


class RMSNorm(nn.Module):
    """Scale each vector to a root mean square of one; the statistics are float32 whatever the activations are."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise ... x width; the result is rounded before it meets the weight, as the released weights expect."""
        exact = hidden.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(hidden.dtype)


def rotary_angles(positions: Tensor, *, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (RoFormer), in float32.

    positions: batch x T. Returns two of batch x 1 x T x head_dim; the two halves of a head share their angles.
    """
    # Computed here and not kept as a buffer, which a cast of the whole model would round to bfloat16.
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    frequencies = 1.0 / torch.pow(theta, exponents)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine.to(heads.dtype) + torch.cat((-second, first), dim=-1) * sine.to(heads.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        query_width = config.num_heads * config.head_dim
        key_value_width = config.num_key_value_heads * config.head_dim
        self.query = nn.Linear(config.width, query_width, bias=config.has_attention_bias)
        self.key = nn.Linear(config.width, key_value_width, bias=config.has_attention_bias)
        self.value = nn.Linear(config.width, key_value_width, bias=config.has_attention_bias)
        self.output = nn.Linear(query_width, config.width, bias=False)

    def forward(
        self, hidden: Tensor, *, angles: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Mix B x T x width over the positions that `mask` allows; None is causal, or everything for one position."""
        query = _rotate(self._split(self.query(hidden)), *angles)
        key = _rotate(self._split(self.key(hidden)), *angles)
        value = self._split(self.value(hidden))
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        is_causal = mask is None and query.shape[2] > 1
        mixed = attend(query, key, value, mask, is_causal=is_causal)
        projected: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return projected

    def scores(
        self, hidden: Tensor, *, angles: tuple[Tensor, Tensor], heads: range, rows: Tensor, positions: Tensor
    ) -> Tensor:
        """What the softmax of neighbouring heads is taken of, at K single positions: K x heads x T, before the mask.

        hidden: B x T x width, the normalised input. rows, positions: K, which of the B x T positions ask.
        """
        groups = [head * self.key.out_features // self.query.out_features for head in heads]
        query = _rotate(self._heads(self.query, hidden, heads), *angles)
        key = _rotate(self._heads(self.key, hidden, range(groups[0], groups[-1] + 1)), *angles)
        own = torch.tensor([group - groups[0] for group in groups], device=key.device)
        every = query @ key.index_select(1, own).transpose(2, 3) * self.head_dim**-0.5
        # Selected, not indexed: the gradient of an index is summed in no fixed order, so that no run could be repeated.
        asked: Tensor = every.transpose(1, 2).flatten(0, 1).index_select(0, rows * hidden.shape[1] + positions)
        return asked

    def _heads(self, projection: nn.Linear, hidden: Tensor, heads: range) -> Tensor:
        """Project onto the numbers of these heads only: B x heads x T x head_dim."""
        chosen = slice(heads.start * self.head_dim, heads.stop * self.head_dim)
        bias = None if projection.bias is None else projection.bias[chosen]
        return self._split(F.linear(hidden, projection.weight[chosen], bias))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], -1, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU: a gated hidden layer without biases."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.feed_forward_width, bias=False)
        self.up = nn.Linear(config.width, config.feed_forward_width, bias=False)
        self.down = nn.Linear(config.feed_forward_width, config.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform each position of ... x width on its own."""
        transformed: Tensor = self.down(F.silu(self.gate(hidden)) * self.up(hidden))
        return transformed


class DecoderLayer(nn.Module):
    """Attention, then feed forward, each normalised before and added after."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(
        self, hidden: Tensor, *, angles: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Refine B x T x width."""
        hidden = hidden + self.attention(self.attention_norm(hidden), angles=angles, mask=mask, cache=cache)
        refined: Tensor = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return refined


class Decoder(nn.Module):
    """A causal language model over embeddings; with `has_tied_head` it owns no head of its own.

    recomputes: in training, layers keep their inputs alone and compute the rest again on the way back.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.recomputes = False
        self.embed_tokens = nn.Embedding(config.vocabulary_size, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        if not config.has_tied_head:
            self.head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        self.init_weights()

    def init_weights(self, std: float = 0.02) -> None:
        """Draw fresh weights: normal with `std`, smaller where a layer writes to the residual stream (GPT-2)."""
        residual_std = std / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                is_residual = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                nn.init.normal_(parameter, std=residual_std if is_residual else std)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Look up words: B x T ids to B x T x width."""
        embeddings: Tensor = self.embed_tokens(token_ids)
        return embeddings

    def forward(
        self, embeddings: Tensor, *, positions: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Read B x T x width embeddings; returns hidden states of the same shape, after the last norm.

        positions: B x T, rotary positions. mask: bool, B x 1 x T x S, True where a position may attend; S counts what
        the cache holds first. Without a mask, attention is causal. No row of a mask may be all False.
        """
        num_cached = cache.num_positions if cache is not None else 0
        num_new = embeddings.shape[1]
        if mask is None and num_cached > 0 and num_new > 1:
            mask = _causal_after(num_cached, num_new, embeddings.device)
        angles = rotary_angles(positions, head_dim=self.config.head_dim, theta=self.config.rope_theta)
        hidden = embeddings
        for layer in self.layers:
            hidden = recompute.apply(
                layer, hidden, is_recomputed=self.recomputes, angles=angles, mask=mask, cache=cache
            )
        normalised: Tensor = self.norm(hidden)
        return normalised

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary: ... x width to ... x vocabulary. Select the rows first: the head is costly."""
        weight: Tensor = self.embed_tokens.weight if self.config.has_tied_head else self.head.weight
        # One two-dimensional product: a batched one would copy the whole vocabulary's weight.
        rows = hidden.reshape(-1, hidden.shape[-1]).contiguous()
        return F.linear(rows, weight).view(*hidden.shape[:-1], -1)


def _causal_after(num_cached: int, num_new: int, device: torch.device) -> Tensor:
    allowed = torch.ones(num_new, num_cached + num_new, dtype=torch.bool, device=device)
    return allowed.tril(num_cached)[None, None]
