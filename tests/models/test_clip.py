"""The text tower against transformers' own, and two towers that learn to find each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastvlm.models.clip import CLIP, CLIPConfig
from fastvlm.models.text.config import PRESETS, TextConfig
from fastvlm.models.text.transformer import TextTower
from fastvlm.models.vision.config import FastViTHDConfig

TEXT = TextConfig(
    vocabulary_size=50, width=32, num_layers=2, num_heads=4, feed_forward_width=64, context_length=12, output_width=16,
    end_token_id=49,
)  # fmt: skip
VISION = FastViTHDConfig(
    depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train", clip_dim=16
)


def captions(num: int = 3) -> torch.Tensor:
    ids = torch.randint(1, 48, (num, 12), generator=torch.Generator().manual_seed(0))
    for row, end in zip(ids, (5, 9, 11), strict=False):
        row[end], row[end + 1 :] = 49, 0
    return ids


@pytest.mark.parametrize("is_causal", [True, False])
def test_text_tower_is_that_of_transformers(is_causal: bool) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = TextTower(replace(TEXT, is_causal=is_causal)).eval()
    theirs = transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(
            vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=12, projection_dim=16, hidden_act="gelu", eos_token_id=49, bos_token_id=1,
            attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    state = {
        "text_model.embeddings.token_embedding.weight": ours.embed_tokens.weight,
        "text_model.embeddings.position_embedding.weight": ours.positions,
        "text_model.final_layer_norm.weight": ours.norm.weight,
        "text_model.final_layer_norm.bias": ours.norm.bias,
        "text_projection.weight": ours.projection.T,
    }
    for index, layer in enumerate(ours.layers):
        name = f"text_model.encoder.layers.{index}"
        parts = zip("qkv", layer.query_key_value.weight.chunk(3), layer.query_key_value.bias.chunk(3), strict=True)
        for part, weight, bias in parts:
            state |= {f"{name}.self_attn.{part}_proj.weight": weight, f"{name}.self_attn.{part}_proj.bias": bias}
        modules = {
            "self_attn.out_proj": layer.output, "layer_norm1": layer.attention_norm, "mlp.fc1": layer.up,
            "layer_norm2": layer.feed_forward_norm, "mlp.fc2": layer.down,
        }  # fmt: skip
        for theirs_name, module in modules.items():
            state |= {f"{name}.{theirs_name}.weight": module.weight, f"{name}.{theirs_name}.bias": module.bias}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    if not is_causal:
        _see_everything(theirs)
    with torch.no_grad():
        torch.testing.assert_close(ours(captions()), theirs(captions()).text_embeds, rtol=1e-4, atol=1e-5)


def _see_everything(model: torch.nn.Module) -> None:
    """transformers' text tower is causal only: its layers are given no mask."""
    for layer in model.text_model.encoder.layers:
        attend = layer.self_attn.forward

        def forward(*args: object, attend: object = attend, **kwargs: object) -> object:
            return attend(*args, **kwargs | {"attention_mask": None})  # type: ignore[operator]

        layer.self_attn.forward = forward
        layer.self_attn.is_causal = False


def test_the_papers_text_tower_has_its_parameters() -> None:
    """123.6 million, with MobileCLIP-S3."""
    with torch.device("meta"):
        tower = TextTower(PRESETS["mobileclip-l"])
    assert sum(parameter.numel() for parameter in tower.parameters()) / 1e6 == pytest.approx(123.6, abs=0.1)


def test_embeddings_have_length_one_and_scales_stay_below_a_hundred() -> None:
    torch.manual_seed(0)
    model = CLIP(CLIPConfig(vision=VISION, text=TEXT)).eval()
    with torch.no_grad():
        pictures = model.embed_pictures(torch.rand(2, 3, 64, 64))
        words = model.embed_words(captions())
        assert float(model.scale) == pytest.approx(1 / 0.07)
        model.log_scale.fill_(9.0)
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(words.norm(dim=1), torch.ones(3))
    assert float(model.scale.detach()) == pytest.approx(100.0)


def test_towers_of_unequal_width_are_refused() -> None:
    with pytest.raises(ValueError, match="one width, got None for pictures and 16"):
        CLIPConfig(vision=replace(VISION, clip_dim=None), text=TEXT)
