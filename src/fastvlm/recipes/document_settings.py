"""What the recipe `documents` is made of: its model, its stages, its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from fastvlm.data.reading_places import PLACES_ACROSS, PLACES_DOWN
from fastvlm.data.synthetic.documents.drawing import NUM_CHARACTER_CLASSES
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.processing.config import ProcessingConfig
from fastvlm.recipes.scenes import CANVASES as SMALL_SCENE_CANVASES
from fastvlm.recipes.scenes import DENSE_TARGETS, GROUNDING_TARGETS
from fastvlm.training.tasks.characters import CharacterTargets
from fastvlm.training.tasks.dense import DenseTargets
from fastvlm.training.tasks.grounding import GroundingTargets

SPECIAL_TOKENS = ("<|user|>", "<|assistant|>", "<|end|>")

LINE_CANVASES = ((256, 128), (256, 128), (256, 128), (512, 64), (128, 256))
"""(width, height) of eight visual tokens, shown as they are: what reading begins with."""

SHORT_CANVASES = ((192, 64), (256, 64), (320, 64), (128, 64), (256, 128))
"""Of the lines in a mixture."""

SCENE_CANVASES = (
    *SMALL_SCENE_CANVASES, (288, 288), (288, 288), (288, 288), (320, 288), (288, 320), (384, 256), (256, 384),
    (416, 224), (224, 416), (512, 192), (192, 512), (352, 352), (384, 320), (320, 384), (512, 256), (256, 512),
)  # fmt: skip
"""Scenes of up to as many visual tokens as a picture may have."""

CROP_CANVASES = ((192, 64),)
CROP_CHARACTERS = (2, 7)
"""What is told after each stage with words: short lines, shown as the model is shown any picture."""

READING_TARGETS = replace(GROUNDING_TARGETS, num_spots=(PLACES_ACROSS, PLACES_DOWN))

OUTSIDE_ANSWER = (
    "I can't tell. I read receipts, forms, tables, charts, signs and short texts, and know scenes of coloured shapes."
)
"""The answer to every question that no picture of the domain answers."""

NO_PICTURE_ANSWER = "I see no picture. Show me a document or a scene of coloured shapes and ask about it."
"""The answer to a question about a picture where there is none."""


@dataclass(frozen=True, kw_only=True)
class DocumentStage:
    """One stage: what learns, on which pictures, for how long.

    data: lines as they are; short lines as the model is shown pictures; or a mixture of documents, scenes and short
    lines, of which a batch has three times as many. part_rates: of modules that learn slower: with batches of a few
    pictures an encoder forgets at a large rate what it knows. is_frozen: the encoder keeps what it has learned.
    mixture: shares of documents, of scenes and of lines among the batches of a mixture. dense_weight: of the dense
    losses beside that of words. ema_decay: of a running mean of the weights, with which the stage ends.
    large_share: of documents that are larger than those that are judged. unrelated_share: of documents in whose place a
    picture of nothing that is known is shown. time_share: of a run that ends by its time; those of all stages are 1.
    seconds: after which the stage ends, however many steps it has made (see LoopSettings).
    """

    name: str
    task: Literal["dense", "instruct"]
    data: Literal["lines", "short lines", "mixture"]
    num_steps: int
    batch_size: int
    learning_rate: float
    part_rates: tuple[tuple[str, float], ...] = ()
    is_frozen: bool = False
    mixture: tuple[float, float, float] = (0.56, 0.24, 0.2)
    dense_weight: float = 1.0
    questions_per_picture: int = 8
    warmup_steps: int = 60
    ema_decay: float | None = None
    large_share: float = 0.0
    unrelated_share: float = 0.0
    time_share: float = 0.25
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class DocumentsRecipe:
    """The complete run; all that its numbers depend on, but the code and the typefaces, is in its fields.

    vocabulary_size: upper limit for the tokenizer, which learns its merges from questions, not from what documents say:
    that is read letter by letter. row_positions: tokens of a packed row: a picture and some questions. answer_exponent:
    between every token counting the same (0) and every answer (1). grounding_weight: of what words of a question point
    at and where answers are read, beside the words. compiles_decoder: on processors, see `compiled_layers`.
    """

    vision: FastViTHDConfig
    decoder: DecoderConfig
    processing: ProcessingConfig
    stages: tuple[DocumentStage, ...]
    targets: CharacterTargets
    template: str = "compact"
    vocabulary_size: int = 1536
    tokenizer_texts: int = 20_000
    row_positions: int = 384
    answer_exponent: float = 0.5
    grounding_weight: float = 0.5
    objects: DenseTargets = DENSE_TARGETS
    grounding: GroundingTargets = READING_TARGETS
    muon_parts: tuple[str, ...] = ("decoder.layers", "vision.stages")
    seed: int = 0
    num_workers: int = 1
    save_every: int = 100
    num_scored: int = 512
    compiles_decoder: bool = True


def documents() -> DocumentsRecipe:
    """The model that reads: some hours on two CPU cores.

    All answers are learned with a frozen encoder, where a step takes less than half as long: what they need most is
    practice in finding, which is the decoder's. A last stage in which everything learns, on two cores and for an
    hour, gave less than it took away.
    """
    return DocumentsRecipe(
        vision=FastViTHDConfig(
            depths=(1, 2, 6, 2, 2), widths=(16, 32, 96, 192, 384), layer_scale_init=1.0, form="train"
        ),
        decoder=DecoderConfig(
            vocabulary_size=1024, width=256, num_layers=6, num_heads=8, num_key_value_heads=8,
            feed_forward_width=704, head_dim=32, max_positions=768, rope_theta=10_000.0,
        ),
        processing=ProcessingConfig(mode="fit", max_visual_tokens=128, max_enlargement=2.0),
        targets=CharacterTargets(num_classes=NUM_CHARACTER_CLASSES),
        stages=(
            DocumentStage(
                name="see", task="dense", data="lines", num_steps=2400, batch_size=64, learning_rate=1e-2,
                time_share=0.116,
            ),
            DocumentStage(
                name="see-on", task="dense", data="lines", num_steps=2400, batch_size=64, learning_rate=6e-3,
                time_share=0.0633,
            ),
            DocumentStage(
                name="look", task="dense", data="mixture", num_steps=600, batch_size=16, learning_rate=5e-3,
                time_share=0.0591,
            ),
            DocumentStage(
                name="connect", task="instruct", data="short lines", num_steps=1800, batch_size=64, learning_rate=4e-3,
                is_frozen=True, time_share=0.0633,
            ),
            DocumentStage(
                name="find", task="instruct", data="mixture", num_steps=6000, batch_size=8, learning_rate=3e-3,
                is_frozen=True, time_share=0.2025, large_share=0.2, unrelated_share=0.06,
            ),
            DocumentStage(
                name="look-on", task="dense", data="mixture", num_steps=1700, batch_size=16, learning_rate=5e-3,
                mixture=(0.48, 0.37, 0.15), time_share=0.1582,
            ),
            DocumentStage(
                name="find-on", task="instruct", data="mixture", num_steps=6000, batch_size=8, learning_rate=1.2e-3,
                is_frozen=True, mixture=(0.48, 0.32, 0.2), time_share=0.2321, large_share=0.15, unrelated_share=0.06,
            ),
            DocumentStage(
                name="find-more", task="instruct", data="mixture", num_steps=6000, batch_size=8, learning_rate=1e-3,
                is_frozen=True, mixture=(0.48, 0.34, 0.18), time_share=0.1055, large_share=0.15, unrelated_share=0.06,
            ),
        ),
    )  # fmt: skip


def documents_on_a_gpu() -> DocumentsRecipe:
    """A little more of a model and four to eight times the pictures in a step: for a GPU, whose processors draw for it.

    It sees, looks and finds in one round each, which share 87 % of the time as all rounds of the small one share all of
    it; in the rest, as in the paper's last stages, everything learns to answer.
    """
    small = documents()
    by_name = {stage.name: stage for stage in small.stages}
    answer_share = 0.13

    def stage(name: str, *further: str) -> DocumentStage:
        time_share = sum(by_name[one].time_share for one in (name, *further))
        return replace(by_name[name], time_share=(1 - answer_share) * time_share)

    return replace(
        small,
        vision=replace(small.vision, depths=(2, 3, 6, 2, 2), widths=(24, 48, 96, 192, 384)),
        decoder=replace(small.decoder, num_layers=8),
        stages=(
            replace(stage("see", "see-on"), num_steps=800, batch_size=256),
            replace(stage("look", "look-on"), num_steps=400, batch_size=64),
            replace(stage("connect"), num_steps=700, batch_size=256),
            replace(stage("find", "find-on", "find-more"), batch_size=64, learning_rate=4e-3),
            replace(
                by_name["find"], name="answer", num_steps=3000, batch_size=64, learning_rate=2e-3, is_frozen=False,
                part_rates=(("vision", 1e-3), ("projector", 1.5e-3)), ema_decay=0.995, time_share=answer_share,
            ),
        ),
        num_workers=15,
    )  # fmt: skip


def smoke() -> DocumentsRecipe:
    """The same run in miniature, for tests: seconds on one core."""
    full = documents()
    return replace(
        full,
        vision=replace(full.vision, depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 32, 32)),
        decoder=replace(full.decoder, width=64, num_layers=5, num_heads=4, num_key_value_heads=2),
        stages=tuple(
            replace(stage, num_steps=6, batch_size=4, warmup_steps=1, learning_rate=2e-3) for stage in full.stages
        ),
        vocabulary_size=512,
        tokenizer_texts=400,
        num_workers=0,
        save_every=2,
        num_scored=8,
        compiles_decoder=False,
    )


RECIPES: dict[str, Callable[[], DocumentsRecipe]] = {
    "documents": documents,
    "documents-gpu": documents_on_a_gpu,
    "documents-smoke": smoke,
}
"""Complete runs by name."""
