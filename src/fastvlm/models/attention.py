"""Attention in the way that is fastest where it is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Softmax attention: B x heads x T x D queries over B x groups x S x D keys and values, heads a multiple of groups.

    mask: bool, what each position may attend to, at least something; None is everything, or what comes before it.
    """
    if _is_plain_faster(query, key, value):
        if is_causal:
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        return _plain(query, key.to(query.dtype), value.to(query.dtype), mask)
    is_grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=is_grouped)


def _is_plain_faster(*heads: Tensor) -> bool:
    """Whether torch's fused kernel is slower than plain steps: on processors, learning in bfloat16.

    torch's own plain steps compute in float32 there, and look for positions that may attend to nothing.
    """
    is_learned = torch.is_grad_enabled() and any(one.requires_grad for one in heads)
    return is_learned and heads[0].device.type == "cpu" and heads[0].dtype == torch.bfloat16


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    share = query.shape[1] // key.shape[1]
    if share > 1:
        key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        if mask is not None:
            scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
        mixed: Tensor = scores.softmax(-1) @ value
    return mixed
