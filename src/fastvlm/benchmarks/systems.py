"""What is measured: our runtimes, and other engines on the same weights where they are installed.

Each answers a question about random pixels and tells when each token came. Other engines are run as their own
documentation does it, and once more at their best.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.benchmarks.askable import measured_ranges
from fastvlm.benchmarks.questions import Answered, Question, System
from fastvlm.benchmarks.shapes import shape_config, tensors_of
from fastvlm.errors import GenerationError
from fastvlm.models.vision.config import PRESETS as ENCODERS
from fastvlm.runtimes.kernels.library import reason_against
from fastvlm.runtimes.protocol import Embeddings, Runtime, WeightFormat

if TYPE_CHECKING:
    from fastvlm.benchmarks.transformers_peer import TransformersForm

FASTVITHD = "fastvithd"


class OurSystem:
    """One of our runtimes, from ready pixels to token ids."""

    def __init__(self, runtime: Runtime, *, vocabulary_size: int) -> None:
        self._runtime, self._vocabulary_size = runtime, vocabulary_size

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Encode, embed, prefill and decode, then take up picture and cache for a second question."""
        pixels, prompt = question.pixels(), question.prompt(vocabulary_size=self._vocabulary_size)
        started_s = time.perf_counter()
        visual_tokens = self._runtime.encode(pixels)
        logits, cache = self._runtime.prefill([self._runtime.embed(prompt, [visual_tokens])])
        token_ids = logits.argmax(-1)
        times_ms = [(time.perf_counter() - started_s) * 1000]
        while len(times_ms) < num_tokens:
            token_ids = self._runtime.decode(token_ids, cache).argmax(-1)
            times_ms.append((time.perf_counter() - started_s) * 1000)
        started_s = time.perf_counter()
        again = self._runtime.embed(question.another(prompt), [visual_tokens])
        self._runtime.resume(cache, again, num_kept=question.num_kept)[0].argmax(-1)
        return Answered(times_ms, second_ms=(time.perf_counter() - started_s) * 1000)


Builder = Callable[[str, Path, str, int], System]


def _on_processor(engine: Literal["kernels", "openvino"], weight_format: WeightFormat | None) -> Builder:
    def build(shape: str, folder: Path, precision: str, num_threads: int) -> System:
        config, tensors = shape_config(shape), tensors_of(folder)
        given: dict[str, Any] = {
            "num_threads": num_threads,
            "cache_folder": folder / "compiled",
            "weight_format": weight_format,
            "encoder_ranges": None if weight_format is None else measured_ranges(config, tensors, folder),
        }
        runtime: Runtime
        if engine == "kernels":
            from fastvlm.runtimes.kernels.runtime import KernelRuntime

            runtime = KernelRuntime(config, tensors, **given)
        else:
            from fastvlm.runtimes.openvino.runtime import OpenVINORuntime

            runtime = OpenVINORuntime(config, tensors, dtype=precision, **given)
        return OurSystem(runtime, vocabulary_size=config.decoder.vocabulary_size)

    return build


def _torch(shape: str, folder: Path, precision: str, num_threads: int) -> System:
    import torch

    from fastvlm.checkpoints.load import build_model
    from fastvlm.runtimes.torch import TorchRuntime

    config = shape_config(shape)
    dtype = getattr(torch, precision)
    model = build_model(
        config, tensors_of(folder), folder=folder, device=torch.device("cpu"), dtype=dtype, vision_dtype=dtype
    )
    runtime = TorchRuntime(model, device="cpu", dtype=precision, num_threads=num_threads)
    return OurSystem(runtime, vocabulary_size=config.decoder.vocabulary_size)


def _transformers(form: TransformersForm) -> Builder:
    def build(_: str, folder: Path, precision: str, num_threads: int) -> System:
        import torch

        from fastvlm.benchmarks.transformers_peer import TransformersSystem

        torch.set_num_threads(num_threads)
        return TransformersSystem(folder, precision=precision, form=form)

    return build


def _onnxruntime(*, has_int4_weights: bool) -> Builder:
    def build(shape: str, folder: Path, _: str, num_threads: int) -> System:
        from fastvlm.benchmarks.onnx_peer import OnnxSystem

        return OnnxSystem(shape, folder, num_threads=num_threads, has_int4_weights=has_int4_weights)

    return build


def _mnn(weight_bits: int | None) -> Builder:
    def build(shape: str, folder: Path, _: str, num_threads: int) -> System:
        from fastvlm.benchmarks.mnn_peer import MnnSystem

        return MnnSystem(shape, folder, num_threads=num_threads, weight_bits=weight_bits)

    return build


class EncoderSystem:
    """An encoder alone; its one time is that of the features. It holds one size at a time."""

    def __init__(self, prepare: Callable[[int], Callable[[Float32Array], object]]) -> None:
        self._prepare = prepare
        self._size_px = 0
        self._run: Callable[[Float32Array], object] | None = None

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Encode the question's picture."""
        if self._run is None or self._size_px != question.size_px:
            self._run = None  # the old one goes before the new one comes: some are large
            self._run, self._size_px = self._prepare(question.size_px), question.size_px
        pixels = question.pixels().pixels
        started_s = time.perf_counter()
        self._run(pixels)
        return Answered([(time.perf_counter() - started_s) * 1000])


def _encoder(name: str, folder: Path, precision: str, num_threads: int) -> System:
    """FastViTHD with its checkpoint's weights, or another encoder, in OpenVINO."""
    from fastvlm.benchmarks.encoders import RandomEncoder, other_shape
    from fastvlm.checkpoints.arrays import Weights
    from fastvlm.runtimes.openvino.encoder import EncoderGraph
    from fastvlm.runtimes.openvino.engine import Engine

    engine = Engine([], about="", precision=precision, num_threads=num_threads)

    def prepare(size_px: int) -> Callable[[Float32Array], object]:
        if name == FASTVITHD:
            graphs = EncoderGraph(ENCODERS[FASTVITHD], Weights(tensors_of(folder)), precision=engine.precision)
            compiled = engine.compiled(name, lambda: graphs.build(num_tiles=1, height_px=size_px, width_px=size_px))
        else:
            other = RandomEncoder(other_shape(name), size_px=size_px, precision=engine.precision)
            compiled = engine.compiled(name, other.build)
        request = compiled.request()

        def run(pixels: Float32Array) -> object:
            # The graph reads its weights from memory that must live as long as it runs.
            return compiled, request.infer([pixels])

        return run

    return EncoderSystem(prepare)


def _shipped_encoder(name: str, folder: Path, precision: str, num_threads: int) -> System:
    """The same encoder as transformers has it; FastViTHD with its projector, which it does not come without."""
    import torch

    from fastvlm.benchmarks.encoders import other_shape
    from fastvlm.benchmarks.transformers_peer import TransformersSystem, encoder_module

    torch.set_num_threads(num_threads)
    dtype = getattr(torch, precision)

    def prepare(size_px: int) -> Callable[[Float32Array], object]:
        if name == FASTVITHD:
            run_images = TransformersSystem(folder, precision=precision, form="as it comes")._model.get_image_features
        else:
            module = encoder_module(other_shape(name), size_px=size_px).to(dtype)
            run_images = module

        def run(pixels: Float32Array) -> object:
            with torch.inference_mode():
                return run_images(pixel_values=torch.from_numpy(pixels).to(dtype))

        return run

    return EncoderSystem(prepare)


class PrefillSystem:
    """A decoder alone; its one time is that of the first token after a prompt of the question's length."""

    def __init__(self, shape: str, folder: Path, precision: str, num_threads: int) -> None:
        from fastvlm.runtimes.openvino.runtime import OpenVINORuntime

        config = shape_config(shape)
        self._width = config.decoder.width
        self._runtime = OpenVINORuntime(config, tensors_of(folder), dtype=precision, num_threads=num_threads)

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """Read so many random embeddings."""
        generator = np.random.default_rng(0)
        shape = (question.num_visual_tokens + question.num_text_tokens, self._width)
        prompt = Embeddings(generator.standard_normal(shape, dtype=np.float32), shape[0])
        started_s = time.perf_counter()
        self._runtime.prefill([prompt])[0].argmax(-1)
        return Answered([(time.perf_counter() - started_s) * 1000])


@dataclass(frozen=True)
class SystemKind:
    """How a system is built, which packages and whether a C++ compiler it needs, whether it is one of ours, whether it
    keeps compiled graphs beside the checkpoint, whether it needs our kernels, and the one precision that it computes
    in, where it has no choice."""

    build: Builder
    packages: tuple[str, ...]
    is_ours: bool = False
    keeps_graphs: bool = False
    needs_compiler: bool = False
    needs_kernels: bool = False
    only_precision: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether all that it needs is there."""
        has_packages = all(importlib.util.find_spec(package) is not None for package in self.packages)
        has_compiler = not self.needs_compiler or shutil.which("c++") is not None
        return has_packages and has_compiler and (not self.needs_kernels or reason_against() is None)


_ONNX_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
_MNN_PACKAGES = ("torch", "onnx", "onnxscript", "MNN")


def _kind_on_processor(engine: Literal["kernels", "openvino"], weight_format: WeightFormat | None) -> SystemKind:
    build = _on_processor(engine, weight_format)
    if engine == "openvino":
        return SystemKind(build, ("openvino",), is_ours=True, keeps_graphs=True)
    # Whether or not weights are fewer bits, everything between them is in bfloat16.
    return SystemKind(build, (), is_ours=True, keeps_graphs=True, needs_kernels=True, only_precision="bfloat16")


SYSTEMS: dict[str, SystemKind] = {
    "fastvlm-kernels": _kind_on_processor("kernels", None),
    "fastvlm-kernels-int8": _kind_on_processor("kernels", "int8"),
    "fastvlm-kernels-int4": _kind_on_processor("kernels", "int4"),
    "fastvlm-openvino": _kind_on_processor("openvino", None),
    "fastvlm-openvino-int8": _kind_on_processor("openvino", "int8"),
    "fastvlm-openvino-int4": _kind_on_processor("openvino", "int4"),
    "fastvlm-torch": SystemKind(_torch, ("torch",), is_ours=True),
    "transformers": SystemKind(_transformers("as it comes"), ("torch", "transformers", "timm")),
    # What loading gave without `dtype` before transformers 5, and still gives for weights stored in float32.
    "transformers-float32": SystemKind(
        _transformers("as it comes"), ("torch", "transformers", "timm"), only_precision="float32"
    ),
    "transformers-channels-last": SystemKind(_transformers("channels last"), ("torch", "transformers", "timm")),
    "transformers-compiled": SystemKind(
        _transformers("compiled"), ("torch", "transformers", "timm"), needs_compiler=True
    ),
    "onnxruntime": SystemKind(_onnxruntime(has_int4_weights=False), _ONNX_PACKAGES, only_precision="float32"),
    "onnxruntime-int4": SystemKind(_onnxruntime(has_int4_weights=True), _ONNX_PACKAGES, only_precision="float32"),
    "mnn": SystemKind(_mnn(None), _MNN_PACKAGES, only_precision="float32"),
    "mnn-int8": SystemKind(_mnn(8), _MNN_PACKAGES, only_precision="float32"),
    "mnn-int4": SystemKind(_mnn(4), _MNN_PACKAGES, only_precision="float32"),
}
"""What answers questions, by name."""

PARTS: dict[str, SystemKind] = {
    "encoder": SystemKind(_encoder, ("openvino",), is_ours=True),
    "encoder-transformers": SystemKind(_shipped_encoder, ("torch", "transformers", "timm")),
    "prefill": SystemKind(PrefillSystem, ("openvino",), is_ours=True),
}
"""Parts of models. The first two take the name of an encoder as their shape."""


def build_system(name: str, *, shape: str, folder: Path, precision: str, num_threads: int) -> System:
    """Build a system with the checkpoint of a shape in it. Raises GenerationError for an unknown name."""
    known = SYSTEMS | PARTS
    if name not in known:
        raise GenerationError(f"Expected one of the systems {', '.join(known)}, got {name!r}.")
    return known[name].build(shape, folder, precision, num_threads)
