"""The recipe `documents` in miniature: its order, what is frozen, the same numbers after a stop, a model to ask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fastvlm
from fastvlm.data.collate import Collator
from fastvlm.data.documents import DocumentBatches, LineBatches, dense_characters
from fastvlm.data.synthetic.documents import fonts
from fastvlm.data.synthetic.documents.drawing import CHARACTER_NUMBERS, characters, render
from fastvlm.data.synthetic.documents.samples import document_sample
from fastvlm.errors import TrainingError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.recipes.documents import PLAN_FILE, SCORES_FILE, documents, planned, run, smoke
from fastvlm.training import precision
from fastvlm.training.loop import METRICS_FILE, Interrupted, StepReport
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets

STAGES = ("1-see", "2-connect", "3-read", "4-answer")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    assert run(smoke(), folder) == folder / "model"
    return folder


@pytest.fixture(scope="module")
def collator() -> Collator:
    tokenizer = train_byte_level_bpe(
        ["Read the text."], vocabulary_size=300, special_tokens=("<|user|>", "<|assistant|>", "<|end|>")
    )
    processing = ProcessingConfig(mode="fit", max_visual_tokens=96)
    return Collator(
        processor=ImageProcessor(processing), tokenizer=tokenizer, template=TEMPLATES["compact"], max_positions=768,
        row_positions=320,
    )  # fmt: skip


def losses(folder: Path, stage: str) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / stage / METRICS_FILE).read_text().splitlines()]


def test_it_learns_to_see_then_to_connect_then_to_read_then_to_answer(finished: Path) -> None:
    assert [stage.name for stage in documents().stages] == ["see", "connect", "read", "answer"]
    assert [stage.is_frozen for stage in documents().stages] == [False, True, False, False]
    for stage in STAGES:
        found = losses(finished, stage)
        assert len(found) == 6 and found[-1] < found[0]


FIRST_LOSSES = {
    "1-see": (4.836, 4.612),
    "2-connect": (6.256, 6.088),
    "3-read": (10.250, 10.081),
    "4-answer": (9.794, 9.544),
}
"""Of each stage in miniature, in the one face that is the same on every machine."""


def test_the_first_losses_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_font_folders", lambda: iter(()))
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: False)
    for cached in (fonts.installed_faces, fonts.fonts_digest):
        cached.cache_clear()
    try:
        run(smoke(), tmp_path)
    finally:
        for cached in (fonts.installed_faces, fonts.fonts_digest):
            cached.cache_clear()
    found = {stage: tuple(losses(tmp_path, stage)[:2]) for stage in STAGES}
    assert found == {stage: pytest.approx(wanted, rel=1e-2) for stage, wanted in FIRST_LOSSES.items()}, found


def test_the_model_can_be_asked(finished: Path) -> None:
    scores = json.loads((finished / SCORES_FILE).read_text())
    assert scores.keys() == {"2-connect", "3-read", "4-answer"}
    assert all(total == 8 for stage in scores.values() for _, total in stage.values())
    picture = document_sample("test", 0, "sign", (192, 128), num_questions=0, phrasing="train").image
    assert (
        fastvlm.load(finished / "model")
        .ask("What does it say?", images=[picture], max_new_tokens=3)
        .usage.visual_tokens
        == 6
    )


def test_a_stopped_run_goes_on_to_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    def stop(name: str, step: StepReport) -> None:
        if (name, step.step) == ("3-read", 3):
            raise Interrupted("now")

    with pytest.raises(Interrupted):
        run(replace(smoke(), save_every=1), tmp_path, report=stop)
    run(replace(smoke(), save_every=1), tmp_path)
    for stage in STAGES:
        assert losses(tmp_path, stage) == losses(finished, stage)
    assert (tmp_path / "model/model.safetensors").read_bytes() == (finished / "model/model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="other settings: seed"):
        run(replace(smoke(), seed=1), tmp_path)


def test_a_run_can_be_planned_by_its_time(tmp_path: Path) -> None:
    recipe = planned(smoke(), tmp_path, minutes=0.02)
    plan = json.loads((tmp_path / PLAN_FILE).read_text())
    assert [stage.num_steps for stage in recipe.stages] == plan["num_steps"]
    assert sum(stage.time_share for stage in documents().stages) == pytest.approx(1)
    assert planned(smoke(), tmp_path, minutes=0.02) == recipe, "measured once"
    assert replace(recipe, stages=smoke().stages) == smoke(), "nothing else changes"
    with pytest.raises(TrainingError, match=r"the 0\.02 minutes .* got 5\."):
        planned(smoke(), tmp_path, minutes=5)


def test_batches_are_the_same_everywhere_and_of_one_size(collator: Collator) -> None:
    for batches in (
        LineBatches(collator=collator, num_steps=12, batch_size=3, canvases=((256, 128), (512, 64))),
        DocumentBatches(collator=collator, num_steps=12, batch_size=3, questions_per_picture=3),
    ):
        assert len(batches) == 12
        has_padding = False
        for step in range(12):
            one, again = batches[step], batches[step]
            assert np.array_equal(one.pixels, again.pixels) and np.array_equal(one.token_ids, again.token_ids)
            assert one.pixels.shape[0] == 3 and one.supervised.any(1).all()
            height_px, width_px = one.pixels.shape[2:]
            assert one.is_visual.sum() == 3 * height_px * width_px // 4096, "as drawn, not resized"
            has_padding |= bool((one.pixels[:, :, :, :2] == 0).all())
        assert has_padding
        with pytest.raises(IndexError):
            batches[12]


def test_every_character_has_a_cell_in_every_stage() -> None:
    """Small cells of all stages tell the same characters where none shares its cell with another."""
    drawing = document_sample("train", 3, "form", (384, 320), num_questions=0, phrasing="train").document.drawing
    placed = characters(drawing)
    labels = dense_characters(drawing, CharacterTargets(num_classes=97).grids, (384, 320))
    for stage, classes in labels.class_maps.items():
        assert classes.shape[2:] == (drawing.height_px >> (stage + 2), drawing.width_px >> (stage + 2))
        assert 0.97 * len(placed.classes) <= (classes > 0).sum() <= len(placed.classes)
    first = drawing.texts[0]
    (x_px, y_px), number = placed.centers_px[0], CHARACTER_NUMBERS[first.text[0]]
    tokens = labels.class_maps[4][0]
    inner = int(y_px % 64) // 16 * 16 + int(x_px % 64) // 4
    assert tokens[inner, int(y_px) // 64, int(x_px) // 64] == number


def test_labels_move_with_the_padding() -> None:
    """A drawing of less than its canvas stands where the processor puts it."""
    drawing = document_sample("train", 3, "form", (340, 300), num_questions=0, phrasing="train").document.drawing
    collator = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=30, max_enlargement=1.0))
    (shown,) = collator.pictures(render(drawing))
    assert shown.shape[:2] == (320, 384)
    inner = shown[10:310, 22:362]
    assert (inner == render(drawing)).all()
    labels = dense_characters(drawing, {1: (1, 2)}, (384, 320)).class_maps[1][0]
    (x_px, y_px), number = characters(drawing).centers_px[0] + (22, 10), CHARACTER_NUMBERS[drawing.texts[0].text[0]]
    assert labels[int(x_px % 8) // 4, int(y_px) // 8, int(x_px) // 8] == number


def test_reading_heads_score_what_stands_in_each_cell() -> None:
    torch.manual_seed(0)
    vision = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), form="train")
    heads = CharacterHeads(vision, CharacterTargets(num_classes=5, grids={2: (1, 2), 4: (2, 2)}, background_weight=0.5))
    maps = [torch.randn(3, width, 64 >> stage, 64 >> stage) for stage, width in enumerate((8, 8, 16, 32, 32))]
    maps.append(torch.randn(3, vision.output_width, 4, 4))
    generator = np.random.default_rng(0)
    wanted = {2: generator.integers(0, 5, (3, 2, 16, 16)), 4: generator.integers(0, 5, (3, 4, 4, 4))}
    nothing = np.zeros((3, 0, 0), np.float32)
    loss = heads(maps, fastvlm.batches.DenseLabels(wanted, nothing, nothing))
    expected = {}
    for stage, cells in ((2, 2), (4, 4)):
        scores = heads.heads[str(stage)](maps[-1 if stage == 4 else stage]).unflatten(1, (cells, 5)).double()
        weights = torch.tensor([0.5, 1, 1, 1, 1], dtype=torch.float64)
        own = torch.from_numpy(wanted[stage])
        logs = scores.log_softmax(2).gather(2, own[:, :, None]).squeeze(2)
        expected[stage] = float(-(weights[own] * logs.detach()).sum() / weights[own].sum())
        assert float(loss.parts[f"characters_{stage}"]) == pytest.approx(expected[stage], rel=1e-5)
    assert float(loss.total) == pytest.approx(sum(expected.values()) / 2, rel=1e-5)
    told = heads.heads["4"](maps[-1]).unflatten(1, (4, 5)).argmax(2)
    own = torch.from_numpy(wanted[4])
    assert float(loss.parts["told"]) == pytest.approx(float((told == own)[own > 0].float().mean()))
