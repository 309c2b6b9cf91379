"""Examples into the arrays of a training batch: prompts packed behind one picture, rows padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import (
    BoolArray,
    DenseLabels,
    Float32Array,
    Int64Array,
    PromptTokens,
    TrainingBatch,
    UInt8Array,
)
from fastvlm.data.examples import Example
from fastvlm.errors import DataError, PromptError
from fastvlm.messages import Message
from fastvlm.processing.prompt import build_prompt, require_supervised
from fastvlm.processing.templates import ChatTemplate
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer
from fastvlm.tiles import ENCODER_STRIDE_PX, TileLayout

NO_PIXELS: Float32Array = np.zeros((0, 3, ENCODER_STRIDE_PX, ENCODER_STRIDE_PX), dtype=np.float32)
"""The pixels of a batch of text alone."""


@dataclass(frozen=True)
class PackedRow:
    """Several prompts about one picture in one row: the shared prefix once, then each prompt's own tokens.

    All arrays have the row's length T; see TrainingBatch for what they mean.
    """

    token_ids: Int64Array
    is_visual: BoolArray
    supervised: BoolArray
    positions: Int64Array
    segments: Int64Array


@dataclass(frozen=True)
class Collator:
    """Turns examples of one picture size into a batch, through the same processor and prompt as inference.

    max_positions: longest single conversation in tokens; a longer one is refused with its sample's id.
    row_positions: length of a row in tokens; conversations that would not fit behind the first ones are left for
    another day, so that rows need little padding. None packs all. has_pixels: False counts the visual tokens of
    pictures and leaves their pixels out. keeps_levels: pictures stay uint8 (see TrainingBatch).
    """

    processor: ImageProcessor
    tokenizer: Tokenizer
    template: ChatTemplate
    max_positions: int
    row_positions: int | None = None
    has_pixels: bool = True
    keeps_levels: bool = False

    def __post_init__(self) -> None:
        config = self.processor.config
        if self.keeps_levels and (set(config.mean), set(config.std)) != ({0.0}, {1.0}):
            raise DataError("Expected pixels between 0 and 1 of a processor whose levels are kept, got others.")

    def __call__(self, examples: Sequence[Example]) -> TrainingBatch:
        """Collate; raises DataError for an example without supervised tokens or of another size."""
        layouts = [[self._layout(image) for image in example.images] for example in examples]
        if len({(layout.tile_height_px, layout.tile_width_px) for own in layouts for layout in own}) > 1:
            raise DataError("Expected pictures of one size in a batch; group the examples by size.")
        rows = [
            _pack_or_empty(self._fitting([self._prompt(example, turns, own) for turns in example.conversations]))
            for example, own in zip(examples, layouts, strict=True)
        ]
        return batch_of(
            rows,
            sample_ids=[example.sample_id for example in examples],
            pixels=self._pixels([image for example in examples for image in example.images]),
            dense=_stack_dense([example.dense for example in examples if example.images]),
        )

    def _layout(self, image: UInt8Array) -> TileLayout:
        return self.processor.layout(image.shape[1], image.shape[0])

    def _pixels(self, images: Sequence[UInt8Array]) -> Float32Array | UInt8Array:
        if not self.has_pixels or not images:
            return NO_PIXELS
        if self.keeps_levels:
            return np.concatenate([np.stack(self.processor.pictures(image)) for image in images])
        return np.concatenate([self.processor(image).pixels for image in images])

    def _fitting(self, prompts: Sequence[PromptTokens]) -> Sequence[PromptTokens]:
        """The prompts, in order, that a row has room for; always the first."""
        if self.row_positions is None or not prompts:
            return prompts
        prefix_length = _prefix_length(prompts[0])
        kept, used = [prompts[0]], len(prompts[0])
        for prompt in prompts[1:]:
            used += len(prompt) - prefix_length
            if used <= self.row_positions:
                kept.append(prompt)
            else:
                used -= len(prompt) - prefix_length
        return kept

    def _prompt(self, example: Example, turns: Sequence[Message], layouts: Sequence[TileLayout]) -> PromptTokens:
        counts = [layout.num_visual_tokens for layout in layouts]
        return self.prompt(turns, sample_id=example.sample_id, visual_token_counts=counts)

    def prompt(
        self, messages: Sequence[Message], *, sample_id: str, visual_token_counts: Sequence[int]
    ) -> PromptTokens:
        """Tokenise one conversation. Raises DataError, naming the sample, for one too long or with nothing to learn."""
        try:
            prompt = build_prompt(
                messages,
                template=self.template,
                tokenizer=self.tokenizer,
                visual_token_counts=visual_token_counts,
                max_positions=self.max_positions,
            )
        except PromptError as error:
            raise DataError(f"{sample_id}: {error}") from error
        require_supervised(prompt, sample_id)
        return prompt


def batch_of(
    rows: Sequence[PackedRow],
    *,
    sample_ids: Sequence[str],
    pixels: Float32Array | UInt8Array = NO_PIXELS,
    features: Float32Array | None = None,
    dense: DenseLabels | None = None,
) -> TrainingBatch:
    """Pad rows to one length; there are none where pictures alone are learned from."""
    length = max((len(row.token_ids) for row in rows), default=0)
    return TrainingBatch(
        pixels=pixels,
        token_ids=_pad([row.token_ids for row in rows], length, 0),
        is_visual=_pad([row.is_visual for row in rows], length, 0).astype(bool),
        supervised=_pad([row.supervised for row in rows], length, 0).astype(bool),
        positions=_pad([row.positions for row in rows], length, 0),
        segments=_pad([row.segments for row in rows], length, -1),
        sample_ids=tuple(sample_ids),
        features=features,
        dense=dense,
    )


def pack(prompts: Sequence[PromptTokens]) -> PackedRow:
    """Put prompts that begin alike (up to their last visual token) into one row that encodes the beginning once.

    Prompts without a picture share nothing. Each prompt sees the beginning and itself, at the positions that it would
    have alone, so its logits are those of the prompt on its own. Raises DataError when the beginnings differ.
    """
    prefix_length = _prefix_length(prompts[0])
    prefix = prompts[0].token_ids[:prefix_length]
    for prompt in prompts:
        if (
            not np.array_equal(prompt.token_ids[:prefix_length], prefix)
            or prompt.image_index[prefix_length:].max() >= 0
        ):
            raise DataError("Expected conversations that begin with the same picture; put the picture first in each.")
    if any(prompt.supervised[prefix_length] for prompt in prompts[1:]):
        raise DataError(
            "Expected words between the picture and each answer, got an answer at once: what predicts its first token "
            "would be shared. Give such a picture one conversation."
        )
    parts = [slice(0, prefix_length)] + [slice(prefix_length, len(prompt)) for prompt in prompts]
    sources = [prompts[0], *prompts]
    lengths = [part.stop - part.start for part in parts]
    return PackedRow(
        token_ids=np.concatenate([p.token_ids[s] for p, s in zip(sources, parts, strict=True)]),
        is_visual=np.concatenate([p.image_index[s] >= 0 for p, s in zip(sources, parts, strict=True)]),
        supervised=np.concatenate([p.supervised[s] for p, s in zip(sources, parts, strict=True)]),
        positions=np.concatenate([np.arange(s.start, s.stop) for s in parts]),
        segments=np.repeat(np.arange(len(parts)), lengths),
    )


def _prefix_length(prompt: PromptTokens) -> int:
    """Positions up to the last visual token, which prompts about one picture share."""
    slots = np.flatnonzero(prompt.image_index >= 0)
    return int(slots[-1]) + 1 if len(slots) else 0


def _pack_or_empty(prompts: Sequence[PromptTokens]) -> PackedRow:
    """A picture without conversations is a row without tokens: dense supervision needs none."""
    if prompts:
        return pack(prompts)
    nothing = np.zeros(0, dtype=np.int64)
    return PackedRow(nothing, nothing.astype(bool), nothing.astype(bool), nothing, nothing)


def _pad(arrays: Sequence[Int64Array | BoolArray], length: int, value: int) -> Int64Array:
    padded = np.full((len(arrays), length), value, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def _stack_dense(labels: Sequence[DenseLabels | None]) -> DenseLabels | None:
    known = [label for label in labels if label is not None]
    if not known or len(known) != len(labels):
        return None
    return DenseLabels(
        class_maps={
            stage: np.concatenate([label.class_maps[stage] for label in known]) for stage in known[0].class_maps
        },
        token_features=np.concatenate([label.token_features for label in known]),
        token_weights=np.concatenate([label.token_weights for label in known]),
        content=known[0].content,
    )
