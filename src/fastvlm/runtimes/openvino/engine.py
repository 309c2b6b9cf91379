"""OpenVINO's CPU plugin: what graphs are compiled for, and their compiled form kept on disk for the next start."""

from __future__ import annotations

import hashlib
import logging
import mmap
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError, GenerationError, one_line
from fastvlm.files import fingerprint, write_whole
from fastvlm.machine import describe_processor, has_instruction, keep
from fastvlm.runtimes.checks import checked_num_threads
from fastvlm.runtimes.pages import released
from fastvlm.runtimes.quantization import HALF_RANGE, WHOLE_RANGE

_LOGGER = logging.getLogger(__name__)

BUILDER_VERSION = 6
"""Raised whenever a graph is built in another way: compiled forms of earlier ones are not taken."""

PRECISIONS = ("float32", "bfloat16")

_DEVICE = "CPU"
_TYPES = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}


@dataclass
class Compiled:
    """A graph that can be run. memory: what it reads its weights from, and must outlive it. maps: of their files."""

    model: ov.CompiledModel
    memory: object
    maps: tuple[mmap.mmap, ...] = ()
    _is_packed: bool = field(default=False, init=False)

    def request(self) -> ov.InferRequest:
        """A run of the graph, with states of its own."""
        return self.model.create_infer_request()

    def run(self) -> Run:
        """A run of the graph beside it."""
        return Run(self, self.request())

    def infer(self, request: ov.InferRequest, inputs: Any, *, is_long: bool = True) -> Any:
        """Run the graph, while pages of the files that it reads its weights from are let go.

        is_long: it takes long, beside what a thread takes for that. Of short runs only the first one, which packs the
        weights, does so; later ones read small constants there and no more.
        """
        with released(self.maps if is_long or not self._is_packed else ()):
            outputs = request.infer(inputs)
        self._is_packed = True
        return outputs


@dataclass(frozen=True)
class Run:
    """A graph and one run of it, which serves one caller at a time."""

    graph: Compiled
    request: ov.InferRequest

    def infer(self, inputs: Any, *, is_long: bool = True) -> Any:
        """See `Compiled.infer`."""
        return self.graph.infer(self.request, inputs, is_long=is_long)


class Engine:
    """Compiles graphs of one checkpoint in one precision.

    about: what graphs depend on beside the weights, such as the configuration. weights: what graphs are built from,
    whose pages are let go when they are packed; None to leave that to the system. precision: `auto` (bfloat16 where the
    processor computes in it), `float32` or `bfloat16`. num_threads: of the processor, None for the engine's choice.
    cache_folder: where compiled graphs are kept, None to keep none. input_group: inputs of matrices in fewer bits are
    rounded to eight bits too, so many with a scale of their own; 0 leaves them as they are.
    Raises GenerationError for a precision that the processor lacks.
    """

    def __init__(
        self,
        tensors: Iterable[StoredTensor],
        *,
        about: str,
        weights: Weights | None = None,
        precision: str = "auto",
        num_threads: int | None = None,
        cache_folder: Path | None = None,
        input_group: int = 0,
    ) -> None:
        self._core = _core()
        self.input_group = input_group
        self.precision = choose_precision(precision)
        num_threads = checked_num_threads(num_threads)
        self._num_threads = num_threads
        self._cache_folder = cache_folder
        self._weights = weights
        self.compile_ms = 0.0
        self._depends_on = (about, fingerprint({tensor.file for tensor in tensors}))

    def compiled(self, name: str, build: Callable[[], ov.Model], *, precision: str | None = None) -> Compiled:
        """Take the compiled graph `name` from the cache, or build, compile and keep it.

        precision: what it computes in, `float32` or `bfloat16`; None for the engine's own. A graph in the cache that
        cannot be read is made anew; a cache that cannot be written is warned of and done without. The time that it
        takes is added to `compile_ms`.
        Raises CheckpointError for a graph that cannot be built or compiled.
        """
        started_s = time.perf_counter()
        try:
            return self._taken_or_made(name, build, precision or self.precision)
        finally:
            self.compile_ms += (time.perf_counter() - started_s) * 1000

    def _taken_or_made(self, name: str, build: Callable[[], ov.Model], precision: str) -> Compiled:
        properties = self._properties(precision)
        key = self._key(name, precision)
        path = None if self._cache_folder is None else self._cache_folder / f"{name}-{key}.blob"
        if path is not None and (kept := self._taken(path, properties)) is not None:
            return kept
        try:
            graph = build()
            with released(self._maps()):
                compiled = self._core.compile_model(graph, _DEVICE, properties)
        except (RuntimeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"Expected a configuration that OpenVINO can compile ({name}), got: {one_line(error, max_length=300)}. "
                "Check config.json, or answer with torch (--runtime torch)."
            ) from error
        if path is not None:
            with released(self._maps()):
                self._keep(compiled, path)
            # Mapped from its file it takes no memory until it is run; what it was built from would stay.
            if (kept := self._taken(path, properties)) is not None:
                return kept
        return Compiled(compiled, graph, self._maps())

    def _taken(self, path: Path, properties: dict[str, object]) -> Compiled | None:
        """The compiled graph of a file; None where there is none, or none that can be read."""
        try:
            return self._imported(path, properties) if path.is_file() else None
        except (RuntimeError, OSError, ValueError) as error:
            _LOGGER.info("The compiled graph in %s cannot be read and is done without: %s", path, one_line(error))
            return None

    def _maps(self) -> tuple[mmap.mmap, ...]:
        return () if self._weights is None else self._weights.maps

    def _properties(self, precision: str) -> dict[str, object]:
        properties: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            # Left to itself the plugin would round keys and values to eight bits.
            "KV_CACHE_PRECISION": _TYPES[self.precision],
            # And would choose a group by itself.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": self.input_group,
        }
        if self._num_threads is not None:
            properties["INFERENCE_NUM_THREADS"] = self._num_threads
        return properties

    def _key(self, name: str, precision: str) -> str:
        depends_on = (
            name, BUILDER_VERSION, ov.get_version(), describe_processor(), precision, self.precision, self._num_threads,
            self.input_group, *self._depends_on,
        )  # fmt: skip
        return hashlib.sha256(repr(depends_on).encode()).hexdigest()[:32]

    def _imported(self, path: Path, properties: dict[str, object]) -> Compiled:
        # Mapped, not read: pages come when they are needed, and processes share them.
        with path.open("rb") as stream:
            blob = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        values = ov.Tensor(np.frombuffer(blob, np.uint8), shared_memory=True)
        with released((blob,)):
            model = self._core.import_model(values, _DEVICE, properties)
        return Compiled(model, values, (blob,))

    def _keep(self, compiled: ov.CompiledModel, path: Path) -> None:
        keep(path, lambda: write_whole(path, compiled.export_model().getbuffer()), what="a compiled graph")


def choose_precision(name: str) -> str:
    """The precision of a name; `auto` is bfloat16 where the processor computes in it, else float32.

    Raises GenerationError for an unknown name, and for one that the processor lacks.
    """
    if name not in ("auto", *PRECISIONS):
        raise GenerationError(f"Expected a precision of auto, {', '.join(PRECISIONS)} in OpenVINO, got {name!r}.")
    if name == "auto":
        return "bfloat16" if has_bfloat16() else "float32"
    if name == "bfloat16" and not has_bfloat16():
        raise GenerationError(
            "Expected a processor that computes in bfloat16 for OpenVINO, this one does not. Take float32 or auto."
        )
    return name


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "BF16" in _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> ov.Core:
    """The only one of the process, for as long as it lives.

    The plugin gives the process a stack for signal handlers and takes it back with its core: of two cores, the one that
    goes last puts back the stack of the one that went first, and the next signal (Ctrl-C) ends in a segmentation fault.
    """
    return ov.Core()


def largest_weight() -> int:
    """The largest number that a weight in eight bits may have on this processor, where inputs have eight bits too."""
    return HALF_RANGE if _is_x86() and not has_vnni() else WHOLE_RANGE


def has_vnni() -> bool:
    """Whether this processor multiplies eight bits with eight bits, and sums in 32, in one instruction of x86."""
    return _is_x86() and any(map(has_instruction, ("avx512_vnni", "avx_vnni", "amx_int8")))


def has_amx_int8() -> bool:
    """Whether this processor has a unit for matrices of eight bits."""
    return _is_x86() and has_instruction("amx_int8")


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
