"""Foreign names as data: two-way, idempotent, and complete for every form of the encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastvlm.checkpoints.convert import apple, transformers
from fastvlm.checkpoints.load import WithoutInitialisation
from fastvlm.checkpoints.names import NameTable, names, under
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import PRESETS as DECODERS
from fastvlm.models.vision.config import PRESETS as ENCODERS
from fastvlm.models.vision.config import Form
from fastvlm.models.vlm import FastVLM

TABLES = {"apple": apple.TABLE, "transformers": transformers.TABLE}


def our_names(*, form: Form, decoder: str, clip_dim: int | None) -> list[str]:
    vision = replace(ENCODERS["fastvithd"], form=form, clip_dim=clip_dim)
    with torch.device("meta"), WithoutInitialisation():
        return list(FastVLM(VLMConfig(vision=vision, decoder=DECODERS[decoder])).state_dict())


@pytest.mark.parametrize("decoder", ["qwen2-0.5b", "qwen2-7b", "vicuna-7b"])
@pytest.mark.parametrize("form", ["train", "fused"])
@pytest.mark.parametrize("layout", ["apple", "transformers"])
def test_every_tensor_has_exactly_one_foreign_name_and_comes_back(layout: str, form: Form, decoder: str) -> None:
    table = TABLES[layout]
    ours = our_names(form=form, decoder=decoder, clip_dim=768 if layout == "apple" else None)
    theirs = [table.to_theirs(name) for name in ours]
    assert None not in theirs
    assert len(set(theirs)) == len(ours) > 300
    assert [table.to_ours(name) for name in theirs if name] == ours


@pytest.mark.parametrize("layout", ["apple", "transformers"])
def test_renaming_twice_is_renaming_once(layout: str) -> None:
    table = TABLES[layout]
    for name in our_names(form="train", decoder="qwen2-0.5b", clip_dim=None):
        theirs = table.to_theirs(name)
        assert theirs is not None
        assert table.to_theirs(theirs) == theirs
        assert table.to_ours(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "model.vision_tower.vision_tower.model.network.11.0.layer_scale",
        "model.vision_tower.vision_tower.model.network.1.0.layer_scale",
        "model.layers.x.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "transformer.h.0.attn.c_attn.weight",
        "model.norm.weight.extra.part",
        "",
    ],
)
def test_a_name_that_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert apple.TABLE.to_ours(name) is None


def test_known_names_of_a_released_checkpoint() -> None:
    tower = "model.vision_tower.vision_tower.model"
    expected = {
        f"{tower}.patch_embed.0.reparam_conv.weight": "vision.stem.blocks.0.fused.weight",
        f"{tower}.network.2.11.token_mixer.reparam_conv.bias": "vision.stages.1.blocks.11.token_mixer.fused.bias",
        f"{tower}.network.6.reparam_conv.weight": "vision.stages.3.position_encoding.fused.weight",
        f"{tower}.network.10.1.convffn.conv.bn.running_var": "vision.stages.4.blocks.1.feed_forward.spatial.norm."
        "running_var",
        f"{tower}.network.10.1.layer_scale_2": "vision.stages.4.blocks.1.feed_forward_scale",
        f"{tower}.head.proj": "vision.clip_head.projection",
        "model.mm_projector.2.bias": "projector.linear_2.bias",
        "model.layers.23.mlp.gate_proj.weight": "decoder.layers.23.feed_forward.gate.weight",
        "lm_head.weight": "decoder.head.weight",
    }
    assert {name: apple.TABLE.to_ours(name) for name in expected} == expected


def test_a_module_carries_its_tensors_and_numbers_keep_their_places() -> None:
    table = NameTable(under("a.{i}", "x.{j}.{i}".replace("{j}.", ""), names(("p", "q"))), ignored=("x.{i}.cache",))
    assert table.to_ours("x.3.q.weight") == "a.3.p.weight"
    assert table.to_theirs("a.12.p") == "x.12.q"
    assert table.is_ignored("x.4.cache")
    assert not table.is_ignored("x.4.q")
