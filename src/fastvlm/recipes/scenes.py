"""A small FastVLM trained from nothing on generated scenes. It reproduces no table of the paper.

The order is the paper's, scaled down. The parts are pretrained apart: the decoder learns to reason on numbers that say
what each visual token should know, the encoder learns to predict these numbers (both stand in for the pretrained parts
that the paper starts from). Then the projector connects them, and it and the decoder learn to answer from pictures,
while the encoder stays as it is, which makes a step cheaper. Sizes, rates and lengths are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fastvlm.batches import PixelTiles, TrainingBatch
from fastvlm.checkpoints.stored import RANGES_FILE, read_checkpoint
from fastvlm.data.collate import Collator
from fastvlm.data.grounding import NUM_CLASSES, NUM_COMPARISONS, NUM_KINDS, NUM_MARKS
from fastvlm.data.sources import NO_PICTURE_ANSWER, SceneBatches
from fastvlm.data.synthetic.labels import NUM_PAIRS, NUM_TOKEN_FEATURES
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.samples import GENERATOR_VERSION, scene_sample, tokenizer_corpus
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.messages import assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import PRESETS, FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD, fuse
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.fused import padded, save_fused
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.memory import keep_freed_memory
from fastvlm.training.meter import StepReport
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import refuse_several
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.task import Task
from fastvlm.training.tasks.dense import DenseHeads, DenseTargets, DenseTask
from fastvlm.training.tasks.grounding import GroundingHeads, GroundingTargets, grounding_identity
from fastvlm.training.tasks.instruct import Grounding, InstructTask, SymbolTask, connect

SPECIAL_TOKENS = ("<|user|>", "<|assistant|>", "<|end|>")

CANVASES = (
    (256, 256), (256, 256), (256, 256), (256, 256), (288, 224), (288, 224), (224, 288), (320, 192), (320, 192),
    (192, 320), (512, 128), (128, 512), (384, 128), (128, 384),
)  # fmt: skip
"""(width, height) of scenes of 48 to 64 visual tokens, as the mode `fit` gives them to pictures of any size."""

DENSE_TARGETS = DenseTargets(
    class_maps={
        2: ((len(SHAPES) + 1, 0.25), (len(COLORS) + 1, 0.25)),
        3: ((NUM_PAIRS + 1, 0.08),),
    },
    num_features=NUM_TOKEN_FEATURES,
)
"""Shape and colour of each 16 px cell, the object that has its centre in each 32 px cell; token features."""

GROUNDING_TARGETS = GroundingTargets(
    num_classes=NUM_CLASSES,
    num_marks=NUM_MARKS,
    num_kinds=NUM_KINDS,
    num_comparisons=NUM_COMPARISONS,
    phrase_layer=1,
)
"""In the second layer, since a phrase's last word has to gather its other words first."""


@dataclass(frozen=True, kw_only=True)
class SceneStage:
    """One stage: what learns, on which pictures, for how long. The encoder learns in dense ones alone.

    num_candidates: of so many scenes the one with most objects is shown: an eye learns from objects.
    """

    name: str
    task: Literal["symbols", "dense", "instruct"]
    num_steps: int
    batch_size: int
    learning_rate: float
    questions_per_picture: int = 0
    listings_per_picture: int = 0
    num_candidates: int = 1


@dataclass(frozen=True, kw_only=True)
class ScenesRecipe:
    """The complete run; all that its numbers depend on, but the code, is in its fields.

    vocabulary_size: upper limit for the tokenizer, which learns its merges from `tokenizer_texts` questions and answers
    and as many empty turns, so that its words are frequent. canvases: (width, height) of scenes in pixels.
    row_positions: tokens of a packed row: a picture, a listing and about seven questions. has_further_phrasings,
    reworded_share, emphasis: as in `SceneBatches`; kinds are hard to count, and seldom asked for. answer_exponent:
    between every token counting the same (0) and every answer (1), since a listing counts more than one word.
    grounding_weight: of the losses of grounding beside that of the words. muon_parts: whose matrices Muon moves; at
    equal steps losses fall faster than with AdamW alone, the decoder's most of all. calibration_pictures: on which the
    ranges of the encoder are measured in the end. num_workers: one for each core, since they draw while training waits
    for them.
    """

    vision: FastViTHDConfig
    decoder: DecoderConfig
    processing: ProcessingConfig
    template: str
    vocabulary_size: int
    stages: tuple[SceneStage, ...]
    canvases: tuple[tuple[int, int], ...] = CANVASES
    tokenizer_texts: int = 20_000
    row_positions: int = 184
    has_further_phrasings: bool = True
    reworded_share: float = 0.4
    emphasis: Mapping[str, float] = field(default_factory=lambda: {"count_kinds": 4.0})
    answer_exponent: float = 0.5
    dense_targets: DenseTargets = DENSE_TARGETS
    grounding_targets: GroundingTargets = GROUNDING_TARGETS
    grounding_weight: float = 0.5
    muon_parts: tuple[str, ...] = ("decoder.layers", "vision.stages")
    seed: int = 0
    num_workers: int = 2
    save_every: int = 200
    calibration_pictures: int = 56


def scenes() -> ScenesRecipe:
    """A model of drawn scenes: less than an hour on two CPU cores."""
    return ScenesRecipe(
        vision=replace(PRESETS["fastvithd-nano"], form="train"),
        decoder=DecoderConfig(
            vocabulary_size=1024, width=192, num_layers=6, num_heads=6, num_key_value_heads=3,
            feed_forward_width=512, head_dim=32, max_positions=512, rope_theta=1_000_000.0,
        ),
        processing=ProcessingConfig(mode="fit", max_visual_tokens=64),
        template="compact",
        vocabulary_size=1024,
        stages=(
            SceneStage(
                name="reason", task="symbols", num_steps=3800, batch_size=8,
                questions_per_picture=12, listings_per_picture=1, learning_rate=3e-3,
            ),
            SceneStage(
                name="see", task="dense", num_steps=4000, batch_size=8, learning_rate=1e-2,
                num_candidates=2,
            ),
            SceneStage(
                name="answer", task="instruct", num_steps=3100, batch_size=8,
                questions_per_picture=12, listings_per_picture=1, learning_rate=1e-3,
            ),
        ),
    )  # fmt: skip


def smoke() -> ScenesRecipe:
    """The same run in miniature, for tests: seconds on one core."""
    full = scenes()
    return replace(
        full,
        vision=replace(full.vision, depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 64, 64)),
        decoder=replace(full.decoder, width=64, num_layers=5, num_heads=2, num_key_value_heads=1),
        stages=tuple(
            replace(stage, num_steps=8, batch_size=4, questions_per_picture=min(4, stage.questions_per_picture))
            for stage in full.stages
        ),
        tokenizer_texts=2_000,
        num_workers=0,
        save_every=2,
        calibration_pictures=2,
    )


RECIPES: dict[str, Callable[[], ScenesRecipe]] = {"scenes": scenes, "scenes-smoke": smoke}
"""Complete runs by name."""


def run(
    recipe: ScenesRecipe,
    folder: Path,
    *,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
) -> Path:
    """Train, or go on where `folder` stands, and write the checkpoint `folder/model`; returns its path.

    report: called with the stage's name and its progress. The process keeps the memory that steps free until it ends.
    """
    refuse_several("this recipe")
    keep_freed_memory()
    tokenizer = _tokenizer(recipe, folder)
    torch.manual_seed(recipe.seed)
    vlm = VLMConfig(
        vision=recipe.vision, decoder=replace(recipe.decoder, vocabulary_size=padded(tokenizer.vocabulary_size))
    )
    model = FastVLM(vlm)
    heads = DenseHeads(recipe.vision, recipe.dense_targets)
    symbols = nn.Linear(NUM_TOKEN_FEATURES, vlm.decoder.width)
    grounding = Grounding(GroundingHeads(model.decoder, recipe.grounding_targets), recipe.grounding_weight)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as torch documents it
    first_index, is_connected = 0, False
    for number, stage in enumerate(recipe.stages, start=1):
        name = f"{number}-{stage.name}"
        if stage.task == "instruct" and not is_connected:
            connect(model, heads, symbols)
            is_connected = True
        model.vision.requires_grad_(stage.task != "instruct")
        train(
            _task(recipe, stage, model, heads, symbols, grounding),
            _batches(recipe, stage, tokenizer, first_index),
            _loop_settings(recipe, stage),
            folder / name,
            identity=_identity(recipe, number),
            report=partial(report, name),
        )
        first_index += stage.num_steps * stage.batch_size
    return _save(recipe, model.eval(), tokenizer, folder / "model")


def _identity(recipe: ScenesRecipe, number: int) -> Identity:
    """Everything that the numbers of stage `number` depend on: what comes later may change before a run is resumed."""
    return {
        **identity_of(recipe, without=("num_workers", "save_every", "calibration_pictures", "stages")),
        "stages": repr(recipe.stages[:number]),
        **grounding_identity(),
        "generator": repr(GENERATOR_VERSION),
    }


def _task(
    recipe: ScenesRecipe,
    stage: SceneStage,
    model: FastVLM,
    heads: DenseHeads,
    symbols: nn.Linear,
    grounding: Grounding,
) -> Task[TrainingBatch]:
    if stage.task == "symbols":
        return SymbolTask(model, symbols, grounding=grounding, answer_exponent=recipe.answer_exponent)
    if stage.task == "dense":
        return DenseTask(model.vision, heads)
    return InstructTask(
        model,
        resting=_at_rest(model.vision),
        grounding=grounding,
        answer_exponent=recipe.answer_exponent,
    )


def _at_rest(encoder: FastViTHD) -> FastViTHD:
    """The fused form of an encoder that learns no more, as convolutions of processors want it."""
    fused = fuse(encoder).requires_grad_(False)
    return fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # as torch documents it


def _batches(recipe: ScenesRecipe, stage: SceneStage, tokenizer: Tokenizer, first_index: int) -> SceneBatches:
    collator = Collator(
        processor=ImageProcessor(recipe.processing),
        tokenizer=tokenizer,
        template=TEMPLATES[recipe.template],
        max_positions=recipe.decoder.max_positions,
        row_positions=recipe.row_positions,
        keeps_levels=True,
    )
    return SceneBatches(
        collator=collator,
        num_steps=stage.num_steps,
        batch_size=stage.batch_size,
        canvases=recipe.canvases,
        questions_per_picture=stage.questions_per_picture,
        listings_per_picture=stage.listings_per_picture,
        is_drawn=stage.task != "symbols",
        is_labelled=stage.task != "instruct",
        num_candidates=stage.num_candidates,
        emphasis=recipe.emphasis,
        has_further_phrasings=recipe.has_further_phrasings,
        reworded_share=recipe.reworded_share,
        first_index=first_index,
    )


def _loop_settings(recipe: ScenesRecipe, stage: SceneStage) -> LoopSettings:
    optimizer = OptimizerSettings(
        learning_rate=stage.learning_rate,
        warmup_steps=max(1, min(100, stage.num_steps // 5)),
        muon_parts=recipe.muon_parts,
    )
    return LoopSettings(
        optimizer=optimizer, seed=recipe.seed, num_workers=recipe.num_workers, save_every=recipe.save_every
    )


def _tokenizer(recipe: ScenesRecipe, folder: Path) -> Tokenizer:
    """Train the tokenizer on generated questions, or read the one of the run that is resumed."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(path)
    frame = render_text((user("\n"), assistant("\n")), TEMPLATES[recipe.template])
    fixed = repeat(f"{frame} {NO_PICTURE_ANSWER}", recipe.tokenizer_texts)
    texts = chain(tokenizer_corpus(recipe.tokenizer_texts), fixed)
    tokenizer = train_byte_level_bpe(texts, vocabulary_size=recipe.vocabulary_size, special_tokens=SPECIAL_TOKENS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


def calibration_tiles(recipe: ScenesRecipe) -> Iterator[PixelTiles]:
    """Pictures of the training split as the model is given them, for computing the encoder in eight bits."""
    processor = ImageProcessor(recipe.processing)
    for index in range(recipe.calibration_pictures):
        width_px, height_px = recipe.canvases[index % len(recipe.canvases)]
        sample = scene_sample("train", index, width_px=width_px, height_px=height_px, num_questions=0, phrasing="train")
        yield processor(sample.image)


def _save(recipe: ScenesRecipe, model: FastVLM, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write the checkpoint and the ranges of its encoder, unless an earlier call of the same run has."""
    if not folder.is_dir():
        save_fused(folder, model, tokenizer, name="scenes", processing=recipe.processing, template=recipe.template)
    # Recipes that take their scenes from here also train where OpenVINO is not.
    from fastvlm.runtimes.openvino.calibration import keep_ranges

    stored = read_checkpoint(folder)
    keep_ranges(folder / RANGES_FILE, stored.config.vlm, stored.tensors, calibration_tiles(recipe))
    return folder
