"""Pools the maps of the earlier stages to the last one's grid and appends their channels (paper table 2, figure 2).

No released checkpoint has this, and the paper does not say which stages it takes; ours takes all but the first and
the last: three maps for FastViTHD, as the three pooling boxes of figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision.config import MultiScale
from fastvlm.models.vision.convolution import as_it_is


class MultiScaleAggregation(nn.Module):
    """Brings maps of B x C_i x H_i x W_i to the size of the last one and concatenates all channels."""

    def __init__(self, widths: Sequence[int], *, pooling: MultiScale) -> None:
        """Build one pool for each width; the i-th map from the end is 2**i times as large as the last map."""
        super().__init__()
        strides = [2 ** (len(widths) - index) for index in range(len(widths))]
        self.pools = nn.ModuleList(
            nn.Conv2d(width, width, stride, stride, groups=width) if pooling == "depthwise" else nn.AvgPool2d(stride)
            for width, stride in zip(widths, strides, strict=True)
        )

    def forward(self, maps: Sequence[Tensor], last: Tensor) -> Tensor:
        """Append the pooled `maps` to `last`, B x C x H x W."""
        with as_it_is(last):
            pooled = [
                F.adaptive_avg_pool2d(pool(features), (last.shape[2], last.shape[3]))
                for pool, features in zip(self.pools, maps, strict=True)
            ]
        return torch.cat([last, *pooled], dim=1)
