"""An adapter of the 0.5B shape: learned on a base folder, loaded on it, merged, and alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import fastvlm
from fastvlm.benchmarks.shapes import random_checkpoint
from fastvlm.checkpoints.adapter import ADAPTER_FILE
from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.recipes.finetune import FinetuneRecipe, run
from fastvlm.training.lora import LoraSettings

WORDS = ["what colour is this? red blue"] * 9


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of FastVLM-0.5B in transformers' layout, with a small tokenizer in Qwen2's words."""
    folder = random_checkpoint("fastvlm-0.5b", tmp_path_factory.mktemp("base") / "model")
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    tokenizer = train_byte_level_bpe(WORDS, vocabulary_size=300, special_tokens=specials)
    tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.mark.slow
def test_an_adapter_of_the_released_shape_loads_on_its_base(base: Path, tmp_path: Path) -> None:
    records = []
    for number, name in enumerate(("red", "blue")):
        Image.new("RGB", (96, 64), name).save(tmp_path / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nwhat colour is this?"}, {"from": "gpt", "value": name}]
        records.append({"id": name, "image": f"{number}.png", "conversations": turns})
    (tmp_path / "data.json").write_text(json.dumps(records))
    recipe = FinetuneRecipe(
        model=str(base), data=(str(tmp_path / "data.json"),), lora=LoraSettings(rank=8), num_epochs=3, batch_size=1,
        learning_rate=2e-3, num_workers=0,
    )  # fmt: skip
    adapter = run(recipe, tmp_path / "run")
    assert (adapter / ADAPTER_FILE).stat().st_size < 60e6, "its base has 1.5 GB"

    merged = tmp_path / "merged"
    whole = load_checkpoint(adapter)
    save_checkpoint(merged, whole.model, whole.config, whole.tokenizer, dtype=None)
    answers = {}
    for name, folder in (("base", base), ("adapter", adapter), ("merged", merged)):
        assistant = fastvlm.load(folder, runtime="torch", dtype="float32")
        answer = assistant.ask("what colour is this?", images=[tmp_path / "0.png"], max_new_tokens=8)
        answers[name] = answer.text
    assert answers["adapter"] == answers["merged"]
    assert answers["adapter"] != answers["base"]
