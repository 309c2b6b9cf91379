"""What is written is read back: bit-identical weights and the same configuration, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.rewrite import rewrite_checkpoint
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.calibration import Calibration
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer

LAYOUTS = ["fastvlm", "apple", "transformers"]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            found |= {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    return found


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("has_tied_head", [True, False])
def test_a_saved_model_is_loaded_bit_for_bit(
    layout: str, has_tied_head: bool, saved: Callable[..., Path], small: Any
) -> None:
    model = small.build(small.fused, replace(small.decoder, has_tied_head=has_tied_head))
    loaded = load_checkpoint(saved(layout, model=model))
    assert_same_tensors(dict(model.state_dict()), dict(loaded.model.state_dict()))
    assert loaded.config == small.config_of(model)
    assert loaded.model.config == model.config
    assert not loaded.model.training


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_llama_decoder_keeps_its_numbers_and_its_template(
    layout: str, saved: Callable[..., Path], llama_tokenizer: Tokenizer, small: Any
) -> None:
    model = small.build(small.fused, small.llama)
    changes = {"template": TEMPLATES["v1"], "eos_token_ids": (2,), "bos_token_id": 1}
    loaded = load_checkpoint(saved(layout, model=model, tokenizer=llama_tokenizer, **changes))
    assert_same_tensors(dict(model.state_dict()), dict(loaded.model.state_dict()))
    assert loaded.config == small.config_of(model, **changes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "processing",
    [
        ProcessingConfig(mode="fit", max_visual_tokens=16),
        ProcessingConfig(mode="crop", size_px=256, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        ProcessingConfig(mode="anyres", size_px=128, pinpoints=((128, 256), (256, 128))),
    ],
    ids=lambda processing: str(processing.mode),
)
def test_preprocessing_and_template_survive_every_layout(
    layout: str, processing: ProcessingConfig, saved: Callable[..., Path]
) -> None:
    template = replace(TEMPLATES["qwen_2"], name="terse", default_system="Answer in one word.")
    calibration = Calibration(refusal_token_id=7, refusal_bias=0.5, unsure_below=0.3)
    noted = {"processing": processing, "template": template, "licence": "apache-2.0", "calibration": calibration}
    loaded = read_checkpoint(saved(layout, **noted))
    assert loaded.config.calibration == calibration
    assert loaded.config.processing == processing
    assert loaded.config.template == template
    assert (loaded.config.name, loaded.config.licence) == ("tiny", "apache-2.0")


@pytest.mark.parametrize("name", ["chatml", "qwen_2", "v1", "plain"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_named_templates_come_back_by_name(
    layout: str, name: str, saved: Callable[..., Path], tokenizer: Tokenizer, llama_tokenizer: Tokenizer
) -> None:
    chosen = llama_tokenizer if name == "v1" else tokenizer
    config = read_checkpoint(saved(layout, template=TEMPLATES[name], tokenizer=chosen)).config
    assert config.template is TEMPLATES[name]


def test_train_form_is_kept_by_our_layout_and_fused_by_the_others(saved: Callable[..., Path], small: Any) -> None:
    model = small.build()
    kept = load_checkpoint(saved("fastvlm", model=model), form="stored").model
    assert kept.config.vision.form == "train"
    assert_same_tensors(dict(model.state_dict()), dict(kept.state_dict()))
    fused = load_checkpoint(saved("fastvlm", model=model, name="again")).model
    assert fused.config.vision.form == "fused"
    pixels = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.encode(pixels)
        assert (fused.encode(pixels) - expected).abs().max() < 1e-4 * expected.std()
        for layout in ("apple", "transformers"):
            other = load_checkpoint(saved(layout, model=model)).model
            assert_same_tensors(dict(fused.state_dict()), dict(other.state_dict()))


def test_authors_to_ours_to_authors_keeps_every_bit(saved: Callable[..., Path], tmp_path: Path, small: Any) -> None:
    model = small.build(replace(small.fused, clip_dim=48))
    first = saved("apple", model=model, dtype=torch.bfloat16)
    assert "model.vision_tower.vision_tower.model.head.proj" in tensors_of(first)
    ours = rewrite_checkpoint(first, tmp_path / "ours", layout="fastvlm")
    back = rewrite_checkpoint(ours, tmp_path / "back", layout="apple")
    assert_same_tensors(tensors_of(first), tensors_of(back))
    assert (first / "config.json").read_text() == (back / "config.json").read_text()


def test_authors_to_transformers_and_back_keeps_every_bit_but_the_unused_head(
    saved: Callable[..., Path], tmp_path: Path, small: Any
) -> None:
    first = saved("apple", model=small.build(replace(small.fused, clip_dim=48)))
    middle = rewrite_checkpoint(first, tmp_path / "middle", layout="transformers")
    back = rewrite_checkpoint(middle, tmp_path / "back", layout="apple")
    expected = tensors_of(first)
    del expected["model.vision_tower.vision_tower.model.head.proj"]
    assert_same_tensors(expected, tensors_of(back))


def test_a_cast_is_a_cast_of_every_weight(saved: Callable[..., Path], tmp_path: Path, small: Any) -> None:
    first = saved("fastvlm", model=small.build(small.fused))
    half = rewrite_checkpoint(first, tmp_path / "half", layout="apple", dtype="bfloat16")
    expected = load_checkpoint(first).model.state_dict()
    found = load_checkpoint(half).model.state_dict()
    for name, tensor in found.items():
        assert tensor.dtype == (torch.bfloat16 if tensor.is_floating_point() else torch.int64)
        assert torch.equal(tensor, expected[name].to(tensor.dtype))
    as_single = load_checkpoint(half, dtype=torch.float32).model
    assert {parameter.dtype for parameter in as_single.parameters()} == {torch.float32}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_are_read_as_one_model(layout: str, saved: Callable[..., Path], small: Any) -> None:
    model = small.build(small.fused)
    folder = saved(layout, model=model, max_shard_bytes=200_000)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    assert_same_tensors(dict(model.state_dict()), dict(load_checkpoint(folder).model.state_dict()))


def test_the_model_answers_the_same_after_a_round_trip(saved: Callable[..., Path], tmp_path: Path, small: Any) -> None:
    model = small.build(small.fused)
    folder = rewrite_checkpoint(saved("transformers", model=model), tmp_path / "ours", layout="fastvlm")
    loaded = load_checkpoint(folder).model
    assert torch.equal(_logits(model), _logits(loaded))


@torch.no_grad()
def _logits(model: FastVLM) -> torch.Tensor:
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    token_ids = torch.tensor([[1, 9, 0, 0, 0, 0, 8, 2]])
    is_visual = token_ids == 0
    visual_tokens = model.encode(pixels).flatten(0, 1)
    return model(visual_tokens, token_ids=token_ids, is_visual=is_visual, positions=torch.arange(8)[None])
