"""What is measured: our runtimes, and other engines on the same weights where they are installed.

Each answers a question about random pixels and tells when each token came. Other engines are run as their own
documentation does it, and once more at their best.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fastvlm.batches import PixelTiles, PromptTokens
from fastvlm.benchmarks.shapes import IMAGE_TOKEN_ID, shape_config, tensors_of
from fastvlm.errors import GenerationError
from fastvlm.runtimes.protocol import Runtime
from fastvlm.tiles import TileLayout

_NUM_BEFORE = 14
"""Words before the picture, as the template of the released models has them."""


@dataclass(frozen=True)
class Question:
    """A square picture and so many words."""

    size_px: int
    num_text_tokens: int

    @property
    def num_visual_tokens(self) -> int:
        """One for each 64 x 64 pixels."""
        return (self.size_px // 64) ** 2

    def pixels(self) -> PixelTiles:
        """Random pixels, the same every time."""
        shape = (1, 3, self.size_px, self.size_px)
        values = np.random.default_rng(self.size_px).random(shape, dtype=np.float32)
        return PixelTiles(values, TileLayout(self.size_px, self.size_px))

    def prompt(self, *, vocabulary_size: int) -> PromptTokens:
        """Random words around the picture's slots; what stands in a slot is the image token."""
        words = np.random.default_rng(0).integers(IMAGE_TOKEN_ID + 1, vocabulary_size, self.num_text_tokens)
        before = min(_NUM_BEFORE, self.num_text_tokens - 1)
        slots = np.full(self.num_visual_tokens, IMAGE_TOKEN_ID)
        token_ids = np.concatenate([words[:before], slots, words[before:]]).astype(np.int64)
        image_index = np.where(token_ids == IMAGE_TOKEN_ID, 0, -1).astype(np.int64)
        return PromptTokens(token_ids, image_index, np.zeros(len(token_ids), bool))


class System(Protocol):
    """An engine with a model in it."""

    def answer(self, question: Question, *, num_tokens: int) -> list[float]:
        """Answer greedily, never ending early; returns the milliseconds after the start when each token came."""


class OurSystem:
    """One of our runtimes, from ready pixels to token ids."""

    def __init__(self, runtime: Runtime, *, vocabulary_size: int) -> None:
        self._runtime, self._vocabulary_size = runtime, vocabulary_size

    def answer(self, question: Question, *, num_tokens: int) -> list[float]:
        """Encode, embed, prefill and decode."""
        pixels, prompt = question.pixels(), question.prompt(vocabulary_size=self._vocabulary_size)
        started_s = time.perf_counter()
        visual_tokens = self._runtime.encode(pixels)
        logits, cache = self._runtime.prefill([self._runtime.embed(prompt, [visual_tokens])])
        token_ids = logits.argmax(-1)
        times_ms = [(time.perf_counter() - started_s) * 1000]
        while len(times_ms) < num_tokens:
            token_ids = self._runtime.decode(token_ids, cache).argmax(-1)
            times_ms.append((time.perf_counter() - started_s) * 1000)
        return times_ms


class TransformersSystem:
    """transformers' own FastVLM and its `generate`. best: channels innermost, which it does not choose by itself."""

    def __init__(self, folder: Path, *, precision: str, best: bool) -> None:
        # torchvision asks for operators that no wheel of torch for processors has; none of them is used.
        sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch = torch
        self._dtype = getattr(torch, precision)
        model = transformers.FastVlmForConditionalGeneration.from_pretrained(folder, dtype=self._dtype)
        self._model = model.to(memory_format=torch.channels_last) if best else model
        self._model.generation_config.eos_token_id = None
        self._best = best

    def answer(self, question: Question, *, num_tokens: int) -> list[float]:
        """Generate with a streamer that looks at the clock."""
        torch = self._torch
        vocabulary_size = self._model.config.text_config.vocab_size
        token_ids = torch.from_numpy(question.prompt(vocabulary_size=vocabulary_size).token_ids)[None]
        pixels = torch.from_numpy(question.pixels().pixels).to(self._dtype)
        if self._best:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        clock = _Clock()
        with torch.inference_mode():
            self._model.generate(
                input_ids=token_ids,
                attention_mask=torch.ones_like(token_ids),
                pixel_values=pixels,
                do_sample=False,
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
                streamer=clock,
            )
        return clock.times_ms


class _Clock:
    """A streamer of transformers: it is given the prompt first, then each token."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self.times_ms: list[float] = []
        self._has_prompt = False

    def put(self, _: object) -> None:
        """Note the time of a token."""
        if self._has_prompt:
            self.times_ms.append((time.perf_counter() - self._started_s) * 1000)
        self._has_prompt = True

    def end(self) -> None:
        """Nothing is left to note."""


Builder = Callable[[str, Path, str, int], System]


def _openvino(shape: str, folder: Path, precision: str, num_threads: int) -> System:
    from fastvlm.runtimes.openvino.runtime import OpenVINORuntime

    config = shape_config(shape)
    runtime = OpenVINORuntime(config, tensors_of(folder), dtype=precision, num_threads=num_threads)
    return OurSystem(runtime, vocabulary_size=config.decoder.vocabulary_size)


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


def _transformers(*, best: bool) -> Builder:
    def build(_: str, folder: Path, precision: str, num_threads: int) -> System:
        import torch

        torch.set_num_threads(num_threads)
        return TransformersSystem(folder, precision=precision, best=best)

    return build


@dataclass(frozen=True)
class SystemKind:
    """How a system is built, which packages it needs, and whether it is one of ours."""

    build: Builder
    packages: tuple[str, ...]
    is_ours: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether all its packages are there."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)


SYSTEMS: dict[str, SystemKind] = {
    "fastvlm-openvino": SystemKind(_openvino, ("openvino",), is_ours=True),
    "fastvlm-torch": SystemKind(_torch, ("torch",), is_ours=True),
    "transformers": SystemKind(_transformers(best=False), ("torch", "transformers", "timm")),
    "transformers-channels-last": SystemKind(_transformers(best=True), ("torch", "transformers", "timm")),
}
"""What can be measured, by name."""


def build_system(name: str, *, shape: str, folder: Path, precision: str, num_threads: int) -> System:
    """Build a system with the checkpoint of a shape in it. Raises GenerationError for an unknown name."""
    if name not in SYSTEMS:
        raise GenerationError(f"Expected one of the systems {', '.join(SYSTEMS)}, got {name!r}.")
    return SYSTEMS[name].build(shape, folder, precision, num_threads)
