"""Fine-tuning the embedded model on a handful of pictures: what learns, what stays, what can be asked afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import fastvlm
from fastvlm.checkpoints.adapter import ADAPTER_CONFIG, ADAPTER_FILE, LORA_A
from fastvlm.checkpoints.config import CONFIG_FILE
from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.checkpoints.stored import read_checkpoint
from fastvlm.cli.main import cli
from fastvlm.errors import CheckpointError, DataError, TrainingError
from fastvlm.evaluation.provenance import identify_model
from fastvlm.recipes.finetune import FinetuneRecipe, run
from fastvlm.training.loop import METRICS_FILE, Interrupted
from fastvlm.training.lora import LoraSettings

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve plain pictures in two sizes; their colour is asked in words that the embedded model does not know."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for number in range(12):
        name = list(COLORS)[number % 2]
        size = (96, 64) if number % 3 else (64, 64)
        Image.new("RGB", size, COLORS[name]).save(folder / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nhue code?"}, {"from": "gpt", "value": name}]
        records.append({"id": f"s{number}", "image": f"{number}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    return folder / "data.json"


def recipe_for(data: Path, **changes: Any) -> FinetuneRecipe:
    values = {"num_epochs": 6, "batch_size": 4, "learning_rate": 1e-3, "validation_share": 0.0, "num_workers": 0}
    return FinetuneRecipe(model=None, data=(str(data),), **(values | changes))


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "state" / METRICS_FILE).read_text().splitlines()]


def tensors_that_changed(before: Path | None, after: Path) -> set[str]:
    """Parts whose tensors differ in any bit, at the precision that they are stored in."""
    first, second = (load_checkpoint(model, form="stored").model.state_dict() for model in (before, after))
    assert first.keys() == second.keys()
    return {name.split(".")[0] for name, value in first.items() if not torch.equal(value, second[name])}


@pytest.mark.parametrize(
    ("parts", "changed"),
    [("projector", {"projector"}), ("language", {"projector", "decoder"}), ("all", {"projector", "decoder", "vision"})],
)
def test_what_learns_changes_and_the_rest_is_bit_identical(
    parts: Any, changed: set[str], data: Path, tmp_path: Path
) -> None:
    model = run(recipe_for(data, parts=parts), tmp_path)
    assert tensors_that_changed(None, model) == changed
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    assert run(recipe_for(data, parts=parts), tmp_path) == model, "a finished run is not run again"


def test_pitfall_b6_a_frozen_encoder_keeps_its_statistics_without_kept_features_too(data: Path, tmp_path: Path) -> None:
    one_size = json.loads(data.read_text())[1:3]
    path = data.parent / "one_size.json"
    path.write_text(json.dumps(one_size))
    model = run(recipe_for(path, keeps_features=False, num_epochs=2), tmp_path)
    assert tensors_that_changed(None, model) == {"projector", "decoder"}
    assert not (tmp_path / "features").exists()


def test_kept_features_give_the_losses_of_pixels(data: Path, tmp_path: Path) -> None:
    """Within the rounding of bfloat16, in which they are kept."""
    one_size = [record for number, record in enumerate(json.loads(data.read_text())) if number % 3]
    path = data.parent / "wide.json"
    path.write_text(json.dumps(one_size))
    for name, keeps in (("kept", True), ("encoded", False)):
        run(recipe_for(path, keeps_features=keeps, num_epochs=1), tmp_path / name)
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "encoded"), rel=0.02)


def test_another_run_does_not_cost_a_begun_one_its_features(data: Path, tmp_path: Path) -> None:
    model = run(recipe_for(data, num_epochs=1), tmp_path)
    shutil.rmtree(model)  # as it is before the end
    kept = {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()}
    with pytest.raises(TrainingError, match=r"has features of another encoder or picture size\. Resume"):
        run(recipe_for(data, num_epochs=1, size_px=128), tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()} == kept
    assert run(recipe_for(data, num_epochs=1), tmp_path) == model


def test_the_model_learns_what_it_is_shown_and_says_so(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = recipe_for(data, num_epochs=12, learning_rate=3e-3, validation_share=0.2)
    model = run(recipe, tmp_path, tell=told.append)
    assistant = fastvlm.load(model, runtime="torch", dtype="float32")
    answers = [assistant.ask("hue code?", images=[data.parent / f"{number}.png"]).text for number in (0, 1)]
    assert answers == ["red", "blue"]
    assert told[0] == "12 conversations, 12 images"
    assert any("12 encoded images are kept" in line for line in told)
    assert "M parameters learn" in told[-1] and "min" in told[-1] and "MB of memory" in told[-1]
    lines = [json.loads(line) for line in (tmp_path / "state" / METRICS_FILE).read_text().splitlines()]
    assert len(lines) == 36 and [line["step"] for line in lines if "validation_loss" in line] == [6, 13, 20, 27, 34, 35]
    assert fastvlm.load(model).ask("hue code?", images=[data.parent / "0.png"]).text == "red"


def test_a_run_goes_on_where_it_was_stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_for(data, num_epochs=3, save_every=1, validation_share=0.2)
    run(recipe, tmp_path / "whole")

    def stop(_: str, step: Any) -> None:
        if step.step == 4:
            raise Interrupted("now")

    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "stopped", report=stop)
    run(recipe, tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert tensors_that_changed(tmp_path / "whole" / "model", tmp_path / "stopped" / "model") == set()


@pytest.fixture(scope="module")
def adapter(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipe_for(data, lora=LoraSettings(rank=4, alpha=8), learning_rate=5e-3, num_epochs=12)
    return run(recipe, tmp_path_factory.mktemp("lora"))


def test_what_a_model_was_measured_to_need_is_not_passed_on(data: Path, adapter: Path, tmp_path: Path) -> None:
    """Once it has learned something else, what it should refuse is another question."""
    base = tmp_path / "base"
    shutil.copytree(resolve(None), base)
    described = json.loads((base / CONFIG_FILE).read_text())
    described["calibration"] = {"refusal_token_id": 5, "refusal_bias": 1.0, "unsure_below": 0.3}
    (base / CONFIG_FILE).write_text(json.dumps(described))
    recipe = recipe_for(data, num_epochs=1)
    tuned = run(replace(recipe, model=str(base)), tmp_path / "run")
    assert read_checkpoint(base).config.calibration is not None
    assert read_checkpoint(tuned).config.calibration is None
    moved = tmp_path / "adapter"
    shutil.copytree(adapter, moved)
    about = json.loads((moved / ADAPTER_CONFIG).read_text())
    (moved / ADAPTER_CONFIG).write_text(json.dumps({**about, "base_model_name_or_path": str(base)}))
    assert read_checkpoint(moved).config.calibration is None


def test_adapters_of_one_seed_begin_alike(data: Path, tmp_path: Path) -> None:
    recipe = recipe_for(data, lora=LoraSettings(rank=2), num_epochs=1)
    for name in ("1", "2"):
        torch.manual_seed(int(name))
        run(recipe, tmp_path / name)
    assert losses(tmp_path / "1") == losses(tmp_path / "2")


def test_an_adapter_is_small_and_peft_could_read_its_description(adapter: Path) -> None:
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 4 and config["base_model_name_or_path"] == "embedded"
    assert {path.name for path in adapter.iterdir()} == {ADAPTER_CONFIG, ADAPTER_FILE, "README.md"}
    card = (adapter / "README.md").read_text()
    assert "`embedded`" in card and f"rank {config['r']}" in card


def test_an_adapter_is_shown_with_what_it_is_merged_into(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    told = CliRunner().invoke(cli, ["inspect", str(adapter)]).output.splitlines()
    assert told[0].startswith("adapter") and str(adapter) in told[0] and "rank 4" in told[0]
    assert any(line.startswith("decoder parameters") for line in told)
    shown = json.loads(CliRunner().invoke(cli, ["inspect", str(adapter), "--json"]).output)
    assert shown["adapter"] == {"base": "embedded", "rank": 4, "scale": 2.0}
    assert not (tmp_path / "cache").exists(), "nothing is merged for a description"


def test_an_adapter_is_known_by_its_own_weights_and_its_bases(adapter: Path) -> None:
    assert [file.name for file in identify_model(adapter).weights] == [ADAPTER_FILE, "model.safetensors"]


def test_an_adapter_answers_in_a_given_time(adapter: Path, data: Path) -> None:
    assistant = fastvlm.load(adapter, max_ttft_ms=60_000)
    assert assistant.ask("hue code?", images=data.parent / "1.png", max_new_tokens=1).text


def test_adapter_merged_and_unmerged_answer_alike(
    adapter: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was trained, read again by both engines, and written out as a whole checkpoint."""
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    reread = load_checkpoint(adapter, dtype=torch.float32)
    merged = save_checkpoint(tmp_path / "merged", reread.model, reread.config, reread.tokenizer, dtype=torch.float32)
    pictures = [data.parent / f"{number}.png" for number in range(6)]
    answers = [
        [fastvlm.load(model, runtime=runtime, dtype="float32").ask("hue code?", images=[picture]).text
         for picture in pictures]
        for model in (adapter, merged)
        for runtime in ("torch", "openvino")
    ]  # fmt: skip
    assert answers == [["red", "blue"] * 3] * 4
    assert len(list((tmp_path / "cache").glob("adapter-*.safetensors"))) == 1


def test_merging_is_what_peft_computes(adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from fastvlm.training.lora import add_lora

    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path))
    base = load_checkpoint(None, dtype=torch.float32).model
    add_lora(base, LoraSettings(rank=4, alpha=8))
    stored = {name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): value
              for name, value in load_file(adapter / ADAPTER_FILE).items()}  # fmt: skip
    assert not base.load_state_dict(stored, strict=False).unexpected_keys
    merged = load_checkpoint(adapter, dtype=torch.float32).model
    hidden = torch.randn(1, 7, base.config.decoder.width, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(7)[None]
    with torch.no_grad():
        expected, got = (model.eval().decoder(hidden, positions=positions) for model in (base, merged))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_without_its_base_says_so(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / ADAPTER_FILE).write_bytes((adapter / ADAPTER_FILE).read_bytes())
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    for change, says in (
        ({"base_model_name_or_path": "/no/such/folder"}, "base_model_name_or_path in adapter_config.json says where"),
        ({"peft_type": "IA3"}, "a plain LORA adapter"),
        ({"r": 0}, "r and lora_alpha"),
    ):
        (copy / ADAPTER_CONFIG).write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=says) as caught:
            load_checkpoint(copy)
        assert "\n" not in str(caught.value)


def test_an_adapter_of_another_shape_is_refused(adapter: Path, tmp_path: Path, data: Path) -> None:
    base = load_checkpoint(None)
    narrow = replace(base.config.vlm.decoder, num_layers=2)
    from fastvlm.models.config import VLMConfig
    from fastvlm.models.vlm import FastVLM

    other = FastVLM(VLMConfig(vision=base.config.vlm.vision, decoder=narrow))
    save_checkpoint(tmp_path / "base", other, base.config, base.tokenizer)
    copy = tmp_path / "adapter"
    copy.mkdir()
    (copy / ADAPTER_FILE).write_bytes((adapter / ADAPTER_FILE).read_bytes())
    config = json.loads((adapter / ADAPTER_CONFIG).read_text()) | {"base_model_name_or_path": "../base"}
    (copy / ADAPTER_CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="weights fit its base model"):
        load_checkpoint(copy)


def test_an_adapter_with_half_a_change_is_refused(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    halves = {name: value for name, value in load_file(adapter / ADAPTER_FILE).items() if not name.endswith(LORA_A)}
    shutil.copy(adapter / ADAPTER_CONFIG, tmp_path)
    save_file(halves, tmp_path / ADAPTER_FILE)
    with pytest.raises(CheckpointError, match=r"weights fit its base model .* got .*lora_B"):
        load_checkpoint(tmp_path)


def test_lora_trains_no_encoder(data: Path, tmp_path: Path) -> None:
    for parts in ("all", "projector"):
        with pytest.raises(TrainingError, match=f"got parts `{parts}`"):
            run(recipe_for(data, parts=parts, lora=LoraSettings()), tmp_path)
    with pytest.raises(TrainingError, match="its base's picture size"):
        run(recipe_for(data, size_px=128, lora=LoraSettings()), tmp_path)


def test_a_projector_learns_from_pictures_only(data: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hello?"}, {"from": "gpt", "value": "yes"}]
    words = [{"id": f"w{number}", "conversations": turns} for number in range(5)]
    mixed, alone = data.parent / "mixed.json", data.parent / "words.json"
    mixed.write_text(json.dumps([*json.loads(data.read_text()), *words]))
    alone.write_text(json.dumps(words))
    told: list[str] = []
    run(recipe_for(mixed, parts="projector", num_epochs=1), tmp_path / "a", tell=told.append)
    assert told[0] == "left out: 5 conversations without images"
    with pytest.raises(DataError, match="got words alone"):
        run(recipe_for(alone, parts="projector"), tmp_path / "b")
    run(recipe_for(alone, num_epochs=1), tmp_path / "c")


def test_a_run_with_other_words_is_another_run(data: Path, tmp_path: Path) -> None:
    copy = data.parent / "copy.json"
    copy.write_text(data.read_text())

    def stop(_: str, step: Any) -> None:
        if step.step == 2:
            raise Interrupted("now")

    with pytest.raises(Interrupted):
        run(recipe_for(copy, save_every=1), tmp_path, report=stop)
    copy.write_text(data.read_text().replace('"blue"', '"green"'))
    with pytest.raises(TrainingError, match="other settings"):
        run(recipe_for(copy, save_every=1), tmp_path)


def test_a_sample_that_cannot_be_used_stops_the_run_or_is_left_out(data: Path, tmp_path: Path) -> None:
    records = [*json.loads(data.read_text()), {"id": "lost", "image": "none.png", "conversations": []}]
    path = data.parent / "lost.json"
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match="lost"):
        run(recipe_for(path), tmp_path / "a")
    records[-1]["conversations"] = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]
    path.write_text(json.dumps(records))
    told: list[str] = []
    run(recipe_for(path, leaves_out_invalid=True, num_epochs=1), tmp_path / "b", tell=told.append)
    assert told[0] == "12 conversations, 12 images" and told[1].startswith("left out: lost: ")


@pytest.mark.parametrize("parts", ["language", "all"])
def test_a_picture_that_is_cut_off_is_found_before_the_first_step(parts: Any, data: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    turns = [{"from": "human", "value": "hue code?"}, {"from": "gpt", "value": "red"}]
    cut = {"id": "cut", "image": str(tmp_path / "cut.jpg"), "conversations": turns}
    path = data.parent / "cut.json"
    path.write_text(json.dumps([*json.loads(data.read_text()), cut, {**cut, "id": "again"}]))
    with pytest.raises(DataError, match=r"^cut: .*And 1 more that cannot be used"):
        run(recipe_for(path, parts=parts), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    told: list[str] = []
    leaving = recipe_for(path, parts=parts, leaves_out_invalid=True, num_epochs=1)
    run(leaving, tmp_path / "b", tell=told.append)
    assert told[0] == "12 conversations, 12 images"
    assert told[1].startswith("left out: cut: ") and told[2].startswith("left out: again: ")


def test_pixels_of_several_sizes_are_refused_in_one_conversation_only(data: Path, tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    picture.save(data.parent / "square.png")
    turns = [{"from": "human", "value": "same?"}, {"from": "gpt", "value": "no"}]
    records = [{"id": "two", "images": ["square.png", "1.png"], "conversations": turns}]
    path = data.parent / "two.json"
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match="images of one size in sample two"):
        run(recipe_for(path, parts="all"), tmp_path / "a")
    run(recipe_for(path, num_epochs=1), tmp_path / "b")
