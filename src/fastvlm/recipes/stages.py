"""The stages in which the paper trains its models, as one command each.

Learning rates, batches, schedules, epochs, resolutions and what learns are those of the paper's tables 8 (two stages,
as in LLaVA-1.5) and 9 (four stages). Not in the paper, and our choice: no weight decay, gradients clipped at 1, and
BatchNorm that keeps its statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fastvlm.data.scene_conversations import write_scene_conversations
from fastvlm.errors import TrainingError
from fastvlm.recipes.assemble import assemble
from fastvlm.recipes.finetune import FinetuneRecipe, check
from fastvlm.training.parallel import from_first, num_processes
from fastvlm.training.parts import Parts

CONNECTOR_PX, TARGET_PX = 256, 1024
"""Sides of pictures while the connector learns, and of the released models. The paper pretrains FastViTHD at 224 px and
keeps that for the connector; 224 is no multiple of 64, and 256 px give the same map of 4 x 4."""


_SMALL_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One column of a table. paper: which. size_px: side of the pictures.

    is_captioned: its data are pictures with captions. template: how these are written down where no question is asked,
    None for the model's own template.
    """

    paper: str
    parts: Parts
    learning_rate: float
    global_batch: int
    size_px: int
    is_captioned: bool = False
    template: str | None = None
    num_epochs: int = 1
    warmup_share: float = 0.03


STAGES: dict[str, Stage] = {
    "connector": Stage(
        paper="table 9, stage 1", parts="projector", learning_rate=1e-3,
        global_batch=256, size_px=CONNECTOR_PX, is_captioned=True, template="plain",
    ),
    "resolution": Stage(
        paper="table 9, stage 1.5", parts="all",
        learning_rate=2e-5, global_batch=128, size_px=TARGET_PX, is_captioned=True,
    ),
    "instruct": Stage(
        paper="table 9, stage 2", parts="all",
        learning_rate=2e-5, global_batch=128, size_px=TARGET_PX,
    ),
    "reasoning": Stage(
        paper="table 9, stage 3", parts="all", learning_rate=2e-5,
        global_batch=128, size_px=TARGET_PX,
    ),
    "llava-connector": Stage(
        paper="table 8, stage 1", parts="projector", learning_rate=1e-3,
        global_batch=256, size_px=CONNECTOR_PX, is_captioned=True, template="plain",
    ),
    "llava-instruct": Stage(
        paper="table 8, stage 2", parts="all", learning_rate=2e-5, global_batch=128,
        size_px=TARGET_PX,
    ),
}  # fmt: skip
"""Every stage by name."""


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """What a stage is run with. model: to go on with, or decoder with tower to start from parts (see `assemble`);
    has_random_encoder: fresh encoder weights are wanted. data and image_folder: as for fine-tuning. batch_size: of one
    process at a time; as many batches are accumulated as make the stage's own. size_px: instead of the stage's.
    """

    model: str | None = None
    decoder: str | None = None
    tower: Path | None = None
    has_random_encoder: bool = False
    data: tuple[str, ...] = ()
    image_folder: Path | None = None
    batch_size: int = 8
    size_px: int | None = None
    leaves_out_invalid: bool = False
    seed: int = 0


def recipe_of(stage: Stage, wanted: StageRun, folder: Path) -> FinetuneRecipe:
    """The whole run of a stage in `folder`, with its starting point: parts are put together in `folder/start`.

    Raises TrainingError where it is not said what to start from, or said twice.
    """
    per_step = wanted.batch_size * num_processes()
    if stage.global_batch % per_step:
        raise TrainingError(
            f"Expected batches that make the stage's {stage.global_batch}, got {per_step} in {num_processes()} "
            f"process(es). Choose a --batch-size that divides it."
        )
    size_px = wanted.size_px or stage.size_px
    _check_start(wanted)
    if wanted.decoder is not None:
        start = partial(
            assemble, folder / "start", decoder=wanted.decoder, tower=wanted.tower, size_px=size_px, seed=wanted.seed
        )
        from_first(start)
    return FinetuneRecipe(
        model=wanted.model or str(folder / "start"),
        data=wanted.data,
        image_folder=wanted.image_folder,
        parts=stage.parts,
        num_epochs=stage.num_epochs,
        batch_size=wanted.batch_size,
        num_accumulated=stage.global_batch // per_step,
        learning_rate=stage.learning_rate,
        warmup_share=stage.warmup_share,
        size_px=size_px,
        template=stage.template,
        validation_share=0.0,
        leaves_out_invalid=wanted.leaves_out_invalid,
        seed=wanted.seed,
    )


def _check_start(wanted: StageRun) -> None:
    """Raise TrainingError unless a start is said once, and whole: a model, or a language model and an encoder."""
    if wanted.model is None and wanted.decoder is None:
        raise TrainingError("Expected a model to go on with (--model), or its parts (--decoder and --tower), got none.")
    has_encoder = wanted.tower is not None or wanted.has_random_encoder
    if wanted.model is not None and (wanted.decoder is not None or has_encoder):
        raise TrainingError(
            "Expected one start, got --model and parts. A model has all its parts: leave out --decoder, --tower and "
            "--random-encoder, or leave out --model."
        )
    if not has_encoder and wanted.decoder is not None:
        raise TrainingError(
            "Expected an encoder to start from, got a language model alone. Give --tower, or ask for fresh weights "
            "with --random-encoder: a model on an encoder that has learned nothing stays blind."
        )
    if wanted.tower is not None and wanted.has_random_encoder:
        raise TrainingError("Expected one encoder, got --tower and --random-encoder. Leave out one of them.")


def smoke(stage: Stage, folder: Path) -> FinetuneRecipe:
    """The stage in miniature: a few generated scenes, the embedded model, a batch that fits; in seconds.

    The embedded model takes pictures of any shape, so that only size and batch differ from the stage.
    """
    small = replace(stage, size_px=CONNECTOR_PX, global_batch=_SMALL_BATCH * num_processes())
    full = recipe_of(small, StageRun(model="embedded", batch_size=_SMALL_BATCH), folder)
    return in_miniature(full, folder, is_captioned=stage.is_captioned)


def in_miniature(recipe: FinetuneRecipe, folder: Path, *, is_captioned: bool = False) -> FinetuneRecipe:
    """The same with the embedded model on a few generated scenes, in steps that lower its loss.

    Of several processes the first one writes the scenes, more of them, so that there are as many steps.
    """
    check(recipe)  # before anything is written
    scenes = partial(
        write_scene_conversations, folder / "data", num_scenes=12 * num_processes(), is_captioned=is_captioned
    )
    data = from_first(scenes)
    return replace(
        recipe,
        model="embedded",
        data=(str(data),),
        image_folder=None,
        batch_size=_SMALL_BATCH,
        num_accumulated=2,
        num_epochs=4,
        learning_rate=recipe.peak_rate if recipe.parts == "projector" or recipe.lora is not None else 2e-4,
        validation_share=0.0,
        size_px=None,
        num_workers=0,
    )
