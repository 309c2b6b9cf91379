"""A small FastVLM that reads, trained from nothing on generated documents. It reproduces no table of the paper.

The order is the paper's, scaled down; what stands in for its pretrained parts is marked. First the encoder learns to
read, cell by cell (in place of contrastive pretraining: generated text knows where each character stands). Then the
projector and a fresh decoder learn to write down short lines that a frozen encoder sees (stage 1), everything learns
lines in larger pictures (stage 1.5), and then to answer questions about documents (stage 2). Sizes, rates and lengths
are our own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import torch

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.documents import DocumentBatches, LineBatches
from fastvlm.data.synthetic.documents.corpus import document_corpus
from fastvlm.data.synthetic.documents.drawing import NUM_CHARACTER_CLASSES
from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.data.synthetic.documents.samples import DOCUMENTS_VERSION
from fastvlm.data.synthetic.samples import tokenizer_corpus
from fastvlm.errors import TrainingError
from fastvlm.evaluation.scores import Accuracy
from fastvlm.files import write_whole
from fastvlm.messages import assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.fused import padded, save_fused
from fastvlm.training.loop import LoopSettings, StepReport, train
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import refuse_several
from fastvlm.training.parts import freeze
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.task import Task
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets
from fastvlm.training.tasks.dense import DenseTask
from fastvlm.training.tasks.instruct import InstructTask
from fastvlm.training.workers import Batches

SPECIAL_TOKENS = ("<|user|>", "<|assistant|>", "<|end|>")
SCORES_FILE = "scores.json"

LINE_CANVASES = ((256, 128), (256, 128), (256, 128), (512, 64), (128, 256))
"""(width, height) of eight visual tokens."""

CROP_CANVASES = ((192, 64),)
CROP_CHARACTERS = (2, 7)
"""What the first milestone is judged on: short lines in three visual tokens."""


@dataclass(frozen=True, kw_only=True)
class DocumentStage:
    """One stage: what learns, on which pictures, for how long. data: crops, lines, or documents with questions.

    is_frozen: the encoder keeps what it has learned. dense_weight: of the dense reading loss beside that of words.
    time_share: of a run that is planned by its time (see `planned`).
    """

    name: str
    task: Literal["dense", "instruct"]
    data: Literal["crops", "lines", "documents"]
    num_steps: int
    batch_size: int
    learning_rate: float
    is_frozen: bool = False
    dense_weight: float = 1.0
    questions_per_picture: int = 6
    warmup_steps: int = 60
    time_share: float = 0.25


@dataclass(frozen=True, kw_only=True)
class DocumentsRecipe:
    """The complete run; all that its numbers depend on, but the code and the typefaces, is in its fields.

    vocabulary_size: upper limit for the tokenizer, which learns its merges from questions, not from what documents say:
    that is read letter by letter. row_positions: tokens of a packed row: a picture and some questions.
    """

    vision: FastViTHDConfig
    decoder: DecoderConfig
    processing: ProcessingConfig
    stages: tuple[DocumentStage, ...]
    targets: CharacterTargets
    template: str = "compact"
    vocabulary_size: int = 1536
    tokenizer_texts: int = 20_000
    row_positions: int = 320
    muon_parts: tuple[str, ...] = ("decoder.layers", "vision.stages")
    seed: int = 0
    num_workers: int = 1
    save_every: int = 100
    num_scored: int = 512


def documents() -> DocumentsRecipe:
    """The model that reads: some hours on two CPU cores."""
    return DocumentsRecipe(
        vision=FastViTHDConfig(
            depths=(1, 2, 6, 2, 2), widths=(16, 32, 96, 192, 384), layer_scale_init=1.0, form="train"
        ),
        decoder=DecoderConfig(
            vocabulary_size=1024, width=256, num_layers=6, num_heads=8, num_key_value_heads=4,
            feed_forward_width=704, head_dim=32, max_positions=768, rope_theta=10_000.0,
        ),
        processing=ProcessingConfig(mode="fit", max_visual_tokens=96, max_enlargement=1.0),
        targets=CharacterTargets(num_classes=NUM_CHARACTER_CLASSES),
        stages=(
            DocumentStage(
                name="see", task="dense", data="lines", num_steps=2300, batch_size=64, learning_rate=1e-2,
                time_share=0.35,
            ),
            DocumentStage(
                name="connect", task="instruct", data="crops", num_steps=4000, batch_size=64, learning_rate=4e-3,
                is_frozen=True, time_share=0.15,
            ),
            DocumentStage(
                name="read", task="instruct", data="lines", num_steps=2000, batch_size=32, learning_rate=2e-3,
                time_share=0.1,
            ),
            DocumentStage(
                name="answer", task="instruct", data="documents", num_steps=12_000, batch_size=8, learning_rate=2e-3,
                time_share=0.4,
            ),
        ),
    )  # fmt: skip


def smoke() -> DocumentsRecipe:
    """The same run in miniature, for tests: seconds on one core."""
    full = documents()
    return replace(
        full,
        vision=replace(full.vision, depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 32)),
        decoder=replace(full.decoder, width=64, num_layers=2, num_heads=2, num_key_value_heads=1),
        stages=tuple(replace(stage, num_steps=6, batch_size=4, warmup_steps=1) for stage in full.stages),
        vocabulary_size=512,
        tokenizer_texts=400,
        num_workers=0,
        save_every=2,
        num_scored=8,
    )


RECIPES: dict[str, Callable[[], DocumentsRecipe]] = {"documents": documents, "documents-smoke": smoke}
"""Complete runs by name."""


PLAN_FILE = "plan.json"
_TIMED_STEPS = 6


def planned(recipe: DocumentsRecipe, folder: Path, *, minutes: float) -> DocumentsRecipe:
    """The recipe with as many steps in each stage as take its share of so many minutes on this machine.

    The steps are measured once, on throwaway weights, and kept in `folder`, so that a resumed run has the same.
    Raises TrainingError where the run in `folder` was planned for another time.
    """
    path = folder / PLAN_FILE
    if path.is_file():
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["minutes"] != minutes:
            raise TrainingError(
                f"Expected the {plan['minutes']:g} minutes that the run in {folder} was planned for, got {minutes:g}. "
                "Give the same, or another output folder."
            )
        return _with_steps(recipe, plan["num_steps"])
    tokenizer = _tokenizer(recipe, folder)
    num_steps = [
        max(1, int(60 * minutes * stage.time_share / _seconds_a_step(recipe, stage, tokenizer)))
        for stage in recipe.stages
    ]
    write_whole(path, json.dumps({"minutes": minutes, "num_steps": num_steps}) + "\n")
    return _with_steps(recipe, num_steps)


def _with_steps(recipe: DocumentsRecipe, num_steps: Sequence[int]) -> DocumentsRecipe:
    stages = (replace(stage, num_steps=number) for stage, number in zip(recipe.stages, num_steps, strict=True))
    return replace(recipe, stages=tuple(stages))


def _seconds_a_step(recipe: DocumentsRecipe, stage: DocumentStage, tokenizer: Tokenizer) -> float:
    """The median of a few steps, the first of which, with all that is prepared for it, does not count."""
    model, heads = _fresh(recipe, tokenizer)
    if stage.is_frozen:
        freeze(model.vision)
    few = replace(stage, num_steps=_TIMED_STEPS)
    settings = replace(_loop_settings(recipe, few), log_every=1, save_every=_TIMED_STEPS)
    rates: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            _task(few, model, heads),
            _batches(recipe, few, tokenizer, 1, 0),
            settings,
            Path(folder),
            report=lambda step: rates.append(step.steps_per_second),
        )
    return 1 / statistics.median(rates[1:])


def _fresh(recipe: DocumentsRecipe, tokenizer: Tokenizer) -> tuple[FastVLM, CharacterHeads]:
    """Model and heads that have learned nothing, the same each time."""
    torch.manual_seed(recipe.seed)
    decoder = replace(recipe.decoder, vocabulary_size=padded(tokenizer.vocabulary_size))
    model = FastVLM(VLMConfig(vision=recipe.vision, decoder=decoder))
    heads = CharacterHeads(recipe.vision, recipe.targets)
    placed: FastVLM = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as torch documents it
    return placed, heads


def run(
    recipe: DocumentsRecipe,
    folder: Path,
    *,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train, or go on where `folder` stands, and write the checkpoint `folder/model`; returns its path.

    report: called with the stage's name and its progress. tell: told how much of short lines is read, once the decoder
    has learned to.
    """
    refuse_several("this recipe")
    tokenizer = _tokenizer(recipe, folder)
    model, heads = _fresh(recipe, tokenizer)
    first_index = 0
    for number, stage in enumerate(recipe.stages, start=1):
        name = f"{number}-{stage.name}"
        model.vision.requires_grad_(True)
        if stage.is_frozen:
            freeze(model.vision)
        train(
            _task(stage, model, heads),
            _batches(recipe, stage, tokenizer, number, first_index),
            _loop_settings(recipe, stage),
            folder / name,
            identity=_identity(recipe, number),
            report=partial(report, name),
        )
        first_index += stage.num_steps * stage.batch_size
        if stage.task == "instruct":
            _tell_scores(recipe, model, tokenizer, folder, name, tell)
    model.vision.requires_grad_(True)
    result = folder / "model"
    if not result.is_dir():
        save_fused(
            result, model.eval(), tokenizer, name="documents", processing=recipe.processing, template=recipe.template
        )
    return result


def _identity(recipe: DocumentsRecipe, number: int) -> Identity:
    """Everything that the numbers of stage `number` depend on: what comes later may change before a run is resumed."""
    return {
        **identity_of(recipe, without=("num_workers", "save_every", "num_scored", "stages")),
        "stages": repr(recipe.stages[:number]),
        "generator": repr(DOCUMENTS_VERSION),
        "fonts": fonts_digest(),
    }


def _task(stage: DocumentStage, model: FastVLM, heads: CharacterHeads) -> Task[TrainingBatch]:
    if stage.task == "dense":
        return DenseTask(model.vision, heads)
    if stage.is_frozen:
        return InstructTask(model)
    return InstructTask(model, heads=heads, dense_weight=stage.dense_weight)


def _collator(recipe: DocumentsRecipe, tokenizer: Tokenizer) -> Collator:
    return Collator(
        processor=ImageProcessor(recipe.processing),
        tokenizer=tokenizer,
        template=TEMPLATES[recipe.template],
        max_positions=recipe.decoder.max_positions,
        row_positions=recipe.row_positions,
    )


def _batches(
    recipe: DocumentsRecipe, stage: DocumentStage, tokenizer: Tokenizer, number: int, first_index: int
) -> Batches[TrainingBatch]:
    collator = _collator(recipe, tokenizer)
    grids = {} if stage.is_frozen else recipe.targets.grids
    if stage.data == "documents":
        return DocumentBatches(
            collator=collator,
            num_steps=stage.num_steps,
            batch_size=stage.batch_size,
            questions_per_picture=stage.questions_per_picture,
            grids=grids,
            first_index=first_index,
        )
    is_crop = stage.data == "crops"
    return LineBatches(
        collator=collator,
        num_steps=stage.num_steps,
        batch_size=stage.batch_size,
        canvases=CROP_CANVASES if is_crop else LINE_CANVASES,
        grids=grids,
        max_lines=1 if is_crop else 8,
        seed=number - 1,
    )


def _loop_settings(recipe: DocumentsRecipe, stage: DocumentStage) -> LoopSettings:
    optimizer = OptimizerSettings(
        learning_rate=stage.learning_rate, warmup_steps=stage.warmup_steps, muon_parts=recipe.muon_parts
    )
    return LoopSettings(
        optimizer=optimizer,
        seed=recipe.seed,
        log_every=max(1, min(20, stage.num_steps // 20)),
        num_workers=recipe.num_workers,
        save_every=recipe.save_every,
        # Of documents few fit into a batch; from then on the statistics are those of the lines.
        keeps_statistics=stage.data == "documents",
    )


_SCORED_SEED = 1_000_003
"""Of pictures that no stage is trained on."""


def crop_accuracy(
    recipe: DocumentsRecipe, model: FastVLM, tokenizer: Tokenizer, fonts: Literal["train", "held_out"]
) -> Accuracy:
    """How many short lines are read to the last letter, in seen or unseen typefaces: an answer is the likeliest one."""
    task = InstructTask(model.eval())
    batches = LineBatches(
        collator=_collator(recipe, tokenizer),
        num_steps=-(-recipe.num_scored // 32),
        batch_size=min(32, recipe.num_scored),
        canvases=CROP_CANVASES,
        max_lines=1,
        num_characters=CROP_CHARACTERS,
        fonts=fonts,
        words="held_out",
        seed=_SCORED_SEED,
    )
    right = torch.cat([task.right_answers(batches[step]) for step in range(len(batches))])
    return Accuracy(int(right.sum()), len(right))


def _tell_scores(
    recipe: DocumentsRecipe,
    model: FastVLM,
    tokenizer: Tokenizer,
    folder: Path,
    stage: str,
    tell: Callable[[str], None],
) -> None:
    """Score crops after a stage, unless an earlier call has, and keep the scores of all stages."""
    path = folder / SCORES_FILE
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if stage not in scores:
        found = {fonts: crop_accuracy(recipe, model, tokenizer, fonts) for fonts in ("train", "held_out")}
        scores[stage] = {fonts: [score.num_correct, score.num_questions] for fonts, score in found.items()}
        write_whole(path, json.dumps(scores, indent=2) + "\n")
    seen, unseen = (Accuracy(*scores[stage][fonts]) for fonts in ("train", "held_out"))
    fewest, most = CROP_CHARACTERS
    tell(
        f"{stage}: reads {100 * seen.share:.1f} % of {seen.num_questions} lines of {fewest} to {most} characters, "
        f"{100 * unseen.share:.1f} % in typefaces that it has not seen"
    )


def _tokenizer(recipe: DocumentsRecipe, folder: Path) -> Tokenizer:
    """Train the tokenizer on generated questions, or read the one of the run that is resumed."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(path)
    frame = render_text((user("\n"), assistant("\n")), TEMPLATES[recipe.template])
    num = recipe.tokenizer_texts
    texts = chain(document_corpus(num), tokenizer_corpus(num), repeat(frame, num))
    tokenizer = train_byte_level_bpe(texts, vocabulary_size=recipe.vocabulary_size, special_tokens=SPECIAL_TOKENS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer
