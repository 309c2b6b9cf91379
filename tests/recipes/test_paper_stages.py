"""Every stage of the paper as one command: its settings are those of its table, and in miniature it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.data.caption_questions import caption_conversation, caption_questions
from fastvlm.errors import CheckpointError, TrainingError
from fastvlm.messages import ImagePart
from fastvlm.recipes.assemble import assemble
from fastvlm.recipes.catalogue import CATALOGUE
from fastvlm.recipes.finetune import run
from fastvlm.recipes.pretrain import _loop_settings, clip, clip_small
from fastvlm.recipes.stages import STAGES, StageRun, recipe_of, smoke
from fastvlm.training import precision
from fastvlm.training.loop import METRICS_FILE

FIRST_LOSSES = {
    "connector": (1.40658, 1.57172),
    "resolution": (1.77790, 1.24405),
    "instruct": (0.25618, 0.18059),
    "reasoning": (0.25618, 0.18059),
    "llava-connector": (1.40658, 1.57172),
    "llava-instruct": (0.25618, 0.18059),
}
"""Of the first two steps in miniature, in float32."""


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_learns_in_miniature(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: False)
    model = run(smoke(STAGES[name], tmp_path), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "state" / METRICS_FILE).read_text().splitlines()]
    assert losses[:2] == pytest.approx(FIRST_LOSSES[name], rel=1e-2)
    half = len(losses) // 2
    assert sum(losses[half:]) < sum(losses[:half]), losses
    load_checkpoint(model)


def test_settings_are_those_of_the_papers_tables(tmp_path: Path) -> None:
    """Tables 8 and 9: learning rate, batch, what learns, one epoch, cosine after 3 per cent of warm-up."""
    expected = {
        "connector": (1e-3, 256, "projector"), "resolution": (2e-5, 128, "all"), "instruct": (2e-5, 128, "all"),
        "reasoning": (2e-5, 128, "all"), "llava-connector": (1e-3, 256, "projector"),
        "llava-instruct": (2e-5, 128, "all"),
    }  # fmt: skip
    assert expected.keys() == STAGES.keys()
    for name, (rate, batch, parts) in expected.items():
        recipe = recipe_of(STAGES[name], StageRun(model="m", data=("d",), batch_size=4), tmp_path)
        assert (recipe.peak_rate, recipe.batch_size * recipe.num_accumulated, recipe.parts) == (rate, batch, parts)
        assert (recipe.num_epochs, recipe.warmup_share, recipe.lora) == (1, 0.03, None)
        assert recipe.size_px == (256 if parts == "projector" else 1024)
        assert recipe.template == ("plain" if parts == "projector" else None)
        assert CATALOGUE[name].paper == STAGES[name].paper


def test_three_hundred_questions_stand_before_or_after_the_image() -> None:
    questions = caption_questions()
    assert len(questions) == len(set(questions)) == 300
    asked, first = set(), 0
    for number in range(400):
        question, answer = caption_conversation("x.png", "a cat", sample_id=f"s{number}")
        assert answer.text == "a cat" and question.images == (ImagePart("x.png"),)
        asked.add(question.text)
        first += isinstance(question.content[0], ImagePart)
    assert asked <= set(questions) and len(asked) > 200 and 160 < first < 240
    assert caption_conversation("x.png", "a cat", sample_id="s1") == caption_conversation(
        "x.png", "a cat", sample_id="s1"
    )


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """A Qwen2 folder as transformers writes it, with the embedded model's tokenizer in Qwen2's words."""
    transformers = pytest.importorskip("transformers")
    from fastvlm.processing.tokenizer import train_byte_level_bpe

    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path / "qwen"
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    train_byte_level_bpe(["yes no a star"] * 5, vocabulary_size=300, special_tokens=specials).save(
        folder / "tokenizer.json"
    )
    return folder


def test_a_model_is_put_together_from_its_parts(language_model: Path, tmp_path: Path) -> None:
    """The decoder says what transformers' says, and the encoder is that of the tower."""
    import transformers

    start = assemble(tmp_path / "start", decoder=language_model, tower=_embedded_folder(), size_px=256)
    loaded = load_checkpoint(start, dtype=torch.float32, form="stored")
    theirs = transformers.Qwen2ForCausalLM.from_pretrained(language_model).eval()
    ids = torch.randint(0, 300, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoder = loaded.model.decoder
        ours = decoder.logits(decoder(decoder.embed(ids), positions=torch.arange(9)[None]))
        torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-4, atol=1e-5)
    embedded = load_checkpoint(None, dtype=torch.float32, form="stored").model.vision.state_dict()
    assert all(torch.equal(value, embedded[name]) for name, value in loaded.model.vision.state_dict().items())
    assert loaded.processing.size_px == 256 and loaded.processing.mode == "pad"
    assert loaded.config.template.name == "qwen_2"
    again = assemble(tmp_path / "start", decoder=language_model, tower=_embedded_folder(), size_px=256)
    assert again == start, "what is there is kept"


def _embedded_folder() -> Path:
    from fastvlm.checkpoints.hub import resolve

    return resolve(None)


def test_pitfall_b4_an_encoder_with_fresh_weights_is_asked_for(language_model: Path, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"decoder": str(language_model), "data": ("d",)}
    with pytest.raises(TrainingError, match=r"Expected an encoder to start from.*--random-encoder"):
        recipe_of(STAGES["connector"], StageRun(**wanted), tmp_path)
    with pytest.raises(TrainingError, match="Expected a model to go on with"):
        recipe_of(STAGES["connector"], StageRun(data=("d",)), tmp_path)
    assert not (tmp_path / "start").exists()
    wanted["tower"] = _embedded_folder()
    recipe = recipe_of(STAGES["connector"], StageRun(**wanted), tmp_path)
    assert recipe.model == str(tmp_path / "start")
    with pytest.raises(CheckpointError, match="got others"):
        recipe_of(STAGES["connector"], StageRun(**wanted, seed=1), tmp_path)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ({"model": "m", "tower": Path("t")}, "Expected one start"),
        ({"model": "m", "decoder": "d", "tower": Path("t")}, "Expected one start"),
        ({"model": "m", "has_random_encoder": True}, "Expected one start"),
        ({"tower": Path("t")}, "Expected a model to go on with"),
        ({"decoder": "d", "tower": Path("t"), "has_random_encoder": True}, "Expected one encoder"),
    ],
)
def test_parts_that_would_not_be_looked_at_are_refused(tmp_path: Path, start: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        recipe_of(STAGES["connector"], StageRun(**start, data=("d",)), tmp_path)
    assert not (tmp_path / "start").exists()


def test_a_batch_that_does_not_make_the_stages_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="that make the stage's 128, got 24"):
        recipe_of(STAGES["instruct"], StageRun(model="m", data=("d",), batch_size=24), tmp_path)


def test_a_language_model_of_another_kind_is_refused(language_model: Path, tmp_path: Path) -> None:
    path = language_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match=r"language model of qwen2, llama.*'gpt2'"):
        assemble(tmp_path / "start", decoder=language_model, tower=_embedded_folder(), size_px=64)


def test_a_stage_goes_on_with_a_stages_checkpoint(tmp_path: Path) -> None:
    """The connector's checkpoint is where the next stage starts, and its template is the model's own."""
    first = run(replace(smoke(STAGES["connector"], tmp_path / "1"), num_epochs=1), tmp_path / "1")
    second = replace(smoke(STAGES["instruct"], tmp_path / "2"), model=str(first), num_epochs=1, num_accumulated=3)
    model = run(second, tmp_path / "2")
    template = load_checkpoint(None).config.template
    assert load_checkpoint(first).config.template == load_checkpoint(model).config.template == template


def test_a_short_pretraining_leaves_its_warm_up() -> None:
    assert _loop_settings(clip()).optimizer.warmup_steps == 1000
    assert _loop_settings(replace(clip_small(), num_steps=40)).optimizer.warmup_steps == 8
