"""Trains and measures the models of the miniature: what differs between two of them is what is compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.reading_places import PLACES_ACROSS, PLACES_DOWN
from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.evaluation.scores import Accuracy
from fastvlm.models.clip import CLIP, CLIPConfig
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.projector import Projector
from fastvlm.models.text.config import TextConfig
from fastvlm.models.vision.fastvithd import FastViTHD, fuse
from fastvlm.models.vlm import FastVLM, segment_mask
from fastvlm.processing.captions import END, START
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe
from fastvlm.recipes.miniature.cards import (
    CARDS_VERSION,
    CONTEXT,
    KEYS,
    NUM_CLASSES,
    TEST_SEED,
    TRAIN_SEED,
    CaptionedCards,
    CardBatches,
    Geometry,
)
from fastvlm.recipes.miniature.encoders import FASTVITHD, EncoderName, EncoderShape, build_encoder
from fastvlm.recipes.miniature.pruning import METHODS, Method, Pruned
from fastvlm.recipes.miniature.sheets import SheetBatches
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.meter import StepReport
from fastvlm.training.optimizer import OptimizerSettings
from fastvlm.training.resume import Identity, identity_of
from fastvlm.training.tasks.characters import CharacterHeads, CharacterTargets
from fastvlm.training.tasks.contrastive import ContrastiveTask
from fastvlm.training.tasks.dense import DenseTask
from fastvlm.training.tasks.grounding import GroundingHeads, GroundingTargets
from fastvlm.training.tasks.instruct import Grounding, InstructTask


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of the miniature; the training is the same for all, pretraining comes before it.

    tile_px: of the tiles that its cards are cut into, None for one picture. is_pretrained: whether its encoder begins
    with contrastive pretraining.
    """

    encoder: EncoderName = "fastvithd"
    size_px: int = 192
    tile_px: int | None = None
    is_pretrained: bool = False


VARIANTS: Mapping[str, Variant] = {
    "FastViTHD 128": Variant(size_px=128),
    "FastViTHD 192": Variant(),
    "FastViTHD 256": Variant(size_px=256),
    "FastViTHD 384": Variant(size_px=384),
    "ViT 128": Variant(encoder="vit", size_px=128),
    "ViT 192": Variant(encoder="vit"),
    "ConvNeXt 192": Variant(encoder="convnext"),
    "FastViTHD 256 in tiles": Variant(size_px=256, tile_px=128),
    "FastViTHD 192 multi-scale": Variant(encoder="fastvithd-multi-scale"),
    "FastViTHD 192 contrastive": Variant(is_pretrained=True),
}

COMPARISONS: Mapping[str, tuple[str, ...]] = {
    "resolution": ("FastViTHD 128", "FastViTHD 192", "FastViTHD 256", "FastViTHD 384"),
    "encoders": ("FastViTHD 192", "FastViTHD 256", "ViT 128", "ViT 192", "ConvNeXt 192"),
    "pruning": ("FastViTHD 128", "FastViTHD 192", "FastViTHD 256", "ViT 192"),
    "tiles": ("FastViTHD 256", "FastViTHD 256 in tiles"),
    "multi-scale": ("FastViTHD 192", "FastViTHD 192 multi-scale"),
    "contrastive": ("FastViTHD 192", "FastViTHD 192 contrastive"),
}
"""What is compared with what."""

PRUNED: Mapping[str, tuple[int, ...]] = {"FastViTHD 256": (3, 2), "ViT 192": (6, 4, 3, 2)}
"""Sides of the squares of tokens that pruning leaves."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """The budget, the same for all. num_cards: of the test, with as many questions each as in training. num_workers:
    one for each core, since drawing takes as long as learning; nothing that is found depends on it.

    The rate is the one with which FastViTHD learns to read in the recipe `documents`; it was not tuned for any other
    encoder.
    """

    seeing_steps: int = 500
    seeing_batch: int = 64
    num_steps: int = 500
    batch_size: int = 32
    questions: int = 8
    learning_rate: float = 1e-2
    dense_weight: float = 1.0
    grounding_weight: float = 0.5
    pretraining_steps: int = 300
    pretraining_batch: int = 96
    num_cards: int = 256
    num_timed: int = 40
    num_workers: int = 2


def smoke_settings() -> StudySettings:
    """Seconds, for tests."""
    return StudySettings(
        seeing_steps=2, seeing_batch=4, num_steps=2, batch_size=4, questions=2, pretraining_steps=1,
        pretraining_batch=4, num_cards=8, num_timed=2, num_workers=0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model, or one way to prune it. machine: where it was trained."""

    name: str
    seed: int
    num_tokens: int
    parameters: int
    accuracy: Accuracy
    machine: str
    method: Method | None = None


def tokenizer_of() -> Tokenizer:
    """A tokenizer of colours and digits."""
    return train_byte_level_bpe(
        [f"{color}? {color} {digit}" for color in KEYS for digit in range(10)],
        vocabulary_size=320,
        special_tokens=("<|user|>", "<|assistant|>", "<|end|>", START, END),
    )


class Model:
    """A variant with its weights."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed, self.variant = name, seed, VARIANTS[name]
        self.tokenizer = tokenizer_of()
        torch.manual_seed(seed)
        encoder, self.shape = build_encoder(self.variant.encoder)
        decoder = DecoderConfig(
            vocabulary_size=self.tokenizer.vocabulary_size, width=128, num_layers=4, num_heads=4,
            num_key_value_heads=4, feed_forward_width=352, head_dim=32, max_positions=512, rope_theta=10_000.0,
        )  # fmt: skip
        vlm = FastVLM(VLMConfig(vision=FASTVITHD, decoder=decoder))
        vlm.vision = encoder  # type: ignore[assignment]  # any encoder with `forward_stages` will do
        vlm.projector = Projector(self.shape.width, decoder.width)
        self.vlm: FastVLM = vlm.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.geometry = _geometry(self.variant, self.shape)
        targets = CharacterTargets(num_classes=NUM_CLASSES, grids=self.geometry.grids, cell_width=24)
        self.heads = CharacterHeads({number: width for number, (_, width) in self.shape.mapped.items()}, targets)
        last = max(targets.grids)
        self.passed = CharacterHeads({last: decoder.width}, replace(targets, grids={last: targets.grids[last]}))
        self.pointing = GroundingHeads(
            self.vlm.decoder, GroundingTargets(num_spots=(PLACES_ACROSS, PLACES_DOWN), phrase_layer=0)
        )

    @property
    def parameters(self) -> int:
        """Of the encoder."""
        return sum(parameter.numel() for parameter in self.vlm.vision.parameters())

    def batches(
        self, settings: StudySettings, *, seed: int, num_steps: int, num_tokens: int | None = None
    ) -> CardBatches:
        """Cards for this model; num_tokens: where it was pruned."""
        collator = Collator(
            processor=ImageProcessor(ProcessingConfig()), tokenizer=self.tokenizer, template=TEMPLATES["compact"],
            max_positions=512,
        )  # fmt: skip
        return CardBatches(
            collator=collator,
            geometry=self.geometry,
            num_tokens=self.geometry.num_tokens if num_tokens is None else num_tokens,
            num_steps=num_steps,
            batch_size=settings.batch_size,
            questions=settings.questions,
            seed=seed,
            run_seed=self.seed if seed == TRAIN_SEED else 0,
        )


def train_model(
    name: str,
    seed: int,
    folder: Path,
    settings: StudySettings,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
) -> Model:
    """Train a variant, or go on where `folder` ends; what encoders of one form have seen first is learned once."""
    model = Model(name, seed)
    own = folder / f"{name.replace(' ', '-').lower()}-{seed}"

    def told(stage: str) -> Callable[[StepReport], None]:
        return partial(report, f"{name}, seed {seed}, {stage}")

    seeing: Identity = {
        **identity_of(settings, without=("num_cards", "num_timed", "num_workers", "num_steps", "questions")),
        "encoder": repr(model.vlm.vision),
        "is_pretrained": str(model.variant.is_pretrained),
        "cards": repr(CARDS_VERSION),
        "fonts": fonts_digest(),
        "seed": str(seed),
    }
    if model.variant.is_pretrained:
        _pretrain(model, own / "contrastive", settings, seeing, told("contrastive"))
    before = own if model.variant.is_pretrained else folder / f"{model.variant.encoder}-{seed}"
    sheets = SheetBatches(
        mapped=model.geometry.mapped, num_steps=settings.seeing_steps, batch_size=settings.seeing_batch, run_seed=seed
    )
    train(
        DenseTask(model.vlm.vision, model.heads), sheets, _loop(settings, seed, settings.seeing_steps), before / "see",
        identity=seeing, report=told("see"),
    )  # fmt: skip
    begin_projector(model, settings)
    task = InstructTask(
        model.vlm,
        heads=model.heads,
        passed=model.passed,
        dense_weight=settings.dense_weight,
        grounding=Grounding(model.pointing, settings.grounding_weight),
    )
    batches = model.batches(settings, seed=TRAIN_SEED, num_steps=settings.num_steps)
    train(
        task, batches, _loop(settings, seed, settings.num_steps), own / "answer",
        identity={**seeing, **identity_of(settings, without=("num_cards", "num_timed", "num_workers")),
                  "variant": repr(model.variant)},
        report=told("answer"),
    )  # fmt: skip
    return model


def _pretrain(
    model: Model, folder: Path, settings: StudySettings, identity: Identity, tell: Callable[[StepReport], None]
) -> None:
    vision = replace(FASTVITHD, clip_dim=64)
    text = TextConfig(
        vocabulary_size=model.tokenizer.vocabulary_size, width=96, num_layers=2, num_heads=3, feed_forward_width=256,
        context_length=CONTEXT, output_width=64, end_token_id=model.tokenizer.token_id(END),
    )  # fmt: skip
    torch.manual_seed(model.seed)
    towers: CLIP = CLIP(CLIPConfig(vision=vision, text=text)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cards = CaptionedCards(
        tokenizer=model.tokenizer, size_px=model.variant.size_px, num_steps=settings.pretraining_steps,
        batch_size=settings.pretraining_batch, run_seed=model.seed,
    )  # fmt: skip
    train(
        ContrastiveTask(towers, contrastive_weight=1.0, distillation_weight=0.0), cards,
        _loop(settings, model.seed, settings.pretraining_steps), folder,
        identity=identity, report=tell,
    )  # fmt: skip
    learned = {name: value for name, value in towers.vision.state_dict().items() if not name.startswith("clip_head")}
    model.vlm.vision.load_state_dict(learned)


@torch.no_grad()
def begin_projector(model: Model, settings: StudySettings) -> None:
    """Let the projector begin as a linear map, so that encoders whose tokens say more are not held back by it.

    It is scaled to what its own encoder gives for the first cards.
    """
    cards = model.batches(settings, seed=TRAIN_SEED, num_steps=1)[0]
    pixels = torch.from_numpy(cards.pixels).to(memory_format=torch.channels_last)
    spread = deepcopy(model.vlm.vision).forward_stages(pixels)[-1].square().mean().sqrt()
    torch.manual_seed(model.seed)
    model.vlm.projector.begin_linear(gain=1 / float(spread), scale=0.5)


def _loop(settings: StudySettings, seed: int, num_steps: int) -> LoopSettings:
    optimizer = OptimizerSettings(
        learning_rate=settings.learning_rate, warmup_steps=max(1, num_steps // 20),
        muon_parts=("decoder.layers", "vision"),
    )  # fmt: skip
    return LoopSettings(
        optimizer=optimizer,
        seed=seed,
        num_workers=settings.num_workers,
        save_every=500,
        log_every=max(1, num_steps // 20),
    )


def measure_model(model: Model, settings: StudySettings, *, machine: str) -> list[Measured]:
    """The share of right answers on cards that no model was trained on, whole and pruned."""
    model.vlm.eval()
    whole = Measured(
        name=model.name,
        seed=model.seed,
        num_tokens=model.geometry.num_tokens,
        parameters=model.parameters,
        accuracy=_accuracy(model, settings, None),
        machine=machine,
    )
    found = [whole]
    encoder = model.vlm.vision
    for side in PRUNED.get(model.name, ()):
        for method in METHODS:
            pruned = Pruned(encoder, method, side=side, seed=model.seed)
            model.vlm.vision = pruned  # type: ignore[assignment]
            accuracy = _accuracy(model, settings, side**2)
            found.append(replace(whole, num_tokens=side**2, accuracy=accuracy, method=method))
            model.vlm.vision = pruned.release()  # type: ignore[assignment]
    return found


def _accuracy(model: Model, settings: StudySettings, num_tokens: int | None) -> Accuracy:
    num_steps = -(-settings.num_cards // settings.batch_size)
    batches = model.batches(settings, seed=TEST_SEED, num_steps=num_steps, num_tokens=num_tokens)
    task = InstructTask(model.vlm)
    right = torch.cat([task.right_answers(batches[step]) for step in range(num_steps)])
    return Accuracy(int(right.sum()), len(right))


@dataclass(frozen=True)
class FirstToken:
    """Milliseconds from the pixels to the scores of the first word: median and quarter-points of n."""

    median_ms: float
    low_ms: float
    high_ms: float
    n: int


def measure_first_tokens(models: Sequence[Model], settings: StudySettings) -> dict[str, FirstToken]:
    """Time all models in turn, one card at a time, FastViTHD in its fused form; by the name of the variant.

    What they have learned makes no difference.
    """
    runs = {model.name: _first_token(model, settings) for model in models}
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(-2, settings.num_timed):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if number >= 0:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {name: _spread(own) for name, own in times.items()}


def _spread(times: Sequence[float]) -> FirstToken:
    low, median, high = statistics.quantiles(times, n=4)
    return FirstToken(median, low, high, len(times))


def _first_token(model: Model, settings: StudySettings) -> Callable[[], object]:
    batch: TrainingBatch = model.batches(replace(settings, batch_size=1, questions=1), seed=TEST_SEED, num_steps=1)[0]
    encoder: nn.Module = model.vlm.vision
    if isinstance(encoder, FastViTHD):
        encoder = fuse(encoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder = encoder.eval()
    model.vlm.eval()
    pixels = torch.from_numpy(batch.pixels).to(memory_format=torch.channels_last)
    answer = batch.supervised[0].argmax()
    token_ids = torch.from_numpy(batch.token_ids[:, :answer])
    is_visual = torch.from_numpy(batch.is_visual[:, :answer])
    positions = torch.from_numpy(batch.positions[:, :answer])
    mask = segment_mask(torch.zeros_like(token_ids))
    rows = torch.zeros_like(is_visual)
    rows[:, -1] = True

    def run() -> object:
        visual = model.vlm.project(encoder.forward_stages(pixels)[-1]).flatten(0, 1)  # type: ignore[operator]
        return model.vlm(visual, token_ids=token_ids, is_visual=is_visual, positions=positions, mask=mask, rows=rows)

    return run


def _geometry(variant: Variant, shape: EncoderShape) -> Geometry:
    return Geometry(
        size_px=variant.size_px,
        stride_px=shape.stride_px,
        mapped={number: stride_px for number, (stride_px, _) in shape.mapped.items()},
        tile_px=variant.tile_px,
    )
