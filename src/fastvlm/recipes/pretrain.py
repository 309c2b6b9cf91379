"""Contrastive pretraining of FastViTHD with distillation (paper section 3.2 and table 3, after MobileCLIP).

The paper says that it follows MobileCLIP's setup on DataCompDR-1B; what is set here is MobileCLIP's published
configuration for its convolutional encoders. In miniature the same runs on generated captions.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastvlm.batches import CaptionBatch
from fastvlm.checkpoints.tower import save_tower
from fastvlm.data.captioned_scenes import CaptionedScenes, caption_texts
from fastvlm.data.image_text_shards import ShardBatches, num_samples
from fastvlm.errors import DataError, TrainingError
from fastvlm.models.clip import CLIP, CLIPConfig
from fastvlm.models.text.config import PRESETS as TEXT
from fastvlm.models.text.config import TextConfig
from fastvlm.models.vision.config import PRESETS as VISION
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.processing.captions import END, START
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.tower_scores import TowerScorer, TowerScores, class_pictures
from fastvlm.tiles import ENCODER_STRIDE_PX
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.meter import StepReport
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import from_first, num_processes, own_device
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.tasks.contrastive import ContrastiveTask
from fastvlm.training.workers import Batches

SCORES_FILE = "scores.json"

_GENERATED_VOCABULARY = 400


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """A complete run. shards: patterns of .tar files, () for generated captions. tokenizer: CLIP's tokenizer.json, None
    to learn one from the generated captions. validation_shards and class_folder: other pictures that the towers are
    asked about in the end (see `TowerScorer`). batch_size: of all processes together; a step is one batch.
    """

    vision: FastViTHDConfig
    text: TextConfig
    shards: tuple[str, ...] = ()
    tokenizer: Path | None = None
    validation_shards: tuple[str, ...] = ()
    class_folder: Path | None = None
    size_px: int = 224
    num_steps: int = 200_000
    batch_size: int = 65_536
    learning_rate: float = 1e-3
    warmup_steps: int = 1000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.2
    clip_norm: float = 1.0
    muon_parts: tuple[str, ...] = ()
    contrastive_weight: float = 0.0
    distillation_weight: float = 1.0
    seed: int = 0
    num_workers: int = 1
    save_every: int = 1000


def clip() -> PretrainRecipe:
    """FastViTHD as the paper pretrains it."""
    return PretrainRecipe(vision=replace(VISION["fastvithd-clip"], form="train"), text=TEXT["mobileclip-l"])


def clip_small() -> PretrainRecipe:
    """A small FastViTHD on generated captions: minutes on two CPU cores."""
    text = TEXT["nano"]
    return PretrainRecipe(
        vision=replace(VISION["fastvithd-nano"], form="train", clip_dim=text.output_width),
        text=text,
        size_px=64,
        num_steps=1500,
        batch_size=32,
        learning_rate=4e-3,
        warmup_steps=50,
        weight_decay=0.05,
        muon_parts=("vision.stages", "text.layers"),
        save_every=100,
    )


def clip_smoke() -> PretrainRecipe:
    """The same in seconds, for tests."""
    small = clip_small()
    return replace(
        small,
        vision=replace(small.vision, depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 64)),
        text=replace(small.text, num_layers=2, width=64, num_heads=2, feed_forward_width=128),
        num_steps=12,
        batch_size=8,
        warmup_steps=2,
        num_workers=0,
        save_every=2,
    )


RECIPES: dict[str, Callable[[], PretrainRecipe]] = {
    "clip": clip,
    "clip-small": clip_small,
    "clip-smoke": clip_smoke,
}
"""Pretraining runs by name."""


def run(
    recipe: PretrainRecipe,
    folder: Path,
    *,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Pretrain, or go on where `folder` stands; returns the folder of the tower, `folder/tower`.

    Raises DataError for shards that cannot be read, TrainingError as training does.
    """
    validation = _found(recipe.validation_shards)
    if validation and not sum(map(num_samples, validation)):
        raise DataError(f"Expected pictures in {', '.join(recipe.validation_shards)}, found none.")
    if recipe.class_folder is not None:
        class_pictures(recipe.class_folder)  # raises where there are none, before days of training
    tokenizer = Tokenizer.from_file(from_first(lambda: _tokenizer_file(recipe, folder)))
    model = build(recipe, tokenizer)
    batches = _batches(recipe, tokenizer, model.config.text)
    train(
        ContrastiveTask(
            model,
            contrastive_weight=recipe.contrastive_weight,
            distillation_weight=recipe.distillation_weight,
        ),
        batches,
        _loop_settings(recipe),
        folder / "state",
        identity=_identity(recipe, batches),
        report=lambda step: report("pretrain", step),
    )
    tower = folder / "tower"

    def finish() -> None:
        if not tower.is_dir():
            # Both towers have seen pixels from 0 to 1, as MobileCLIP's do.
            processing = ProcessingConfig(mode="pad", size_px=_in_cells(recipe.size_px), mean=(0, 0, 0), std=(1, 1, 1))
            save_tower(tower, model.vision.cpu(), processing)
        scores = _scores(recipe, TowerScorer(model, tokenizer, size_px=recipe.size_px, tell=tell), validation)
        for line in scores.lines():
            tell(line)
        scores.write(folder / SCORES_FILE)  # keeps what an earlier call was asked

    from_first(finish)
    return tower


def _scores(recipe: PretrainRecipe, scorer: TowerScorer, validation: tuple[Path, ...]) -> TowerScores:
    scores = TowerScores(generated=None if recipe.shards else scorer.generated())
    if validation:
        found, num_pictures = scorer.retrieval(validation)
        scores = replace(scores, retrieval=found, num_pictures=num_pictures)
    if recipe.class_folder is not None:
        scores = replace(scores, classes=scorer.classes(recipe.class_folder))
    return scores


def _in_cells(size_px: int) -> int:
    """The next side that is a multiple of 64; it gives a map of as many cells."""
    return -(-size_px // ENCODER_STRIDE_PX) * ENCODER_STRIDE_PX


def build(recipe: PretrainRecipe, tokenizer: Tokenizer) -> CLIP:
    """Build both towers with fresh weights, for the vocabulary of the tokenizer."""
    torch.manual_seed(recipe.seed)
    text = replace(recipe.text, vocabulary_size=tokenizer.vocabulary_size, end_token_id=tokenizer.token_id(END))
    model = CLIP(CLIPConfig(vision=recipe.vision, text=text))
    placed: CLIP = model.to(own_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _found(patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The shards of all patterns. Raises DataError where one finds none."""
    for pattern in patterns:
        if not glob.glob(pattern):
            raise DataError(f"Expected shards at {pattern}, found none. Check the path.")
    return tuple(sorted({Path(path) for pattern in patterns for path in glob.glob(pattern)}))


def _identity(recipe: PretrainRecipe, batches: Batches[CaptionBatch]) -> Identity:
    """What the numbers of a run depend on: its settings, and what the shards hold."""
    own = identity_of(recipe, without=("num_workers", "save_every", "validation_shards", "class_folder"))
    if isinstance(batches, ShardBatches):
        own |= {"shards": repr(batches.shards), "num_samples": repr(batches.num_samples)}
    return own


def _own_batch(recipe: PretrainRecipe) -> int:
    """Pictures of this process in a step. Raises TrainingError where the batch cannot be shared out."""
    if recipe.batch_size % num_processes():
        raise TrainingError(
            f"Expected a batch that {num_processes()} processes can share, got {recipe.batch_size}. Choose a multiple."
        )
    return recipe.batch_size // num_processes()


def _batches(recipe: PretrainRecipe, tokenizer: Tokenizer, text: TextConfig) -> Batches[CaptionBatch]:
    if not recipe.shards:
        return CaptionedScenes(
            tokenizer=tokenizer,
            context_length=text.context_length,
            batch_size=_own_batch(recipe),
            size_px=recipe.size_px,
            num_steps=recipe.num_steps * num_processes(),
            has_teachers=recipe.distillation_weight > 0,
            seed=recipe.seed,
        )
    return ShardBatches(
        shards=_found(recipe.shards),
        tokenizer=tokenizer,
        context_length=text.context_length,
        batch_size=_own_batch(recipe),
        size_px=recipe.size_px,
        num_steps=recipe.num_steps * num_processes(),
        seed=recipe.seed,
    )


def _loop_settings(recipe: PretrainRecipe) -> LoopSettings:
    optimizer = OptimizerSettings(
        learning_rate=recipe.learning_rate,
        warmup_steps=min(recipe.warmup_steps, max(1, recipe.num_steps // 5)),  # of a short run not all of it
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        muon_parts=recipe.muon_parts,
    )
    return LoopSettings(
        optimizer=optimizer, seed=recipe.seed, num_workers=recipe.num_workers, save_every=recipe.save_every
    )


def _tokenizer_file(recipe: PretrainRecipe, folder: Path) -> Path:
    """CLIP's tokenizer, or that of the run, which is learned from the generated captions where it is not there yet."""
    if recipe.tokenizer is not None:
        return recipe.tokenizer
    if recipe.shards:
        raise TrainingError(
            "Expected a tokenizer for the captions of shards, got none. Give CLIP's tokenizer.json (on the Hugging "
            "Face hub it is in openai/clip-vit-base-patch32)."
        )
    path = folder / "tokenizer.json"
    if not path.is_file():
        tokenizer = train_byte_level_bpe(
            caption_texts(), vocabulary_size=_GENERATED_VOCABULARY, special_tokens=(START, END)
        )
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
    return path
