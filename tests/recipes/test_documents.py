"""The recipe `documents` in miniature: its order, what is frozen, the same numbers after a stop, a model to ask."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fastvlm
from fastvlm.batches import DenseLabels, Int64Array
from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.data.collate import Collator
from fastvlm.data.documents import (
    NUM_COLORS,
    NUM_EDGES,
    OUTSIDE_EVERY,
    PLACE_UNIT,
    DocumentBatches,
    LineBatches,
    chosen_questions,
    dense_characters,
    with_looks,
)
from fastvlm.data.examples import Example
from fastvlm.data.sources import BLIND_EVERY
from fastvlm.data.synthetic.documents import fonts
from fastvlm.data.synthetic.documents.drawing import CHARACTER_NUMBERS, Drawing, characters, render
from fastvlm.data.synthetic.documents.labels import asked
from fastvlm.data.synthetic.documents.questions import DocumentQuestion
from fastvlm.data.synthetic.documents.samples import document_sample
from fastvlm.errors import TrainingError
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.recipes.document_settings import (
    NO_PICTURE_ANSWER,
    OUTSIDE_ANSWER,
    SPECIAL_TOKENS,
    DocumentsRecipe,
    documents,
    documents_on_a_gpu,
    smoke,
)
from fastvlm.recipes.documents import SCORES_FILE, _batches, _fresh, _identity, _tell_scores, _tokenizer, run, timed
from fastvlm.training import precision
from fastvlm.training.loop import METRICS_FILE, Interrupted
from fastvlm.training.meter import StepReport
from fastvlm.training.mixture import Mixture
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets
from fastvlm.training.tasks.dense import DenseTask
from fastvlm.training.tasks.sight import SightHeads

STAGES = ("1-see", "2-see-on", "3-look", "4-connect", "5-find", "6-look-on", "7-find-on", "8-find-more")


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


def test_it_learns_to_see_then_to_read_then_to_answer(finished: Path) -> None:
    assert [f"{number}-{stage.name}" for number, stage in enumerate(documents().stages, start=1)] == list(STAGES)
    for stage in STAGES:
        found = losses(finished, stage)
        assert len(found) == 6
        if stage in ("1-see", "4-connect"):  # of one sort of pictures
            assert found[-1] < found[0]


FIRST_LOSSES = {
    "1-see": (4.5570, 4.5676),
    "2-see-on": (4.3692, 4.3666),
    "3-look": (6.3671, 14.071),
    "4-connect": (14.637, 14.487),
    "5-find": (20.868, 19.541),
    "6-look-on": (11.802, 15.913),
    "7-find-on": (18.019, 18.130),
    "8-find-more": (29.112, 17.389),
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


@pytest.mark.parametrize("recipe", [documents(), documents_on_a_gpu()], ids=["processors", "gpu"])
def test_stages_share_all_of_a_time(recipe: DocumentsRecipe) -> None:
    assert sum(stage.time_share for stage in recipe.stages) == pytest.approx(1)
    assert [stage.is_frozen for stage in recipe.stages] == [
        stage.task == "instruct" and stage.name != "answer" for stage in recipe.stages
    ]
    assert recipe.processing.max_visual_tokens == 128


def test_what_comes_later_may_change_before_a_run_is_resumed() -> None:
    recipe = timed(documents(), minutes=100)
    *before, last = documents().stages
    changed = timed(replace(documents(), stages=(*before, replace(last, time_share=0.5))), minutes=100)
    number = len(recipe.stages)
    assert _identity(changed, number - 1) == _identity(recipe, number - 1)
    assert _identity(changed, number) != _identity(recipe, number)


def test_the_model_can_be_asked(finished: Path) -> None:
    scores = json.loads((finished / SCORES_FILE).read_text())
    assert scores.keys() == {"4-connect", "5-find", "7-find-on", "8-find-more"}
    assert all(total == 8 for stage in scores.values() for _, total in stage.values())
    picture = document_sample("test", 0, "sign", (192, 128), num_questions=0, phrasing="train").image
    assert (
        fastvlm.load(finished / "model")
        .ask("What does it say?", images=[picture], max_new_tokens=3)
        .usage.visual_tokens
        == 24
    ), "twice as large on a side"


def test_a_stopped_run_goes_on_to_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    def stop(name: str, step: StepReport) -> None:
        if (name, step.step) == ("4-connect", 3):
            raise Interrupted("now")

    with pytest.raises(Interrupted):
        run(replace(smoke(), save_every=1), tmp_path, report=stop)
    run(replace(smoke(), save_every=1), tmp_path)
    for stage in STAGES:
        assert losses(tmp_path, stage) == losses(finished, stage)
    assert (tmp_path / "model/model.safetensors").read_bytes() == (finished / "model/model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="other settings: seed"):
        run(replace(smoke(), seed=1), tmp_path)


def test_a_run_ends_by_its_time_and_is_then_done(tmp_path: Path) -> None:
    recipe = timed(smoke(), minutes=0.1)
    assert [stage.seconds for stage in recipe.stages] == [pytest.approx(6 * one.time_share) for one in smoke().stages]
    begin = time.monotonic()
    model = run(recipe, tmp_path) / "model.safetensors"
    assert time.monotonic() - begin > 6
    written, steps = model.read_bytes(), {stage: len(losses(tmp_path, stage)) for stage in STAGES}
    assert all(0 < number < recipe.stages[0].num_steps for number in steps.values())
    run(recipe, tmp_path)
    assert model.read_bytes() == written and {stage: len(losses(tmp_path, stage)) for stage in STAGES} == steps
    with pytest.raises(TrainingError, match="other settings"):
        run(timed(smoke(), minutes=5), tmp_path)


def test_batches_are_the_same_everywhere_and_of_one_size(collator: Collator) -> None:
    for batches in (
        LineBatches(collator=collator, num_steps=12, batch_size=3, canvases=((256, 128), (512, 64))),
        DocumentBatches(
            collator=collator,
            num_steps=12,
            batch_size=3,
            questions_per_picture=3,
            outside_answer="",
            no_picture_answer="",
        ),
    ):
        assert len(batches) == 12
        has_padding = False
        for step in range(12):
            one, again = batches[step], batches[step]
            assert np.array_equal(one.pixels, again.pixels) and np.array_equal(one.token_ids, again.token_ids)
            assert one.token_ids.shape[0] == 3 and one.supervised.any(1).all()
            num, _, height_px, width_px = one.pixels.shape
            assert one.is_visual.sum() == num * height_px * width_px // 4096
            has_padding |= bool((one.pixels[:, :, :, :2] == 0).all())
        assert has_padding
        with pytest.raises(IndexError):
            batches[12]


def test_every_character_has_a_cell_in_every_stage() -> None:
    """Small cells of all stages tell the same characters where none shares its cell with another."""
    drawing = document_sample("train", 3, "form", (384, 320), num_questions=0, phrasing="train").document.drawing
    placed = characters(drawing)
    generator = np.random.default_rng(0)
    as_it_is = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=30, max_enlargement=1.0))
    labels = dense_characters(drawing, CharacterTargets(num_classes=97).grids, as_it_is, generator)
    assert labels is not None
    for stage, classes in labels.class_maps.items():
        assert classes.shape[2:] == (drawing.height_px >> (stage + 2), drawing.width_px >> (stage + 2))
        assert 0.97 * len(placed.classes) <= (classes > 0).sum() <= len(placed.classes)
    first = drawing.texts[0]
    (x_px, y_px), number = placed.centers_px[0], CHARACTER_NUMBERS[first.text[0]]
    tokens = labels.class_maps[4][0]
    inner = int(y_px % 64) // 16 * 16 + int(x_px % 64) // 4
    assert tokens[inner, int(y_px) // 64, int(x_px) // 64] == number


def test_labels_move_with_the_padding() -> None:
    """A drawing of less than its canvas stands where the processor puts it, as large as it makes it."""
    drawing = document_sample("train", 3, "form", (340, 300), num_questions=0, phrasing="train").document.drawing
    collator = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=30, max_enlargement=1.0))
    (shown,) = collator.pictures(render(drawing))
    assert shown.shape[:2] == (320, 384)
    inner = shown[10:310, 22:362]
    assert (inner == render(drawing)).all()
    (x_px, y_px), number = characters(drawing).centers_px[0], CHARACTER_NUMBERS[drawing.texts[0].text[0]]
    assert _labels(drawing, collator)[_cell(x_px + 22, y_px + 10)] == number
    twice = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=120, max_enlargement=2.0))
    assert twice.place(340, 300) == (12, 20, 692, 620)
    assert _labels(drawing, twice)[_cell(2 * x_px + 12, 2 * y_px + 20)] == number


def _labels(drawing: Drawing, processor: ImageProcessor) -> Int64Array:
    labels = dense_characters(drawing, {1: (1, 2)}, processor, np.random.default_rng(0))
    assert labels is not None and labels.content == "characters"
    return labels.class_maps[1][0]


def _cell(x_px: float, y_px: float) -> tuple[int, int, int]:
    return int(x_px % 8) // 4, int(y_px) // 8, int(x_px) // 8


def test_visual_tokens_should_know_the_colours_of_their_cells_and_where_they_are(collator: Collator) -> None:
    """Red at the left and green below, as the encoder is given them."""
    picture = np.zeros((128, 64, 3), np.uint8)
    picture[:, :32, 0], picture[64:, :, 1] = 255, 51
    nothing = np.zeros((1, 0, 0), np.float32)
    dense = DenseLabels({}, nothing, nothing, "characters")
    talk = (user(ImagePart(picture), "Read the text."), assistant("no"))
    as_it_is = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=2))
    batch = with_looks(replace(collator, processor=as_it_is)([Example("a", (picture,), (talk,), dense)]))
    in_levels = replace(collator, processor=as_it_is, keeps_levels=True)([Example("a", (picture,), (talk,), dense)])
    of_levels = with_looks(in_levels).dense
    assert of_levels is not None and batch.dense is not None
    assert of_levels.token_features == pytest.approx(batch.dense.token_features, abs=1e-6)
    rows, columns = (side // 64 for side in batch.pixels.shape[2:])
    assert batch.dense is not None and batch.dense.token_features.shape == (1, rows * columns, NUM_COLORS + NUM_EDGES)
    edges = (PLACE_UNIT * batch.dense.token_features[0, :, NUM_COLORS:]).round().astype(int)
    for number, (left, above, right, below) in enumerate(edges):
        assert (left, above) == (number % columns, number // columns)
        assert (left + 1 + right, above + 1 + below) == (columns, rows)
    cells = batch.dense.token_features[:, :, :NUM_COLORS].reshape(rows, columns, 3, 8, 8).transpose(2, 0, 3, 1, 4)
    cells = cells.reshape(3, rows * 8, columns * 8)
    half = columns * 8 // 2
    assert cells[0, :, : half - 1] == pytest.approx(1, abs=0.01)
    assert cells[0, :, half + 1 :] == pytest.approx(0, abs=0.01)
    assert cells[1, : rows * 4 - 1] == pytest.approx(0, abs=0.01)
    assert cells[1, rows * 4 + 1 :] == pytest.approx(0.2, abs=0.01)
    assert float(batch.dense.token_weights.sum()) == pytest.approx(5 * rows * columns)


def test_heads_learn_what_the_labels_of_a_batch_are_about() -> None:
    torch.manual_seed(0)
    recipe = smoke()
    heads = SightHeads(recipe.vision, recipe.targets, recipe.objects, num_looks=NUM_COLORS + NUM_EDGES)
    model = FastViTHD(recipe.vision)
    tokenizer = train_byte_level_bpe(["a"], vocabulary_size=300, special_tokens=SPECIAL_TOKENS)
    batches = _batches(recipe, recipe.stages[2], tokenizer, 3, 0)
    assert isinstance(batches, Mixture)
    parts = [set(DenseTask(model, heads).loss(source[0]).parts) for source in batches.sources]
    reading = {f"characters_{stage}" for stage in (1, 2, 3, 4)} | {"told"}
    assert parts == [reading | {"looks"}, {"dense_class", "dense_token"}, reading]


def test_a_mixture_takes_steps_in_shares() -> None:
    class Steps:
        def __init__(self, name: str) -> None:
            self.name = name

        def __len__(self) -> int:
            return 2000

        def __getitem__(self, step: int) -> str:
            return f"{self.name}{step}"

    mixture = Mixture((Steps("a"), Steps("b")), (0.25, 0.75), seed=1)
    steps = [mixture[step] for step in range(len(mixture))]
    assert steps == [mixture[step] for step in range(2000)]
    assert all(text[1:] == str(step) for step, text in enumerate(steps))
    assert sum(text[0] == "a" for text in steps) / 2000 == pytest.approx(0.25, abs=0.03)
    with pytest.raises(IndexError):
        mixture[2000]
    with pytest.raises(TrainingError, match="2 sources and shares of 1"):
        Mixture((Steps("a"), Steps("b")), (1.0,))


def test_some_documents_are_as_large_as_real_ones(collator: Collator) -> None:
    as_it_is = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=96, max_enlargement=1.0))
    batches = DocumentBatches(
        collator=replace(collator, processor=as_it_is), num_steps=16, batch_size=1, questions_per_picture=1,
        large_share=0.5, outside_answer="", no_picture_answer="",
    )  # fmt: skip
    largest = {
        share: max(int(one.is_visual.sum()) for one in map(replace(batches, large_share=share).__getitem__, range(16)))
        for share in (0.0, 0.5)
    }
    assert largest[0.0] <= 49 < 64 < largest[0.5] <= 96


def test_what_no_picture_answers_is_said_to_be_so(collator: Collator) -> None:
    """Some documents are asked what has nothing to do with them, a few are asked about without being shown."""
    batches = DocumentBatches(
        collator=collator, num_steps=30, batch_size=8, questions_per_picture=2,
        outside_answer=OUTSIDE_ANSWER, no_picture_answer=NO_PICTURE_ANSWER,
    )  # fmt: skip
    outside = blind = shown = 0
    for step in range(len(batches)):
        batch = batches[step]
        for row in range(len(batch.token_ids)):
            text = collator.tokenizer.decode(batch.token_ids[row][batch.supervised[row]].tolist())
            outside += OUTSIDE_ANSWER in text
            blind += NO_PICTURE_ANSWER in text
            assert (NO_PICTURE_ANSWER in text) != bool(batch.is_visual[row].any())
            shown += bool(batch.is_visual[row].any())
        assert len(batch.pixels) == batch.is_visual.any(1).sum()
    assert outside / 240 == pytest.approx(1 / OUTSIDE_EVERY, abs=0.08)
    assert blind / 240 == pytest.approx(1 / BLIND_EVERY, abs=0.03) and blind + shown == 240


def test_only_what_matters_is_asked_of_the_cells() -> None:
    """Characters always, what is around them never, and of all that is empty a part."""
    found = np.zeros((40, 60), np.int64)
    found[0, 0], found[20, 30], found[20, 32] = 5, 6, 7
    labels = asked(found, np.random.default_rng(0))
    assert (labels[found > 0] == found[found > 0]).all()
    near = np.zeros_like(found, dtype=bool)
    near[:2, :2] = near[19:22, 29:34] = True
    assert (labels[near & (found == 0)] == -1).all()
    assert set(labels[~near].tolist()) == {0, -1}
    assert 0.2 < (labels[~near] == 0).mean() < 0.3


def test_reading_heads_score_what_stands_in_each_cell() -> None:
    torch.manual_seed(0)
    vision = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), form="train")
    targets = CharacterTargets(num_classes=5, grids={2: (1, 2), 4: (2, 2)}, background_weight=0.5, cell_width=3)
    heads = CharacterHeads.of(vision, targets)
    maps = [torch.randn(3, width, 64 >> stage, 64 >> stage) for stage, width in enumerate((8, 8, 16, 32, 32))]
    maps.append(torch.randn(3, vision.output_width, 4, 4))
    generator = np.random.default_rng(0)
    wanted = {2: generator.integers(-1, 5, (3, 2, 16, 16)), 4: generator.integers(-1, 5, (3, 4, 4, 4))}
    nothing = np.zeros((3, 0, 0), np.float32)
    loss = heads(maps, fastvlm.batches.DenseLabels(wanted, nothing, nothing))
    expected = {}
    for stage, cells in ((2, 2), (4, 4)):
        # N x K x 3 x H x W, small cell k of a place reading its own three features.
        features = heads.cells[str(stage)](maps[-1 if stage == 4 else stage]).unflatten(1, (cells, 3)).double()
        scores = torch.einsum("nkfhw,cf->nkchw", features, heads.classes.weight.double())
        scores = scores + heads.classes.bias.double()[:, None, None]
        own = torch.from_numpy(wanted[stage])
        weights = torch.tensor([0.5, 1, 1, 1, 1], dtype=torch.float64)[own.clamp(min=0)] * (own >= 0)
        logs = scores.log_softmax(2).gather(2, own.clamp(min=0)[:, :, None]).squeeze(2)
        expected[stage] = float(-(weights * logs.detach()).sum() / weights.sum())
        assert float(loss.parts[f"characters_{stage}"]) == pytest.approx(expected[stage], rel=1e-5)
        told = float((scores.argmax(2) == own)[own > 0].float().mean())
    assert float(loss.total) == pytest.approx(sum(expected.values()) / 2, rel=1e-5)
    assert float(loss.parts["told"]) == pytest.approx(told)


def test_what_is_looked_up_by_name_is_asked_more_often_and_what_is_not_shown_less() -> None:
    def about(intent: str, *named: str) -> DocumentQuestion:
        return DocumentQuestion("form", intent, f"{intent} {named}?", "1", f"{intent}/train/0", named)

    many = [about("value", "Name"), about("title"), about("not_shown", "City"), about("num_fields"), about("kind")]
    rng = random.Random(0)
    drawn = [chosen_questions(many, 2, rng) for _ in range(2000)]
    assert all(len(pair) == 2 and many.index(pair[0]) < many.index(pair[1]) for pair in drawn)
    count = Counter(question.intent for pair in drawn for question in pair)
    assert count["value"] > 1.2 * count["title"] and count["title"] > 1.5 * count["not_shown"] > count["kind"]
    assert chosen_questions(many[:2], 8, rng) == many[:2]


def test_unseen_typefaces_are_told_of_only_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, unseen = (
        next(face for face in fonts.TYPEFACES if (face.design in fonts.HELD_OUT_DESIGNS) == is_held_out)
        for is_held_out in (False, True)
    )
    for typefaces, expected in (((seen, seen), False), ((unseen,), False), ((seen, unseen), True)):
        faces = tuple(fonts.Face(typeface, "Regular", None) for typeface in typefaces)
        monkeypatch.setattr(fonts, "installed_faces", lambda found=faces: found)
        assert fonts.has_unseen_faces() == expected
    scores = {"a": {"train": [1, 4], "held_out": [2, 4]}, "b": {"train": [1, 4]}}
    (tmp_path / SCORES_FILE).write_text(json.dumps(scores))
    told: list[str] = []
    for stage in ("a", "b"):
        _tell_scores(smoke(), None, None, tmp_path, stage, told.append)  # type: ignore[arg-type]
    assert told[0].endswith("50.0 % in typefaces that it has not seen")
    assert "25.0 % of 4 lines" in told[1] and "no typefaces here that it has not seen" in told[1]


def test_everything_learns_in_the_last_stage_for_a_gpu(tmp_path: Path) -> None:
    last = replace(documents_on_a_gpu().stages[-1], num_steps=2, batch_size=4, warmup_steps=1)
    assert (last.name, last.is_frozen) == ("answer", False)
    fresh = _fresh(smoke(), _tokenizer(smoke(), tmp_path))[0].state_dict()
    model = load_checkpoint(run(replace(smoke(), stages=(last,)), tmp_path), form="stored").model.state_dict()
    for part in ("projector", "decoder"):
        matrices = [name for name in model if name.startswith(part) and model[name].ndim == 2]
        assert matrices and not any(torch.equal(fresh[name], model[name]) for name in matrices), part
    for line in (tmp_path / "1-answer" / METRICS_FILE).read_text().splitlines():
        step = json.loads(line)
        assert math.isfinite(step["loss"]) and "words" in step
        assert {"characters_4", "dense_class"} & step.keys(), "what the encoder is told, of documents or of scenes"
