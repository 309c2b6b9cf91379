"""What a FastViTHD encoder is made of. Free of torch, so that every runtime can read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["train", "fused"]
MultiScale = Literal["none", "average", "depthwise"]
TokenMixer = Literal["repmixer", "attention"]


@dataclass(frozen=True, kw_only=True)
class FastViTHDConfig:
    """The shape of a FastViTHD encoder (paper section 3.2 and appendix B).

    depths and widths: blocks and channels of each stage. token_mixers: what mixes tokens in each stage; a stage
    with attention is preceded by a convolutional position encoding. feed_forward_ratio: hidden over stage width.
    expansion_ratio: width of the final map over the last stage's. clip_dim: width of the CLIP embedding, or None
    for a tower without its head. form: with the parallel branches of training, or fused as released.
    multi_scale: pools the maps of the earlier stages to the last one's size and appends their channels
    (paper table 2; no released checkpoint has it).
    """

    depths: tuple[int, ...] = (2, 12, 24, 4, 2)
    widths: tuple[int, ...] = (96, 192, 384, 768, 1536)
    token_mixers: tuple[TokenMixer, ...] = ("repmixer", "repmixer", "repmixer", "attention", "attention")
    feed_forward_ratio: float = 4.0
    head_dim: int = 32
    expansion_ratio: float = 2.0
    squeeze_ratio: float = 1 / 16
    layer_scale_init: float = 1e-5
    clip_dim: int | None = None
    form: Form = "fused"
    multi_scale: MultiScale = "none"

    @property
    def stride_px(self) -> int:
        """Pixels on a side that become one visual token: 4 in the stem, 2 between stages."""
        return 4 << (len(self.depths) - 1)

    @property
    def output_width(self) -> int:
        """Channels of one visual token before the projector."""
        expanded = int(self.widths[-1] * self.expansion_ratio)
        return expanded + (sum(self.widths[1:-1]) if self.multi_scale != "none" else 0)


PRESETS: dict[str, FastViTHDConfig] = {
    "fastvithd": FastViTHDConfig(),
    "fastvithd-clip": FastViTHDConfig(clip_dim=768),
    "fastvithd-nano": FastViTHDConfig(
        depths=(1, 1, 3, 2, 2), widths=(8, 16, 64, 128, 256), layer_scale_init=1.0, multi_scale="average"
    ),
}
"""The paper's encoder, with and without its CLIP head, and that of the recipe `scenes`, by name."""
