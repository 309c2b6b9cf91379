"""The numbers in OpenVINO, on processors: no torch, and graphs built straight from the weights."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import openvino as ov

from fastvlm.batches import PixelTiles, VisualTokens
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.models.config import VLMConfig
from fastvlm.runtimes.checks import (
    check_pixels,
    check_visual_tokens,
)
from fastvlm.runtimes.openvino.decoders import Decoders
from fastvlm.runtimes.openvino.encoder import EncoderGraph
from fastvlm.runtimes.openvino.engine import Engine, Run, has_vnni, largest_weight
from fastvlm.runtimes.processor import ProcessorRuntime
from fastvlm.runtimes.protocol import EncodePhase, WeightFormat, ignore
from fastvlm.runtimes.quantization import GROUP_SIZE
from fastvlm.tiles import TileLayout

_ANY_SIZE = (-1, -1, -1)

NUM_FIXED_SIZES = 2
"""Graphs of a fixed size are faster; each takes a moment to compile and holds the encoder's weights once more."""


class OpenVINORuntime(ProcessorRuntime):
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
        super().__init__(config, tensors, weight_format=weight_format, encoder_ranges=encoder_ranges)
        ranges = self.ranges
        weights = self.weights
        self._engine = Engine(
            self.tensors.values(),
            weights=weights,
            about=repr((config, weight_format, None if ranges is None else sorted(ranges.items()))),
            precision=dtype,
            num_threads=num_threads,
            cache_folder=cache_folder,
            input_group=GROUP_SIZE if weight_format is not None and has_vnni() else 0,
        )
        self._encoder = EncoderGraph(
            config.vision, weights, precision=self._engine.precision, ranges=ranges, largest_weight=largest_weight()
        )
        # First, before there is an encoder in memory too: they are the largest.
        self.decoder = Decoders(config.decoder, weights, self._engine, weight_format=weight_format)
        self._projector = self._engine.compiled("projector", self._encoder.build_projector).run()
        self._num_fixed_sizes = num_fixed_sizes
        self._encoders: dict[tuple[int, int, int], Run] = {}
        # One picture at a time.
        self._lock = threading.Lock()
        self._preparing: tuple[tuple[int, int, int], threading.Thread] | None = None
        self._prepared: tuple[tuple[int, int, int], Run] | None = None

    @property
    def name(self) -> str:
        """Engine, device and precision, as in `openvino cpu float32` or `openvino cpu float32 decoder int4`."""
        return f"openvino cpu {self._engine.precision}{self.formats}"

    @property
    def version(self) -> str:
        """The version of OpenVINO; the processor is told by `machine`."""
        return f"openvino {ov.get_version()}"

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
        if size in self._encoders or not self._has_room_for(size) or is_busy:
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
            tokens = tokens.reshape(-1, self.config.decoder.width)
            note("project")
        check_visual_tokens(is_finite=bool(np.isfinite(tokens).all()), runtime=self.name)
        return VisualTokens(tokens, len(tokens))

    def _encoder_for(
        self, num_tiles: int, height_px: int, width_px: int, note: Callable[[EncodePhase], None] = ignore
    ) -> Run:
        """A run of the graph for pictures of this size, -1 for any, which is compiled where there is none yet."""
        size = (num_tiles, height_px, width_px)
        if size not in self._encoders and not self._has_room_for(size):
            size = _ANY_SIZE
        if size not in self._encoders:
            prepared, self._prepared = self._prepared, None
            if prepared is not None and prepared[0] == size:
                self._encoders[size] = prepared[1]
            else:
                self._encoders[size] = self._made(size)
                note("compile")
        return self._encoders[size]

    def _has_room_for(self, size: tuple[int, int, int]) -> bool:
        """Whether a size may have a graph of its own, as so many may; the one for any size always may."""
        return size == _ANY_SIZE or len(self._encoders.keys() - {_ANY_SIZE}) < self._num_fixed_sizes

    def _made(self, size: tuple[int, int, int]) -> Run:
        num_tiles, height_px, width_px = size
        compiled = self._engine.compiled(
            "encoder-" + ("any" if size == _ANY_SIZE else f"{num_tiles}x{height_px}x{width_px}"),
            lambda: self._encoder.build(num_tiles=num_tiles, height_px=height_px, width_px=width_px),
        )
        return compiled.run()


def _graph_size(layout: TileLayout) -> tuple[int, int, int]:
    """Tiles, height and width of the graph that encodes an image; -1 for any.

    Pictures that are encoded together are seldom as many again: no graph is made for them alone.
    """
    if layout.num_tiles > 1 and not layout.has_overview:
        return _ANY_SIZE
    return layout.num_tiles, layout.tile_height_px, layout.tile_width_px
