"""Fine-tuning any checkpoint on your own conversations: projector, decoder, LoRA, or everything.

The learning rates are the paper's (tables 8 and 9) for the projector alone and for full tuning, and LLaVA-1.5's for
LoRA; schedule and warm-up are the paper's, weight decay LLaVA-1.5's. Where the encoder does not learn, each image is
encoded once and kept on disk, so that an epoch costs the decoder alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.load import LoadedCheckpoint, load_stored
from fastvlm.checkpoints.precision import DTYPES
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.checkpoints.stored import StoredCheckpoint, read_checkpoint
from fastvlm.data.collate import Collator
from fastvlm.data.conversation_batches import (
    ConversationBatches,
    PreparedConversation,
    PreparedData,
    prepare,
    read_tiles,
    unreadable_images,
    without_unreadable,
)
from fastvlm.data.conversation_files import read_conversations
from fastvlm.data.feature_store import FeatureStore, kept_identity
from fastvlm.data.held_out import hold_out
from fastvlm.errors import DataError, SettingsError, TrainingError
from fastvlm.inference.timings import peak_memory_mb
from fastvlm.models.vision import kernels
from fastvlm.processing.templates import template_from_dict
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.training.events import require_events
from fastvlm.training.loop import LoopSettings, Validation, count_steps, train
from fastvlm.training.lora import LoraSettings, save_adapter
from fastvlm.training.meter import StepReport
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.parallel import from_first, is_first, num_processes, own_device
from fastvlm.training.parts import Parts, choose_parts, set_training_mode
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.sharding import is_begun, require_several
from fastvlm.training.tasks.instruct import InstructTask

LEARNING_RATES: dict[str, float] = {"projector": 1e-3, "language": 2e-5, "all": 2e-5, "lora": 2e-4}
"""Peaks by what learns: the paper's stage 1, its later stages, and LLaVA-1.5's for LoRA."""

_MAX_TOLD = 5
"""Of samples that were left out so many are named."""

_ADAM_BYTES = 8
"""Bytes that AdamW remembers of each number that learns."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """A complete run. model: as `load` takes it. data: files as `read_conversations` takes them, joined.

    image_folder: what paths of images are relative to, None for each file's own folder. parts: what learns: the
    projector, projector and decoder (`language`), or everything; with `lora`, projector and low-rank changes of the
    decoder. learning_rate: None for that of LEARNING_RATES; encoder_rate, projector_rate: of these parts, None for
    the same. layer_decay: each layer of the decoder and stage of the encoder learns so much slower than the next.
    max_positions: longest conversation, None for the model's own limit. validation_share: of the data, held out to
    choose the best weights; 0 for none. size_px: side of the pictures instead of the checkpoint's; the new
    checkpoint has it too. template: how conversations are written down in training instead of the checkpoint's own,
    which the new one keeps; a template for captions leaves questions out. keeps_features: encode each image once
    where the encoder does not learn. leaves_out_invalid: go on without samples that cannot be used. recomputes:
    activations of layers are not kept but computed again. is_sharded: several processes hold a piece of the model
    each. writes_events: for TensorBoard, too.
    """

    model: str | None
    data: tuple[str, ...]
    image_folder: Path | None = None
    parts: Parts = "language"
    lora: LoraSettings | None = None
    num_epochs: int = 1
    batch_size: int = 8
    num_accumulated: int = 1
    learning_rate: float | None = None
    encoder_rate: float | None = None
    projector_rate: float | None = None
    layer_decay: float = 1.0
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    max_positions: int | None = None
    validation_share: float = 0.05
    num_validations: int = 5
    ema_decay: float | None = None
    size_px: int | None = None
    template: str | None = None
    keeps_features: bool = True
    leaves_out_invalid: bool = False
    recomputes: bool = False
    is_sharded: bool = False
    writes_events: bool = False
    seed: int = 0
    num_workers: int = 1
    save_every: int = 200

    @property
    def trains_encoder(self) -> bool:
        """Whether pictures pass through an encoder that learns."""
        return self.parts == "all" and self.lora is None

    @property
    def peak_rate(self) -> float:
        """The learning rate at its highest."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES["lora" if self.lora is not None else self.parts]


Tell = Callable[[str], None]
"""Told what happens and what is known, one line at a time."""


def run(
    recipe: FinetuneRecipe,
    folder: Path,
    *,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
    tell: Tell = lambda _: None,
) -> Path:
    """Fine-tune, or go on where `folder` stands; returns the new checkpoint `model`, or `adapter` with LoRA.

    Raises DataError for samples that cannot be used, TrainingError and CheckpointError as training and loading do.
    """
    result = folder / ("model" if recipe.lora is None else "adapter")
    tell = tell if is_first() else _in_silence
    if result.is_dir():
        tell(f"{result} is there already: the run is over, and other settings change nothing of it")
        return result
    check(recipe)
    stored = read_checkpoint(resolve(recipe.model))
    loaded = _loaded(stored, recipe)
    collator = Collator(
        processor=ImageProcessor(loaded.processing),
        tokenizer=loaded.tokenizer,
        template=loaded.template if recipe.template is None else template_from_dict(recipe.template),
        max_positions=recipe.max_positions or loaded.config.vlm.decoder.max_positions,
    )
    conversations = _prepared(recipe, collator, tell)
    store = None
    if recipe.keeps_features and not recipe.trains_encoder:
        _require_same_features(loaded, stored, folder)
        from_first(lambda: _encode(conversations, collator, loaded, stored, folder / "features", tell))
        store = _feature_store(loaded, stored, folder / "features", is_writer=False)
    training, held_out = hold_out(conversations, share=recipe.validation_share, seed=recipe.seed)
    batches = ConversationBatches(
        conversations=training,
        collator=collator,
        batch_size=recipe.batch_size,
        num_epochs=recipe.num_epochs,
        seed=recipe.seed,
        features=store,
    )
    task = InstructTask(loaded.model)
    num_steps = count_steps(len(batches), num_accumulated=recipe.num_accumulated)
    validation = None
    if held_out:
        tell(f"{len(held_out)} of them are held out; the weights with the lowest loss there are what is written")
        own = replace(batches, conversations=held_out, num_epochs=1, is_shuffled=False)
        validation = _validation(task, own, every=max(1, num_steps // recipe.num_validations))
    elif recipe.validation_share > 0:
        tell("nothing is held out: they are too few, or about too few images; the last weights are what is written")
    if own_device().type == "cpu":
        kernels.load(warns=is_first())
    if not recipe.is_sharded:  # one process could not hold what is to be cut into pieces
        tell(_estimate(task, batches, num_steps))
    train(
        task,
        batches,
        _loop_settings(recipe, num_steps),
        folder / "state",
        identity=_identity(recipe, stored, training),
        report=lambda step: report("finetune", step),
        validation=validation,
    )
    from_first(lambda: _save(recipe, loaded, stored, result))
    return result


def check(recipe: FinetuneRecipe) -> None:
    """Raise SettingsError, before any work, for settings that do not go together or not here."""
    if recipe.lora is not None and recipe.parts != "language":
        raise SettingsError(
            f"Expected LoRA on projector and decoder, got parts `{recipe.parts}`. Leave --parts or --lora out."
        )
    if recipe.lora is not None and recipe.size_px is not None:
        raise SettingsError("Expected LoRA at its base's picture size, which an adapter has no place for.")
    if recipe.encoder_rate is not None and not recipe.trains_encoder:
        raise SettingsError(
            "Expected an encoder that learns at its rate, got one that is frozen. Give --parts all, without --lora."
        )
    if recipe.layer_decay != 1.0 and recipe.parts == "projector":
        raise SettingsError("Expected layers that learn to decay rates over, got the projector alone. Give --parts.")
    if recipe.is_sharded:
        require_several()
    if recipe.writes_events:
        require_events()


def _loaded(stored: StoredCheckpoint, recipe: FinetuneRecipe) -> LoadedCheckpoint:
    """The model in float32, on this process's device, at the recipe's picture size; what does not learn is frozen."""
    loaded = load_stored(stored, device=own_device(), dtype=torch.float32, form="stored")
    # What the model was measured to need is not what it needs once it has learned something else.
    config = replace(loaded.config, calibration=None)
    if recipe.size_px is not None:
        config = replace(config, processing=replace(loaded.processing, size_px=recipe.size_px))
    loaded = replace(loaded, config=config)
    loaded.model.recompute_activations(recipe.recomputes)
    torch.manual_seed(recipe.seed)  # the changes of LoRA begin at random
    choose_parts(loaded.model, recipe.parts, lora=recipe.lora)
    return loaded


def _prepared(recipe: FinetuneRecipe, collator: Collator, tell: Tell) -> tuple[PreparedConversation, ...]:
    """The conversations that are trained on or held out, all of whose pictures can be read."""
    left_out: list[str] = []
    told_of = left_out if recipe.leaves_out_invalid else None
    conversations = [
        conversation
        for source in recipe.data
        for conversation in read_conversations(
            source, image_folder=recipe.image_folder, seed=recipe.seed, left_out=told_of
        )
    ]
    data = prepare(conversations, collator, left_out=told_of)
    if recipe.parts == "projector":
        data = _with_images_only(data, tell)
    unreadable = from_first(lambda: unreadable_images(data.conversations, tell=tell))
    usable = without_unreadable(data.conversations, unreadable, left_out=told_of)
    told = f"{len(usable)} conversations, {sum(len(one.layouts) for one in usable)} images"
    if data.num_shortened:
        told += f", {data.num_shortened} without their last turns, which did not fit"
    tell(told)
    for reason in left_out[:_MAX_TOLD]:
        tell(f"left out: {reason}")
    if len(left_out) > _MAX_TOLD:
        tell(f"left out: {len(left_out) - _MAX_TOLD} more")
    return usable


def _with_images_only(data: PreparedData, tell: Tell) -> PreparedData:
    """A projector learns nothing from words alone."""
    kept = tuple(one for one in data.conversations if one.layouts)
    if not kept:
        raise DataError("Expected conversations with images for the projector to learn from, got words alone.")
    if len(kept) < len(data.conversations):
        tell(f"left out: {len(data.conversations) - len(kept)} conversations without images")
    return replace(data, conversations=kept)


def _in_silence(_: str) -> None:
    """Other processes than the first tell nothing."""


def _feature_store(
    loaded: LoadedCheckpoint, stored: StoredCheckpoint, folder: Path, *, is_writer: bool
) -> FeatureStore:
    """Where features of this very encoder and preprocessing are kept."""
    width = loaded.model.vision.config.output_width
    return FeatureStore(folder, identity=_features_identity(loaded, stored), width=width, is_writer=is_writer)


def _features_identity(loaded: LoadedCheckpoint, stored: StoredCheckpoint) -> str:
    return repr((loaded.processing, loaded.model.vision.config, _files_of(stored)))


def _require_same_features(loaded: LoadedCheckpoint, stored: StoredCheckpoint, folder: Path) -> None:
    """Raise TrainingError where a run that has begun would lose hours of encoding before it turns out to be another."""
    kept = kept_identity(folder / "features")
    if is_begun(folder / "state") and kept not in (None, _features_identity(loaded, stored)):
        raise TrainingError(
            f"The run in {folder} has features of another encoder or picture size. Resume with the same --model (its "
            "files, untouched) and --size, or start in a new folder."
        )


def _files_of(stored: StoredCheckpoint) -> list[tuple[str, int, int]]:
    """What the weights of a checkpoint are known by: path, size and time of their files."""
    files = sorted({tensor.file for tensor in stored.tensors.values()})
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _identity(recipe: FinetuneRecipe, stored: StoredCheckpoint, training: Sequence[PreparedConversation]) -> Identity:
    """Everything that the numbers of a run depend on: settings, the weights that it starts from, words and images."""
    digest = hashlib.sha256()
    for one in training:
        words = [(message.role, message.text) for message in one.conversation.messages]
        digest.update(repr((one.sample_id, words, list(one.image_keys))).encode())
    return {
        **identity_of(recipe, without=("num_workers", "save_every", "recomputes", "writes_events")),
        "weights": repr(_files_of(stored)),
        "training_data": digest.hexdigest(),
    }


@torch.no_grad()
def _encode(
    conversations: Sequence[PreparedConversation],
    collator: Collator,
    loaded: LoadedCheckpoint,
    stored: StoredCheckpoint,
    folder: Path,
    tell: Tell,
) -> None:
    """Keep the encoder's output of every image in `folder`; what an earlier call has done is not done again."""
    store = _feature_store(loaded, stored, folder, is_writer=True)
    vision = loaded.model.vision.eval()
    wanted = [(one.conversation, number, key) for one in conversations for number, key in enumerate(one.image_keys)]
    started_s, num_new = time.monotonic(), 0
    for done, (conversation, number, key) in enumerate(wanted):
        if key in store:
            continue
        pixels = torch.from_numpy(read_tiles(conversation, number, collator).pixels)
        maps = vision(pixels.to(own_device(), memory_format=torch.channels_last))
        store.add(key, maps.flatten(2).transpose(1, 2).flatten(0, 1).float().cpu().numpy())
        num_new += 1
        if num_new % 100 == 0:
            rate = num_new / (time.monotonic() - started_s)
            tell(f"encoded {done + 1} of {len(wanted)} images, {(len(wanted) - done) / rate / 60:.1f} min left")
    tell(f"{len(store)} encoded images are kept in {store.folder}, {store.num_bytes / 1e6:.1f} MB")


def _loop_settings(recipe: FinetuneRecipe, num_steps: int) -> LoopSettings:
    rates = {"vision": recipe.encoder_rate, "projector": recipe.projector_rate}
    optimizer = OptimizerSettings(
        learning_rate=recipe.peak_rate,
        warmup_steps=round(recipe.warmup_share * num_steps),
        betas=(0.9, 0.999),
        weight_decay=recipe.weight_decay,
        part_rates=tuple((part, rate) for part, rate in rates.items() if rate is not None),
        layer_decay=recipe.layer_decay,
    )
    return LoopSettings(
        optimizer=optimizer,
        seed=recipe.seed,
        log_every=max(1, min(20, num_steps // 20)),
        save_every=recipe.save_every,
        num_workers=recipe.num_workers,
        num_accumulated=recipe.num_accumulated,
        ema_decay=recipe.ema_decay,
        is_sharded=recipe.is_sharded,
        writes_events=recipe.writes_events,
        # Batches of conversations are small, and a released encoder's statistics are of millions of pictures.
        keeps_statistics=True,
    )


def _estimate(task: InstructTask, batches: ConversationBatches, num_steps: int) -> str:
    """What the run will take, by one batch of the longest conversations and one of ordinary ones; nothing is moved."""
    set_training_mode(task.module, keeps_statistics=True)
    longest = sorted(batches.conversations, key=lambda one: -one.num_positions)[: batches.batch_size]
    for batch in (replace(batches, conversations=longest, num_epochs=1, is_shuffled=False)[0], batches[0]):
        started_s = time.perf_counter()
        task.loss(batch).total.backward()  # type: ignore[no-untyped-call]
        if torch.cuda.is_available():
            torch.cuda.synchronize(own_device())
        batch_s = time.perf_counter() - started_s
        task.module.zero_grad(set_to_none=True)
    learning = sum(parameter.numel() for parameter in task.module.parameters() if parameter.requires_grad)
    peak_mb = peak_memory_mb() or 0
    if torch.cuda.is_available():
        peak_mb = torch.cuda.max_memory_allocated(own_device()) / 1e6
    memory_mb = peak_mb + _ADAM_BYTES * learning / 1e6
    minutes = batch_s * len(batches) / num_processes() / 60
    steps = "1 step" if num_steps == 1 else f"{num_steps} steps"
    return f"{learning / 1e6:.1f} M parameters learn; {steps}, about {minutes:.1f} min and {memory_mb:.0f} MB of memory"


def _validation(task: InstructTask, batches: ConversationBatches, *, every: int) -> Validation:
    """The loss of held-out conversations, over all their supervised tokens, each so many steps."""

    def loss() -> float:
        total = weights = 0.0
        for number in range(len(batches)):
            batch = batches[number]
            weight = task.weight(batch)
            total += weight * float(task.loss(batch).total)
            weights += weight
        return total / weights

    return Validation(loss, every)


def _save(recipe: FinetuneRecipe, loaded: LoadedCheckpoint, stored: StoredCheckpoint, folder: Path) -> None:
    """Write the model in the precision that it came in, or the adapter."""
    if recipe.lora is not None:
        base = str(Path(recipe.model).resolve()) if recipe.model and Path(recipe.model).is_dir() else recipe.model
        save_adapter(folder, loaded.model, recipe.lora, base=base or "embedded")
        return
    dtypes = {tensor.dtype for name, tensor in stored.tensors.items() if name.startswith("decoder.")}
    dtype = DTYPES["bfloat16"] if dtypes == {"BF16"} else DTYPES["float16"] if dtypes == {"F16"} else torch.float32
    save_checkpoint(
        folder,
        loaded.model,
        loaded.config,
        loaded.tokenizer,
        dtype=dtype,
        derived_from=stored.folder,
        encoder_ranges=None if recipe.trains_encoder else stored.encoder_ranges,
    )
