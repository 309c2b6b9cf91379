"""Activations that are computed again give the same gradients, from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM

VISION = FastViTHDConfig(depths=(1, 1, 2, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train")
DECODER = DecoderConfig(
    vocabulary_size=50, width=32, num_layers=3, num_heads=2, num_key_value_heads=1, feed_forward_width=64, head_dim=16,
    max_positions=64,
)  # fmt: skip


def step(model: FastVLM) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Gradients, statistics, and the numbers that are kept between the two directions."""
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.numel()
        return value

    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(3, 3, 64, 128, generator=generator)
    ids = torch.randint(0, 50, (3, 9), generator=generator)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        logits = model(
            model.encode(pixels).flatten(0, 1),
            token_ids=ids,
            is_visual=torch.arange(9).expand(3, 9) < 2,
            positions=torch.arange(9).expand(3, 9),
        )
    logits.square().mean().backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return gradients, {name: value.clone() for name, value in model.named_buffers()}, sum(kept.values())


@pytest.mark.parametrize("keeps_statistics", [False, True])
def test_the_same_gradients_and_statistics_from_less_memory(keeps_statistics: bool) -> None:
    results = []
    for wanted in (False, True):
        torch.manual_seed(0)
        model = FastVLM(VLMConfig(vision=VISION, decoder=DECODER))
        model.recompute_activations(wanted)
        model.train()
        if keeps_statistics:
            model.vision.eval()
        results.append(step(model))
    (gradients, statistics, kept), (again, statistics_again, kept_again) = results
    assert gradients.keys() == again.keys()
    for name, value in gradients.items():
        torch.testing.assert_close(again[name], value)
    for name, value in statistics.items():
        assert torch.equal(statistics_again[name], value), name
    assert kept_again < (0.6 if keeps_statistics else 0.95) * kept


def test_attention_is_computed_the_same_way_again() -> None:
    """What chose attention's way, as in training on GPUs, is left before the way back begins."""
    torch.manual_seed(0)
    model = FastVLM(VLMConfig(vision=VISION, decoder=DECODER))
    model.recompute_activations(True)
    ids = torch.randint(0, 50, (3, 9))
    mask = torch.ones(9, 9, dtype=torch.bool).tril().expand(3, 1, 9, 9)
    with sdpa_kernel(SDPBackend.MATH):
        logits = model(
            None,
            token_ids=ids,
            is_visual=torch.zeros(3, 9, dtype=torch.bool),
            positions=torch.arange(9).expand(3, 9),
            mask=mask,
        )
    logits.float().square().mean().backward()
    assert model.decoder.layers[0].attention.query.weight.grad is not None
