"""A small FastVLM that reads, trained from nothing on generated documents. It reproduces no table of the paper.

The order is the paper's, scaled down; what stands in for its pretrained parts is marked. First the encoder learns to
see (in place of contrastive pretraining): it reads lines cell by cell, since generated text knows where each character
stands, in two rounds of rising and falling rates, then whole documents and scenes at the sizes that people ask about.
Then the projector and a fresh decoder learn to write down what a frozen encoder sees (stage 1) and to find in it what
is asked for. Seeing and finding take turns. Where there is a GPU, everything learns to answer at last (stages 1.5 and
2). Sizes, rates and lengths are our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import torch

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.documents import NUM_COLORS, NUM_EDGES, DocumentBatches, LineBatches
from fastvlm.data.sources import SceneBatches
from fastvlm.data.synthetic.documents.corpus import document_corpus
from fastvlm.data.synthetic.documents.fonts import FontSplit, fonts_digest, has_unseen_faces
from fastvlm.data.synthetic.documents.samples import DOCUMENTS_VERSION
from fastvlm.data.synthetic.samples import GENERATOR_VERSION, tokenizer_corpus
from fastvlm.evaluation.scores import Accuracy
from fastvlm.files import write_whole
from fastvlm.messages import assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.vision import gpu_convolution
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.document_settings import (
    CROP_CANVASES,
    CROP_CHARACTERS,
    LINE_CANVASES,
    NO_PICTURE_ANSWER,
    OUTSIDE_ANSWER,
    SCENE_CANVASES,
    SHORT_CANVASES,
    SPECIAL_TOKENS,
    DocumentsRecipe,
    DocumentStage,
)
from fastvlm.recipes.fused import padded, save_fused
from fastvlm.training.compiled import compiled_layers
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.meter import StepReport
from fastvlm.training.mixture import Mixture
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import own_device, refuse_several
from fastvlm.training.parts import freeze
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.task import Task
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets
from fastvlm.training.tasks.dense import DenseTask
from fastvlm.training.tasks.grounding import GroundingHeads, grounding_identity
from fastvlm.training.tasks.instruct import Grounding, InstructTask
from fastvlm.training.tasks.sight import SightHeads
from fastvlm.training.workers import Batches

SCORES_FILE = "scores.json"

_MOST_STEPS = 1_000_000
"""Of a stage that ends by its time."""


def timed(recipe: DocumentsRecipe, *, minutes: float) -> DocumentsRecipe:
    """The recipe whose stages end when their shares of so many minutes have passed."""
    stages = (replace(stage, num_steps=_MOST_STEPS, seconds=60 * minutes * stage.time_share) for stage in recipe.stages)
    return replace(recipe, stages=tuple(stages))


_FEATURE_GAIN = 5.0
"""What brings an encoder's output to a deviation of about one, as it was found after its stages."""


@dataclass(frozen=True)
class Heads:
    """What learns beside the model and is not part of it."""

    sight: SightHeads
    passed: CharacterHeads
    grounding: Grounding


def _passed(recipe: DocumentsRecipe) -> CharacterTargets:
    """What can be read off the visual tokens, which is all that the projector is given."""
    last = max(recipe.targets.grids)
    return replace(recipe.targets, grids={last: recipe.targets.grids[last]})


def _fresh(recipe: DocumentsRecipe, tokenizer: Tokenizer) -> tuple[FastVLM, Heads]:
    """Model and heads that have learned nothing, the same each time."""
    torch.manual_seed(recipe.seed)
    decoder = replace(recipe.decoder, vocabulary_size=padded(tokenizer.vocabulary_size))
    model = FastVLM(VLMConfig(vision=recipe.vision, decoder=decoder))
    model.projector.begin_linear(gain=_FEATURE_GAIN, scale=0.5)
    heads = Heads(
        SightHeads(recipe.vision, recipe.targets, recipe.objects, num_looks=NUM_COLORS + NUM_EDGES),
        CharacterHeads(dict.fromkeys(_passed(recipe).grids, decoder.width), _passed(recipe)),
        Grounding(GroundingHeads(model.decoder, recipe.grounding), recipe.grounding_weight),
    )
    device = own_device()
    layout = gpu_convolution.memory_format(device)
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # as torch documents it
    for one in (heads.sight, heads.passed, heads.grounding.heads):
        one.to(device)
    return model, heads


@gpu_convolution.many_sizes()
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
    is_compiled = recipe.compiles_decoder and own_device().type == "cpu"
    with compiled_layers(list(model.decoder.layers) if is_compiled else []):
        for number, stage in enumerate(recipe.stages, start=1):
            name = f"{number}-{stage.name}"
            model.vision.requires_grad_(True)
            if stage.is_frozen:
                freeze(model.vision)
            train(
                _task(recipe, stage, model, heads),
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
        "stages": repr([replace(stage, time_share=0.0) for stage in recipe.stages[:number]]),
        **grounding_identity(),
        "generator": repr((DOCUMENTS_VERSION, GENERATOR_VERSION)),
        "fonts": fonts_digest(),
    }


def _task(recipe: DocumentsRecipe, stage: DocumentStage, model: FastVLM, heads: Heads) -> Task[TrainingBatch]:
    if stage.task == "dense":
        return DenseTask(model.vision, heads.sight.characters if stage.data == "lines" else heads.sight)
    return InstructTask(
        model,
        heads=None if stage.is_frozen else heads.sight,
        passed=heads.passed,
        dense_weight=stage.dense_weight,
        grounding=heads.grounding,
        answer_exponent=recipe.answer_exponent,
    )


def _collator(recipe: DocumentsRecipe, tokenizer: Tokenizer, *, enlarges: bool = True) -> Collator:
    processing = recipe.processing if enlarges else replace(recipe.processing, max_enlargement=1.0)
    return Collator(
        processor=ImageProcessor(processing),
        tokenizer=tokenizer,
        template=TEMPLATES[recipe.template],
        max_positions=recipe.decoder.max_positions,
        row_positions=recipe.row_positions,
        keeps_levels=True,
    )


def _batches(
    recipe: DocumentsRecipe, stage: DocumentStage, tokenizer: Tokenizer, number: int, first_index: int
) -> Batches[TrainingBatch]:
    is_mixed, is_shown = stage.data == "mixture", stage.data != "lines"
    collator = _collator(recipe, tokenizer, enlarges=is_shown)
    grids = (_passed(recipe) if stage.is_frozen else recipe.targets).grids
    lines = LineBatches(
        collator=collator,
        num_steps=stage.num_steps,
        batch_size=3 * stage.batch_size if is_mixed else stage.batch_size,
        canvases=SHORT_CANVASES if is_shown else LINE_CANVASES,
        grids=grids,
        seed=number - 1,
    )
    if not is_mixed:
        return lines
    num_questions = stage.questions_per_picture if stage.task == "instruct" else 1
    documents = DocumentBatches(
        collator=collator,
        num_steps=stage.num_steps,
        batch_size=stage.batch_size,
        questions_per_picture=num_questions,
        grids=grids,
        outside_answer=OUTSIDE_ANSWER,
        no_picture_answer=NO_PICTURE_ANSWER,
        first_index=first_index,
        large_share=stage.large_share,
        unrelated_share=stage.unrelated_share,
    )
    scenes = SceneBatches(
        collator=collator,
        num_steps=stage.num_steps,
        batch_size=stage.batch_size,
        canvases=SCENE_CANVASES,
        questions_per_picture=round(1.5 * num_questions),
        listings_per_picture=1 if stage.task == "instruct" else 0,
        is_labelled=not stage.is_frozen,
        num_candidates=1 if stage.task == "instruct" else 2,
        outside_answer=OUTSIDE_ANSWER,
        no_picture_answer=NO_PICTURE_ANSWER,
        first_index=first_index,
    )
    return Mixture((documents, scenes, lines), stage.mixture, seed=number - 1)


def _loop_settings(recipe: DocumentsRecipe, stage: DocumentStage) -> LoopSettings:
    optimizer = OptimizerSettings(
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        muon_parts=recipe.muon_parts,
        part_rates=stage.part_rates,
    )
    return LoopSettings(
        optimizer=optimizer,
        seed=recipe.seed,
        log_every=max(1, min(20, stage.num_steps // 20)),
        num_workers=recipe.num_workers,
        save_every=recipe.save_every,
        seconds=stage.seconds,
        ema_decay=stage.ema_decay,
        # What batches of such different pictures have in common is too little to normalise by: from then on it is what
        # the lines had.
        keeps_statistics=stage.data != "lines",
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
        splits: tuple[FontSplit, ...] = ("train", "held_out") if has_unseen_faces() else ("train",)
        found = {fonts: crop_accuracy(recipe, model, tokenizer, fonts) for fonts in splits}
        scores[stage] = {fonts: [score.num_correct, score.num_questions] for fonts, score in found.items()}
        write_whole(path, json.dumps(scores, indent=2) + "\n")
    seen, (fewest, most) = Accuracy(*scores[stage]["train"]), CROP_CHARACTERS
    told = f"{stage}: reads {100 * seen.share:.1f} % of {seen.num_questions} lines of {fewest} to {most} characters, "
    if "held_out" in scores[stage]:
        told += f"{100 * Accuracy(*scores[stage]['held_out']).share:.1f} % in typefaces that it has not seen"
    else:
        told += "and there are no typefaces here that it has not seen"
    tell(told)


def _tokenizer(recipe: DocumentsRecipe, folder: Path) -> Tokenizer:
    """Train the tokenizer on generated questions, or read the one of the run that is resumed."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(path)
    frame = render_text((user("\n"), assistant("\n")), TEMPLATES[recipe.template])
    num = recipe.tokenizer_texts
    fixed = repeat(f"{frame} {NO_PICTURE_ANSWER} {OUTSIDE_ANSWER}", num)
    texts = chain(document_corpus(num), tokenizer_corpus(num), fixed)
    tokenizer = train_byte_level_bpe(texts, vocabulary_size=recipe.vocabulary_size, special_tokens=SPECIAL_TOKENS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer
