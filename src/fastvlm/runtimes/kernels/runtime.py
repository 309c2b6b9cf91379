"""The numbers in kernels of our own, on processors whose vectors multiply bfloat16 and eight bits."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import fastvlm
from fastvlm.batches import PixelTiles, VisualTokens
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.files import fingerprint
from fastvlm.machine import num_cores, num_processors
from fastvlm.models.config import VLMConfig
from fastvlm.runtimes.checks import check_pixels, check_visual_tokens, checked_num_threads
from fastvlm.runtimes.kernels import decoder_packing, encoder_packing, library
from fastvlm.runtimes.kernels.decoder import KernelDecoder
from fastvlm.runtimes.kernels.encoder import KernelEncoder
from fastvlm.runtimes.processor import ProcessorRuntime
from fastvlm.runtimes.protocol import EncodePhase, WeightFormat, ignore
from fastvlm.tiles import TileLayout

PACKING_VERSION = 2
"""Raised whenever weights are packed in another way: what was packed before is not taken then."""


def suits(config: VLMConfig) -> bool:
    """Whether the kernels can compute a model of this shape."""
    return encoder_packing.suits(config.vision) and decoder_packing.suits(config.decoder)


def _begin(work: Callable[[], None]) -> threading.Thread:
    """Do in a thread of its own, where the system has one more, what would have to be done later anyway."""
    thread = threading.Thread(target=work, name="fastvlm-ahead", daemon=True)
    with contextlib.suppress(RuntimeError):
        thread.start()
    return thread


class KernelRuntime(ProcessorRuntime):
    """Computes a model that `suits` in our own kernels, in bfloat16, from the tensors of a checkpoint by our names.

    num_threads: None for one on each core, never more than there are processors. cache_folder: where packed weights
    are kept, None to keep none. weight_format: bits of the decoder's matrices, None for bfloat16; in fewer bits their
    inputs have eight bits too.
    encoder_ranges: as `openvino.calibration` measures them; beside a weight_format they let the encoder compute in
    eight bits.
    Raises NoLibraryError where there are no kernels, CheckpointError for tensors that are missing, unexpected or
    misshaped, GenerationError for less than one thread.
    """

    def __init__(
        self,
        config: VLMConfig,
        tensors: Mapping[str, StoredTensor],
        *,
        num_threads: int | None = None,
        cache_folder: Path | None = None,
        weight_format: WeightFormat | None = None,
        encoder_ranges: Mapping[str, float] | None = None,
    ) -> None:
        library.load()
        super().__init__(config, tensors, weight_format=weight_format, encoder_ranges=encoder_ranges)
        num_threads = checked_num_threads(num_threads)
        started_s = time.perf_counter()
        # More would wait for one another, busily.
        threads = min(num_threads or num_cores(), num_processors())
        ranges = self.ranges
        files = fingerprint({tensor.file for tensor in self.tensors.values()})

        def path(part: str, *depends_on: object) -> Path | None:
            key = hashlib.sha256(repr((part, PACKING_VERSION, fastvlm.__version__, files, depends_on)).encode())
            return None if cache_folder is None else cache_folder / f"{part}-{key.hexdigest()[:32]}.blob"

        self.decoder: KernelDecoder = KernelDecoder(
            config.decoder,
            self.weights,
            weight_format=weight_format,
            path=path("packed-decoder", config.decoder, weight_format),
            num_threads=threads,
        )
        self._encoder = KernelEncoder(
            config,
            self.weights,
            ranges=ranges,
            path=path("packed-encoder", config, None if ranges is None else sorted(ranges.items())),
            num_threads=threads,
        )
        # The library may have been loaded before, by whoever chose this runtime.
        self.compile_ms = (time.perf_counter() - started_s) * 1000 + library.load().load_ms
        # One picture at a time.
        self._lock = threading.Lock()
        # What is done ahead, in turn: more threads than cores would hold up whoever decodes a picture.
        self._ahead = threading.Lock()
        self._wanted: TileLayout | None = None
        self._preparing: threading.Thread | None = None
        _begin(self._fetch)

    @property
    def name(self) -> str:
        """Engine, device and precision, as in `kernels cpu bfloat16` or `kernels cpu bfloat16 decoder int4`."""
        return f"kernels cpu bfloat16{self.formats}"

    @property
    def version(self) -> str:
        """Our own; the processor is told by `machine`."""
        return f"kernels {fastvlm.__version__}"

    def prepare(self, layout: TileLayout) -> None:
        """Begin to take memory for images of a layout, in another thread, once the encoder's weights are fetched.

        What fails is told by `encode`.
        """
        self._wanted = layout
        if self._preparing is None or not self._preparing.is_alive():
            self._preparing = _begin(self._prepare)

    def _fetch(self) -> None:
        for part in (self._encoder, self.decoder):
            with self._ahead:
                part.fetch()

    def _prepare(self) -> None:
        with self._ahead:
            layout = self._wanted
            # Not where a picture is being encoded: that one has memory.
            if layout is not None and self._lock.acquire(blocking=False):
                try:
                    self._encoder.prepare(layout.num_tiles, layout.tile_height_px, layout.tile_width_px)
                finally:
                    self._lock.release()

    def encode(self, image: PixelTiles, *, note: Callable[[EncodePhase], None] = ignore) -> VisualTokens:
        """Turn all tiles of one image into visual tokens, in one batch. note: called at the end of each phase.

        Raises PromptError for pixels that are not what the layout says, GenerationError when numbers overflow.
        """
        check_pixels(image)
        with self._lock:
            self._encoder.encode(image.levels, image.table)
            note("encode")
            tokens = self._encoder.project()
            note("project")
        check_visual_tokens(is_finite=bool(np.isfinite(tokens).all()), runtime=self.name)
        return VisualTokens(tokens, len(tokens))
