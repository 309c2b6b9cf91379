"""The numbers in OpenVINO, on processors: no torch, and graphs built straight from the weights."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import openvino as ov

from fastvlm.batches import Float32Array, Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.checkpoints.arrays import Weights, to_float32
from fastvlm.checkpoints.strict import CLIP_HEAD, COUNTER, check_tensors, fused_shapes
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.compiler import CannotCompileError
from fastvlm.errors import CheckpointError, one_line
from fastvlm.machine import num_cores
from fastvlm.models.config import VLMConfig
from fastvlm.runtimes.checks import (
    check_pixels,
    check_prompts,
    check_resumed,
    check_slots,
    check_step,
    check_token_ids,
    check_visual_tokens,
    order_of_slots,
)
from fastvlm.runtimes.kernels.decoder import KernelDecoder
from fastvlm.runtimes.kernels.packing import suits
from fastvlm.runtimes.openvino.decoders import Decoders
from fastvlm.runtimes.openvino.encoder import EncoderGraph
from fastvlm.runtimes.openvino.engine import Engine, Run, has_amx, has_vnni, largest_weight
from fastvlm.runtimes.protocol import Cache, Embeddings, EncodePhase, WeightFormat, ignore
from fastvlm.runtimes.quantization import GROUP_SIZE
from fastvlm.tiles import TileLayout

_LOGGER = logging.getLogger(__name__)

NUM_FIXED_SIZES = 2
"""Graphs of a fixed size are faster; each takes a moment to compile and holds the encoder's weights once more."""


class DecoderCache(Cache, Protocol):
    """Keys and values of B left-padded rows. num_padding: B."""

    num_padding: Int64Array

    def keep(self, num_positions: int) -> None:
        """Keep the first `num_positions`, whatever more is held."""


class AnyDecoder(Protocol):
    """A decoder over embeddings, whatever computes it."""

    def new_cache(self, num_padding: Int64Array) -> Any:
        """A cache that holds nothing yet, of rows with so much padding on their left."""

    def read(self, cache: Any, embeddings: Float32Array) -> Float32Array:
        """Read B x T new positions, B x T x width; returns the logits after the last one, B x vocabulary."""


class OpenVINORuntime:
    """Computes a model with OpenVINO's CPU plugin, from the tensors of a checkpoint by our names.

    dtype: `auto` (bfloat16 where the processor computes in it, else float32), `float32` or `bfloat16`. num_threads:
    None for the engine's choice. cache_folder: where compiled graphs are kept, None to keep none. weight_format: bits
    of the decoder's matrices, None as they are stored; where the processor has VNNI their inputs are rounded to eight
    bits, and where it has AMX, many positions are read with weights in eight bits in either format. encoder_ranges: as
    `calibration` measures them; beside a weight_format they let the encoder compute in eight bits. num_fixed_sizes: so
    many sizes of pictures get graphs of their own, the others share one.
    Raises CheckpointError for tensors that are missing, unexpected or misshaped, GenerationError for a precision that
    the processor lacks.
    """

    def __init__(
        self,
        config: VLMConfig,
        tensors: Mapping[str, StoredTensor],
        *,
        dtype: str = "auto",
        num_threads: int | None = None,
        cache_folder: Path | None = None,
        weight_format: WeightFormat | None = None,
        encoder_ranges: Mapping[str, float] | None = None,
        num_fixed_sizes: int = NUM_FIXED_SIZES,
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
        self._config = config
        ranges = None if weight_format is None else encoder_ranges
        weights = Weights(wanted)
        self._engine = Engine(
            wanted.values(),
            weights=weights,
            about=repr((config, weight_format, None if ranges is None else sorted(ranges.items()))),
            precision=dtype,
            num_threads=num_threads,
            cache_folder=cache_folder,
            input_group=GROUP_SIZE if weight_format is not None and has_vnni() else 0,
        )
        self._formats = "".join(
            f" {part} {name}"
            for part, name in (("encoder", None if ranges is None else "int8"), ("decoder", weight_format))
            if name is not None
        )
        self._table = weights.stored("decoder.embed_tokens.weight")
        self._encoder = EncoderGraph(
            config.vision, weights, precision=self._engine.precision, ranges=ranges, largest_weight=largest_weight()
        )
        # First, before there is an encoder in memory too: it is the largest.
        self._decoder = self._decoder_of(weights, weight_format)
        self._projector = self._engine.compiled("projector", self._encoder.build_projector).run()
        self._num_fixed_sizes = num_fixed_sizes
        self._encoders: dict[tuple[int, int, int], Run] = {}
        # One picture at a time.
        self._lock = threading.Lock()
        self._preparing: tuple[tuple[int, int, int], threading.Thread] | None = None
        self._prepared: tuple[tuple[int, int, int], Run] | None = None

    def _decoder_of(self, weights: Weights, weight_format: WeightFormat | None) -> AnyDecoder:
        """The decoder in our own kernels where they are faster and can be had, else in graphs."""
        config, engine = self._config.decoder, self._engine
        if engine.precision == "bfloat16" and not has_amx() and suits(config):
            try:
                with engine.counted():
                    return KernelDecoder.opened(
                        config,
                        weights,
                        weight_format=weight_format,
                        path=engine.path("decoder-packed"),
                        num_threads=engine.num_threads or num_cores(),
                    )
            except CannotCompileError as error:
                _LOGGER.info("The decoder is computed by OpenVINO, more slowly than by our own kernels: %s", error)
        return Decoders(config, weights, engine, weight_format=weight_format)

    @property
    def max_positions(self) -> int:
        """Longest context in tokens: prompt plus answer."""
        return self._config.decoder.max_positions

    @property
    def name(self) -> str:
        """Engine, device and precision, as in `openvino cpu float32` or `openvino cpu float32 decoder int4`."""
        return f"openvino cpu {self._engine.precision}{self._formats}"

    @property
    def version(self) -> str:
        """The version of OpenVINO; the processor is told by `machine`."""
        return f"openvino {ov.get_version()}" + (", own kernels" if isinstance(self._decoder, KernelDecoder) else "")

    @property
    def compile_ms(self) -> float:
        """Milliseconds that went into compiling graphs until now, or into taking them from the cache."""
        return self._engine.compile_ms

    def prepare(self, layout: TileLayout) -> None:
        """Begin to make the graph for images of a layout, or to take it from the cache, in another thread.

        What fails is told by `encode`, which tries again.
        """
        size = _graph_size(layout)
        is_busy = self._preparing is not None and self._preparing[1].is_alive()
        if size in self._encoders or len(self._encoders) >= self._num_fixed_sizes or is_busy:
            return
        thread = threading.Thread(target=self._prepare, args=(size,), name="prepare encoder")
        with contextlib.suppress(RuntimeError):  # of a system that has no more threads
            thread.start()
            self._preparing = size, thread

    def _prepare(self, size: tuple[int, int, int]) -> None:
        with self._lock, contextlib.suppress(Exception):
            # Apart from those that are kept: its picture may yet turn out to be broken.
            self._prepared = size, self._made(size)

    def encode(self, image: PixelTiles, *, note: Callable[[EncodePhase], None] = ignore) -> VisualTokens:
        """Turn all tiles of one image into visual tokens, in one batch. note: called at the end of each phase.

        Raises PromptError for pixels that are not what the layout says, GenerationError when numbers overflow.
        """
        check_pixels(image)
        size, preparing = _graph_size(image.layout), self._preparing
        is_awaited = preparing is not None and preparing[0] == size and preparing[1].is_alive()
        with self._lock:
            note("compile" if is_awaited else "encode")
            encoder = self._encoder_for(*size, note)
            features = encoder.infer([np.ascontiguousarray(image.pixels)])[0]
            note("encode")
            tokens = np.array(self._projector.infer([features])[0], np.float32)
            tokens = tokens.reshape(-1, self._config.decoder.width)
            note("project")
        check_visual_tokens(is_finite=bool(np.isfinite(tokens).all()), runtime=self.name)
        return VisualTokens(tokens, len(tokens))

    def _encoder_for(
        self, num_tiles: int, height_px: int, width_px: int, note: Callable[[EncodePhase], None] = ignore
    ) -> Run:
        """A run of the graph for pictures of this size, -1 for any, which is compiled where there is none yet."""
        size = (num_tiles, height_px, width_px)
        if size not in self._encoders and len(self._encoders) >= self._num_fixed_sizes:
            size = (-1, -1, -1)
        if size not in self._encoders:
            prepared, self._prepared = self._prepared, None
            if prepared is not None and prepared[0] == size:
                self._encoders[size] = prepared[1]
            else:
                self._encoders[size] = self._made(size)
                note("compile")
        return self._encoders[size]

    def _made(self, size: tuple[int, int, int]) -> Run:
        num_tiles, height_px, width_px = size
        compiled = self._engine.compiled(
            "encoder-" + ("any" if num_tiles < 0 else f"{num_tiles}x{height_px}x{width_px}"),
            lambda: self._encoder.build(num_tiles=num_tiles, height_px=height_px, width_px=width_px),
        )
        return compiled.run()

    def embed(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Embeddings:
        """Look up the words and put the visual tokens into their slots.

        Raises PromptError unless every image fills its slots exactly, and for ids outside the vocabulary.
        """
        check_slots(prompt, images)
        is_visual = prompt.image_index >= 0
        token_ids = np.where(is_visual, 0, prompt.token_ids)
        self._check_token_ids(token_ids)
        embeddings = to_float32(self._table[token_ids])
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
        embeddings = np.zeros((len(prompts), num_positions, self._config.decoder.width), np.float32)
        for row, prompt in zip(embeddings, prompts, strict=True):
            row[num_positions - prompt.num_positions :] = cast(Float32Array, prompt.data)
        cache = self._decoder.new_cache(num_padding)
        return self._decoder.read(cache, embeddings), cache

    def resume(self, cache: Cache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, Cache]:
        """Read one prompt whose first `num_kept` positions a cache of one row holds; the cache is used up by it.

        Raises PromptError where the cache cannot stand for so many positions, CheckpointError where a graph for many
        positions is needed and cannot be compiled.
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
        return self._decoder.read(held, cast(Float32Array, prompt.data)[None, num_kept:]), held

    def decode(self, token_ids: Int64Array, cache: Cache) -> Float32Array:
        """Append one token to each of the B rows; returns the logits after it, B x vocabulary.

        Raises GenerationError when the context is full or the ids do not fit the rows.
        """
        held = cast(DecoderCache, cache)
        batch_size = len(held.num_padding)
        check_step(token_ids, batch_size=batch_size, num_positions=held.num_positions, max_positions=self.max_positions)
        self._check_token_ids(token_ids)
        return self._decoder.read(held, to_float32(self._table[token_ids])[:, None])

    def _check_token_ids(self, token_ids: Int64Array) -> None:
        check_token_ids(token_ids, vocabulary_size=self._config.decoder.vocabulary_size)


def _graph_size(layout: TileLayout) -> tuple[int, int, int]:
    """Tiles, height and width of the graph that encodes an image; -1 for any.

    Pictures that are encoded together are seldom as many again: no graph is made for them alone.
    """
    if layout.num_tiles > 1 and not layout.has_overview:
        return -1, -1, -1
    return layout.num_tiles, layout.tile_height_px, layout.tile_width_px
