"""What a decoder is made of. Free of torch, so that every runtime can read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The shape of a Qwen2 or Llama decoder; the two differ in `has_attention_bias` and in numbers.

    width: channels of a token. num_key_value_heads: groups of grouped-query attention. feed_forward_width: hidden
    width of SwiGLU. has_attention_bias: biases on query, key and value (Qwen2). has_tied_head: the output head is
    the embedding table. max_positions: longest context in tokens.
    """

    vocabulary_size: int
    width: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    feed_forward_width: int
    head_dim: int
    max_positions: int
    rope_theta: float = 1_000_000.0
    norm_epsilon: float = 1e-6
    has_attention_bias: bool = True
    has_tied_head: bool = True

    def rotary_frequencies(self) -> npt.NDArray[np.float32]:
        """By how much each pair of channels of a head turns from one position to the next: head_dim / 2 angles."""
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float32) / self.head_dim
        return (1.0 / np.power(np.float32(self.rope_theta), exponents)).astype(np.float32)


PRESETS: dict[str, DecoderConfig] = {
    "qwen2-0.5b": DecoderConfig(
        vocabulary_size=151_936, width=896, num_layers=24, num_heads=14, num_key_value_heads=2,
        feed_forward_width=4864, head_dim=64, max_positions=32_768,
    ),
    "qwen2-1.5b": DecoderConfig(
        vocabulary_size=151_936, width=1536, num_layers=28, num_heads=12, num_key_value_heads=2,
        feed_forward_width=8960, head_dim=128, max_positions=32_768,
    ),
    "qwen2-7b": DecoderConfig(
        vocabulary_size=152_064, width=3584, num_layers=28, num_heads=28, num_key_value_heads=4,
        feed_forward_width=18_944, head_dim=128, max_positions=32_768, has_tied_head=False,
    ),
    "vicuna-7b": DecoderConfig(
        vocabulary_size=32_000, width=4096, num_layers=32, num_heads=32, num_key_value_heads=32,
        feed_forward_width=11_008, head_dim=128, max_positions=4096, rope_theta=10_000.0, norm_epsilon=1e-5,
        has_attention_bias=False, has_tied_head=False,
    ),
}  # fmt: skip
"""The language models of the paper, by name."""
