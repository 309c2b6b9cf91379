"""From the encoder's width to the decoder's: the two-layer connector of LLaVA-1.5 (`mlp2x_gelu`)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear, exact GELU, linear (paper section 3.1)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_width, out_width)
        self.linear_2 = nn.Linear(out_width, out_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn ... x in_width into ... x out_width."""
        projected: Tensor = self.linear_2(F.gelu(self.linear_1(tokens)))
        return projected
