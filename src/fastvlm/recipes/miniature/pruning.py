"""Choosing fewer visual tokens of a finished encoder, in the ways that the paper compares itself with (section 4.2).

All leave the encoder and the decoder as they were trained. What is kept stays in its order, one after the other.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from fastvlm.errors import TrainingError
from fastvlm.models.vision.fastvithd import SelfAttention

Method = Literal["random", "uniform", "pooling", "attention", "similarity"]
METHODS: tuple[Method, ...] = get_args(Method)


class Pruned(nn.Module):
    """An encoder of square pictures of which `side` * `side` tokens are kept; its maps are one row of tokens.

    random: any, by a seed. uniform: the nearest to the places of a coarser grid. pooling: means of such places.
    attention: those that the other tokens attend to most in the last layer of attention. similarity: one after the
    other, the least similar to all that are kept already, beginning with the longest.
    """

    def __init__(self, encoder: nn.Module, method: Method, *, side: int, seed: int = 0) -> None:
        super().__init__()
        self.encoder, self.method, self.side = encoder, method, side
        self.generator = torch.Generator().manual_seed(seed)
        self._attended: Tensor | None = None
        self._watching: RemovableHandle | None = None
        if method == "attention":
            layers = [part for part in encoder.modules() if isinstance(part, SelfAttention)]
            if not layers:
                raise TrainingError("Expected an encoder with attention to prune by it, got none. Prune another way.")
            self._watching = layers[-1].register_forward_pre_hook(self._watch)

    def release(self) -> nn.Module:
        """Leave the encoder as it was, and return it."""
        if self._watching is not None:
            self._watching.remove()
        return self.encoder

    def forward_stages(self, pixels: Tensor) -> list[Tensor]:
        """The kept tokens, as a map of B x C x 1 x side * side."""
        output = self.encoder.forward_stages(pixels)[-1]  # type: ignore[operator]  # as all encoders here have it
        if self.method == "pooling":
            return [F.adaptive_avg_pool2d(output, self.side).flatten(2)[:, :, None]]
        tokens = output.flatten(2)
        chosen = self._chosen(tokens, output.shape[2]).sort(1).values
        return [tokens.gather(2, chosen[:, None].expand(-1, tokens.shape[1], -1))[:, :, None]]

    def _chosen(self, tokens: Tensor, side: int) -> Tensor:
        """Numbers of the kept tokens, B x side * side, of B x C x T."""
        num, keep = len(tokens), self.side**2
        if self.method == "random":
            return torch.rand(num, tokens.shape[2], generator=self.generator).argsort(1)[:, :keep]
        if self.method == "uniform":
            places = ((torch.arange(self.side) + 0.5) * side / self.side).long()
            return (places[:, None] * side + places).flatten().expand(num, -1)
        if self.method == "attention":
            assert self._attended is not None
            return self._attended.topk(keep, dim=1).indices
        return _least_similar(tokens, keep)

    def _watch(self, attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(attention, SelfAttention)
        tokens = inputs[0].flatten(2).transpose(1, 2)
        head_dim = attention.head_dim
        query, key, _ = attention.qkv(tokens).unflatten(2, (3, -1, head_dim)).permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(2, 3) / head_dim**0.5).softmax(3)
        self._attended = shares.mean((1, 2))


def _least_similar(tokens: Tensor, keep: int) -> Tensor:
    lengths = tokens.norm(dim=1)
    unit = F.normalize(tokens, dim=1)
    similarity = unit.transpose(1, 2) @ unit
    chosen = [lengths.argmax(1)]
    nearest = torch.full_like(lengths, -2.0)
    rows = torch.arange(len(tokens))
    for _ in range(keep - 1):
        nearest = torch.maximum(nearest, similarity[rows, chosen[-1]])
        nearest[rows, chosen[-1]] = 2.0
        chosen.append(nearest.argmin(1))
    return torch.stack(chosen, 1)
