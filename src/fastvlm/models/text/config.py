"""What a text tower is made of. Free of torch, so that everything can read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The shape of CLIP's text transformer (MobileCLIP-L's, which FastViTHD was pretrained with, by default).

    context_length: tokens of a caption, start and end included; shorter ones are padded. output_width: of the
    embedding that both towers share. end_token_id: of the token that ends a caption, whose place becomes its embedding.
    is_causal: whether a token sees only what stands before it.
    """

    vocabulary_size: int = 49_408
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    feed_forward_width: int = 3072
    context_length: int = 77
    output_width: int = 768
    end_token_id: int = 49_407
    is_causal: bool = False


PRESETS: dict[str, TextConfig] = {
    "mobileclip-l": TextConfig(),
    "nano": TextConfig(
        vocabulary_size=1024,
        width=128,
        num_layers=3,
        num_heads=4,
        feed_forward_width=512,
        context_length=32,
        output_width=128,
        end_token_id=1,
    ),
}
"""The text tower of the paper's encoder by name, and a small one."""
