"""What runtimes on processors share: weights mapped from their files, words looked up, and prompts padded, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from fastvlm.batches import Float32Array, Int64Array, PromptTokens, VisualTokens
from fastvlm.checkpoints.arrays import Weights, to_float32
from fastvlm.checkpoints.strict import CLIP_HEAD, COUNTER, check_tensors, fused_shapes
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError, one_line
from fastvlm.models.config import VLMConfig
from fastvlm.runtimes.checks import (
    check_prompts,
    check_resumed,
    check_slots,
    check_step,
    check_token_ids,
    order_of_slots,
)
from fastvlm.runtimes.protocol import Cache, Embeddings, WeightFormat


class DecoderCache(Cache, Protocol):
    """Keys and values of B left-padded rows. num_padding: B."""

    num_padding: Int64Array

    def keep(self, num_positions: int) -> None:
        """Keep the first `num_positions`, whatever more is held."""


class ProcessorDecoder(Protocol):
    """A decoder over embeddings, whatever computes it."""

    def new_cache(self, num_padding: Int64Array) -> Any:
        """A cache that holds nothing yet, of rows with so much padding on their left."""

    def read(self, cache: Any, embeddings: Float32Array) -> Float32Array:
        """Read B x T new positions, B x T x width; returns the logits after the last one, B x vocabulary."""


class ProcessorRuntime:
    """The part of a runtime that is the same for every engine on a processor: all but the encoder and the decoder.

    weight_format: bits of the decoder's matrices, None as they are. encoder_ranges: how far from zero the inputs of the
    encoder's layers reach; `ranges` are these where the encoder is to compute in eight bits, which goes with a
    weight_format, else None.

    Raises CheckpointError for an encoder in the form of training, and for tensors that are missing, unexpected or
    misshaped.
    """

    decoder: ProcessorDecoder

    def __init__(
        self,
        config: VLMConfig,
        tensors: Mapping[str, StoredTensor],
        *,
        weight_format: WeightFormat | None,
        encoder_ranges: Mapping[str, float] | None,
    ) -> None:
        if config.vision.form != "fused":
            raise CheckpointError(
                "Expected an encoder in its fused form, got one in the form of training. "
                "Fuse it with `fastvlm convert SOURCE DESTINATION --fuse`, or answer with torch (--runtime torch)."
            )
        wanted = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(CLIP_HEAD) and not name.endswith(COUNTER)
        }
        folder = next(iter(tensors.values())).file.parent if tensors else Path()
        try:
            expected = fused_shapes(config)
        except (ValueError, ArithmeticError, LookupError) as error:
            raise CheckpointError(f"Expected {folder} to describe a model, got: {one_line(error)}.") from error
        check_tensors(expected, wanted, folder)
        self.config = config
        self.tensors = wanted
        self.weights = Weights(wanted)
        self.ranges = None if weight_format is None else encoder_ranges
        self.formats = "".join(
            f" {part} {name}"
            for part, name in (("encoder", None if self.ranges is None else "int8"), ("decoder", weight_format))
            if name is not None
        )
        self._table = self.weights.stored("decoder.embed_tokens.weight")

    @property
    def max_positions(self) -> int:
        """Longest context in tokens: prompt plus answer."""
        return self.config.decoder.max_positions

    def embed(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Embeddings:
        """Look up the words and put the visual tokens into their slots.

        Raises PromptError unless every image fills its slots exactly, and for ids outside the vocabulary.
        """
        check_slots(prompt, images)
        is_visual = prompt.image_index >= 0
        token_ids = np.where(is_visual, 0, prompt.token_ids)
        embeddings = self._words(token_ids)
        if images:
            visual_tokens = np.concatenate([cast(Float32Array, image.data) for image in images])
            order = order_of_slots(prompt)
            embeddings[is_visual] = visual_tokens if order is None else visual_tokens[order]
        return Embeddings(embeddings, len(prompt))

    def prefill(self, prompts: Sequence[Embeddings]) -> tuple[Float32Array, Cache]:
        """Read B prompts, padded on the left; returns the logits after the last position, B x vocabulary, and a cache.

        Raises PromptError for no prompts, an empty one, or one that leaves no room for an answer.
        """
        lengths = check_prompts(prompts, max_positions=self.max_positions)
        num_positions = int(lengths.max())
        num_padding = num_positions - lengths
        embeddings = np.zeros((len(prompts), num_positions, self.config.decoder.width), np.float32)
        for row, prompt in zip(embeddings, prompts, strict=True):
            row[num_positions - prompt.num_positions :] = cast(Float32Array, prompt.data)
        cache = self.decoder.new_cache(num_padding)
        return self.decoder.read(cache, embeddings), cache

    def resume(self, cache: Cache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, Cache]:
        """Read one prompt whose first `num_kept` positions a cache of one row holds; the cache is used up by it.

        Raises PromptError where the cache cannot stand for so many positions, and what the decoder raises where it has
        to make something for many positions and cannot.
        """
        held = cast(DecoderCache, cache)
        check_resumed(
            prompt,
            num_kept=num_kept,
            num_held=held.num_positions,
            batch_size=len(held.num_padding),
            max_positions=self.max_positions,
        )
        # Always: a step that was interrupted may have left one position more than the cache knows of.
        held.keep(num_kept)
        return self.decoder.read(held, cast(Float32Array, prompt.data)[None, num_kept:]), held

    def decode(self, token_ids: Int64Array, cache: Cache) -> Float32Array:
        """Append one token to each of the B rows; returns the logits after it, B x vocabulary.

        Raises GenerationError when the context is full or the ids do not fit the rows.
        """
        held = cast(DecoderCache, cache)
        batch_size = len(held.num_padding)
        check_step(token_ids, batch_size=batch_size, num_positions=held.num_positions, max_positions=self.max_positions)
        return self.decoder.read(held, self._words(token_ids)[:, None])

    def _words(self, token_ids: Int64Array) -> Float32Array:
        """What stands for words. Raises CheckpointError where that is not finite, which rounding would hide."""
        check_token_ids(token_ids, vocabulary_size=self.config.decoder.vocabulary_size)
        embeddings = to_float32(self._table[token_ids])
        if not np.isfinite(embeddings).all():
            raise CheckpointError(
                "Expected finite weights, got infinite or undefined ones in the table of words. "
                "Fetch the checkpoint again."
            )
        return embeddings
