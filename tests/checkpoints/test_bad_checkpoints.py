"""Everything that can be wrong with a folder is one clear line that names it; nothing is loaded half."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastvlm.checkpoints.load import load_checkpoint, resolve
from fastvlm.errors import CheckpointError

TOWER = "model.vision_tower.vision_tower.model"


def refused(folder: str | Path | None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


@pytest.mark.parametrize("layout", ["fastvlm", "apple", "transformers"])
def test_a_users_folder_is_never_written_to(layout: str, saved: Callable[..., Path]) -> None:
    folder = saved(layout)
    before = digests(folder)
    folder.chmod(0o555)
    load_checkpoint(folder)
    folder.chmod(0o755)
    assert digests(folder) == before


def test_training_a_loaded_model_leaves_its_files_alone(saved: Callable[..., Path]) -> None:
    """Weights are memory-mapped: what changes them must not reach the file behind them."""
    folder = saved("fastvlm")
    before = digests(folder)
    model = load_checkpoint(folder, form="stored").model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert digests(folder) == before
    again = load_checkpoint(folder, form="stored").model
    assert not torch.equal(again.projector.linear_1.weight, model.projector.linear_1.weight)


@pytest.mark.parametrize("layout", ["fastvlm", "apple", "transformers"])
def test_pitfall_b4_a_missing_encoder_tensor_is_an_error_and_never_random(
    layout: str, saved: Callable[..., Path]
) -> None:
    folder = saved(layout)
    names = {
        "fastvlm": "vision.stages.2.blocks.1.layer_scale",
        "apple": f"{TOWER}.network.4.1.layer_scale",
        "transformers": "model.vision_tower.timm_model.stages.2.blocks.1.layer_scale.gamma",
    }
    change_tensors(folder, lambda tensors: tensors.pop(names[layout]))
    assert "1 are missing: vision.stages.2.blocks.1.layer_scale" in refused(folder)


def test_pitfall_b4_a_checkpoint_without_its_encoder_is_refused(saved: Callable[..., Path], small: Any) -> None:
    folder = saved("apple")

    def drop_tower(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(TOWER)]:
            del tensors[name]

    change_tensors(folder, drop_tower)
    # The very flag whose absence makes the authors' loader throw the encoder's weights away.
    small.edit_json(folder / "config.json", unfreeze_mm_vision_tower=None)
    assert "missing: vision." in refused(folder)


def test_pitfall_b4_the_flag_that_drops_the_encoder_elsewhere_changes_nothing(
    saved: Callable[..., Path], small: Any
) -> None:
    folder = saved("apple")
    expected = load_checkpoint(folder).model.state_dict()
    small.edit_json(folder / "config.json", unfreeze_mm_vision_tower=None)
    found = load_checkpoint(folder).model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_unexpected_tensors_are_named(saved: Callable[..., Path]) -> None:
    folder = saved("apple")
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.lora_A": torch.ones(2)}))
    assert "lora_A" in refused(folder)


def test_a_layer_that_the_config_does_not_know_is_unexpected(saved: Callable[..., Path], small: Any) -> None:
    folder = saved("apple")
    small.edit_json(folder / "config.json", num_hidden_layers=1)
    text = refused(folder)
    assert "model.layers.1." in text and "more" in text


def test_misshaped_tensors_are_named_with_both_shapes(saved: Callable[..., Path]) -> None:
    folder = saved("transformers")
    name = "model.multi_modal_projector.linear_1.bias"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.ones(5)}))
    assert f"{name} [5] instead of [64]" in refused(folder)


def test_pitfall_b7_a_tensor_of_size_zero_is_refused_by_name(saved: Callable[..., Path]) -> None:
    """What a partitioned training run leaves when it is saved on one process: names without numbers."""
    folder = saved("apple")
    name = "model.layers.0.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.empty(0)}))
    assert f"{name} [0] instead of [96, 64]" in refused(folder)


def test_counters_of_batch_norm_may_be_absent_and_old_frequencies_present(saved: Callable[..., Path]) -> None:
    folder = saved("apple")

    def age(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    change_tensors(folder, age)
    model = load_checkpoint(folder).model
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_quantised_weights_are_refused(saved: Callable[..., Path]) -> None:
    folder = saved("apple")
    name = "model.layers.0.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    assert "I8" in (text := refused(folder)) and "unquantised" in text


def break_file(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    broken = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "one byte short": whole[:-1],
        "ends in the header": whole[:100],
        "not safetensors": b"<html>404 not found</html>" * 10,
        "header is no JSON": (40).to_bytes(8, "little") + b"x" * 60,
        "header is a list": (2).to_bytes(8, "little") + b"[]" + b"x" * 60,
        "huge header": (1 << 60).to_bytes(8, "little") + b"{}",
    }
    file.write_bytes(broken[how])


@pytest.mark.parametrize(
    "how",
    [
        "empty", "truncated", "one byte short", "ends in the header", "not safetensors", "header is no JSON",
        "header is a list", "huge header",
    ],
)  # fmt: skip
def test_corrupt_weights(how: str, saved: Callable[..., Path]) -> None:
    folder = saved("fastvlm")
    break_file(folder, how)
    assert "whole safetensors file" in refused(folder)


def test_a_tensor_whose_bytes_do_not_fit_its_shape(saved: Callable[..., Path]) -> None:
    folder = saved("fastvlm")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["projector.linear_1.bias"]["shape"] = [65]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    assert "projector.linear_1.bias" in refused(folder)


def test_missing_and_mixed_up_shards(saved: Callable[..., Path], small: Any) -> None:
    folder = saved("apple", max_shard_bytes=300_000)
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    shards = sorted(set(weight_map.values()))
    (folder / shards[1]).rename(folder / "elsewhere")
    assert shards[1] in refused(folder)
    (folder / "elsewhere").rename(folder / shards[1])
    small.edit_json(index, weight_map=weight_map | {"model.norm.wait": shards[0]})
    assert "model.norm.wait" in refused(folder)
    small.edit_json(index, weight_map=weight_map | {"model.norm.weight": "../../secret.safetensors"})
    assert "plain file names" in refused(folder)
    index.write_text('{"weight_map": ["no"]}')
    assert "weight_map" in refused(folder)
    index.write_text('{"weight_map": {')
    assert "JSON" in refused(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSON"),
        ("[1]", "JSON object"),
        ('{"no": "type"}', "model_type"),
        ('{"model_type": "bert"}', "fastvlm, llava_qwen2, llava_llama, fast_vlm, got 'bert'"),
        ('{"model_type": ["llava_qwen2"]}', "model_type"),
        ("[" * 100_000, "JSON"),
        ("\x00\udcff", "JSON"),
    ],
)
def test_bad_config_files(text: str, words: str, saved: Callable[..., Path]) -> None:
    folder = saved("fastvlm")
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert words in refused(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "Upgrade"),
        ({"extra": 1}, "extra"),
        ({"vision": {"deepness": [1]}}, "deepness"),
        ({"vision": {"depths": "two"}}, "depths of vision"),
        ({"vision": {"depths": [1, 1.5, 2, 1, 1]}}, "depths of vision"),
        ({"vision": {"depths": [1, 1, 2, 1]}}, "64 px (five), got 4 stages and 32 px"),
        ({"vision": {"form": "molten"}}, "'train' or 'fused'"),
        ({"vision": {"depths": [1, 1, 1, 1, 1], "widths": [8, 16]}}, "describe a model"),
        ({"decoder": {"width": 64}}, "vocabulary_size"),
        ({"decoder": None}, "decoder"),
        ({"processing": {"mode": "squash"}}, "'pad' or 'crop' or 'anyres' or 'fit'"),
        ({"template": 5}, "template"),
        ({"template": "klingon"}, "klingon"),
        ({"eos_token_ids": ["2"]}, "eos_token_ids"),
        ({"name": 7}, "name"),
    ],
)
def test_bad_values_in_our_config(changes: dict[str, Any], words: str, saved: Callable[..., Path], small: Any) -> None:
    folder = saved("fastvlm")
    small.edit_json(folder / "config.json", **changes)
    assert words in refused(folder)


def test_missing_parts_of_a_folder(saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = saved("fastvlm")
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert "tokenizer.json" in refused(folder)
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json" in refused(folder)
    (tmp_path / "tokenizer.json").replace(folder / "tokenizer.json")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert "other.safetensors" in refused(folder)
    (folder / "other.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickles" in refused(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "found neither" in refused(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refused(folder)
    assert "the file" in refused(tmp_path / "fastvlm" / "tokenizer.json")
    assert "nowhere" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "a/b/c", "../x", "owner/name/", "", "hub id"])
def test_what_is_neither_folder_nor_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="Expected a model folder"):
        resolve(name)


def test_pitfall_b4_a_checksum_of_the_encoder_is_logged(
    saved: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved("fastvlm")

    def checksums() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="fastvlm.checkpoints"):
            load_checkpoint(folder)
        return [record.getMessage() for record in caplog.records if "checksum" in record.getMessage()]

    first = checksums()
    assert first == checksums() and len(first) == 3
    name = "vision.stages.4.blocks.0.norm.bias"
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name] + 1}))
    second = checksums()
    assert first[0] != second[0]
    assert first[1:] == second[1:]


def test_loading_needs_no_compiler(saved: Callable[..., Path]) -> None:
    """Drawing a random number on the meta device would import torch's compiler, which takes seconds."""
    program = (
        "import sys; from fastvlm.checkpoints.load import load_checkpoint; "
        f"load_checkpoint({str(saved('fastvlm'))!r}); "
        "sys.exit('torch._dynamo' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_reading_a_description_needs_no_torch(saved: Callable[..., Path]) -> None:
    program = (
        "import sys; from fastvlm.checkpoints.stored import read_checkpoint; "
        f"stored = read_checkpoint({str(saved('apple'))!r}); "
        "print(stored.layout, len(stored.tensors)); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("apple ")
