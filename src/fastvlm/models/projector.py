"""From the encoder's width to the decoder's: the two-layer connector of LLaVA-1.5 (`mlp2x_gelu`)."""

from __future__ import annotations

import torch
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

    @torch.no_grad()
    def begin_linear(self, *, gain: float, scale: float) -> None:
        """Draw weights with which it is nearly a linear map, as wide a one as its output allows.

        GELU leaves what is well above zero as it is, so a bias of 4 holds everything there; with the usual weights it
        drops half of its input, and of 256 numbers 128 are too few for what a page says in one visual token. gain: what
        brings the input to a deviation of one or less. scale: the deviation of the output for that.
        """
        straight = 4.0
        nn.init.orthogonal_(self.linear_1.weight, gain)
        nn.init.constant_(self.linear_1.bias, straight)
        nn.init.orthogonal_(self.linear_2.weight, scale)
        self.linear_2.bias.copy_(-straight * self.linear_2.weight.sum(1))
