"""The numbers in torch: CPUs, NVIDIA GPUs and Apple silicon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastvlm.batches import Float32Array, Int64Array, PixelTiles, PromptTokens, VisualTokens
from fastvlm.checkpoints.precision import DTYPES
from fastvlm.errors import GenerationError
from fastvlm.models.language.kv_cache import KVCache
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.checks import (
    check_pixels,
    check_prompts,
    check_resumed,
    check_slots,
    check_step,
    check_token_ids,
    check_visual_tokens,
    checked_num_threads,
    order_of_slots,
)
from fastvlm.runtimes.protocol import Cache, Embeddings, EncodePhase, ignore
from fastvlm.tiles import TileLayout

_SPARE_POSITIONS = 256
"""Room that prefill leaves for an answer before the cache has to grow."""


@dataclass(frozen=True)
class TorchCache:
    """Keys and values of B left-padded rows; num_padding: B, positions of padding before each row."""

    keys_values: KVCache
    num_padding: Tensor
    is_padded: bool

    @property
    def num_positions(self) -> int:
        """Positions held for each row, padding included."""
        return self.keys_values.num_positions


class TorchRuntime:
    """Computes a FastVLM with torch.

    device: `auto` (the fastest of cuda, mps and cpu), or a torch device such as `cuda:1`. dtype: `auto` (float32 on
    CPUs, bfloat16 on accelerators that have it), `float32`, `bfloat16` or `float16`. num_threads: CPU threads of the
    process, None to leave them. The model is moved, cast and put into evaluation mode in place.
    Raises GenerationError for a device or a precision that is not there.
    """

    def __init__(
        self, model: FastVLM, *, device: str = "auto", dtype: str = "auto", num_threads: int | None = None
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        num_threads = checked_num_threads(num_threads)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.model = model.to(device=self.device, dtype=self.dtype).eval()
        # Depthwise convolutions are several times faster with the channels innermost.
        self.model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    @property
    def max_positions(self) -> int:
        """Longest context in tokens: prompt plus answer."""
        return self.model.config.decoder.max_positions

    @property
    def name(self) -> str:
        """Engine, device and precision, as in `torch cpu float32`."""
        return f"torch {self.device} {str(self.dtype).removeprefix('torch.')}"

    @property
    def version(self) -> str:
        """The version of torch and the name of the GPU, if it is one."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return f"torch {torch.__version__} {name}"

    @property
    def compile_ms(self) -> float:
        """0: nothing is compiled."""
        return 0.0

    def prepare(self, layout: TileLayout) -> None:
        """Do nothing: images of all sizes pass through the same encoder."""

    @torch.inference_mode()
    def encode(self, image: PixelTiles, *, note: Callable[[EncodePhase], None] = ignore) -> VisualTokens:
        """Turn all tiles of one image into visual tokens, in one batch. note: called at the end of each phase.

        Raises PromptError for pixels that are not what the layout says, GenerationError when numbers overflow.
        """
        check_pixels(image)
        pixels = self._to_device(image.pixels).to(self.dtype, memory_format=torch.channels_last)
        features = self.model.vision(pixels)
        if note is not ignore and self.device.type != "cpu":
            # Work on an accelerator is only begun until somebody waits for it.
            torch.accelerator.synchronize(self.device)
        note("encode")
        tokens = self.model.project(features).flatten(0, 1)
        check_visual_tokens(is_finite=bool(tokens.isfinite().all()), runtime=self.name)
        note("project")
        return VisualTokens(tokens, tokens.shape[0])

    @torch.inference_mode()
    def embed(self, prompt: PromptTokens, images: Sequence[VisualTokens]) -> Embeddings:
        """Look up the words and put the visual tokens into their slots.

        Raises PromptError unless every image fills its slots exactly, and for ids outside the vocabulary.
        """
        check_slots(prompt, images)
        is_visual = prompt.image_index >= 0
        token_ids = np.where(is_visual, 0, prompt.token_ids)
        self._check_token_ids(token_ids)
        visual_tokens = torch.empty((0, self.model.config.decoder.width), device=self.device, dtype=self.dtype)
        if images:
            visual_tokens = torch.cat([cast(Tensor, image.data) for image in images])
        order = order_of_slots(prompt)
        if order is not None:
            visual_tokens = visual_tokens[self._to_device(order)]
        embeddings = self.model.embed(
            self._to_device(token_ids)[None], torch.from_numpy(is_visual)[None], visual_tokens
        )
        return Embeddings(embeddings[0], len(prompt))

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Embeddings]) -> tuple[Float32Array, Cache]:
        """Read B prompts, padded on the left; returns the logits after the last position, B x vocabulary, and a cache.

        Raises PromptError for no prompts, an empty one, or one that leaves no room for an answer.
        """
        lengths = check_prompts(prompts, max_positions=self.max_positions)
        num_positions = int(lengths.max())
        num_padding = self._to_device(num_positions - lengths)
        is_padded = bool((lengths < num_positions).any())
        config = self.model.config.decoder
        embeddings = torch.zeros((len(prompts), num_positions, config.width), device=self.device, dtype=self.dtype)
        for row, prompt in zip(embeddings, prompts, strict=True):
            row[num_positions - prompt.num_positions :] = cast(Tensor, prompt.data)
        capacity = min(num_positions + _SPARE_POSITIONS, self.max_positions)
        keys_values = KVCache(config, batch_size=len(prompts), capacity=capacity, device=self.device, dtype=self.dtype)
        steps = torch.arange(num_positions, device=self.device)
        hidden = self.model.decoder(
            embeddings,
            positions=(steps - num_padding[:, None]).clamp(min=0),
            mask=_left_padded_mask(steps, num_padding) if is_padded else None,
            cache=keys_values,
        )
        return self._to_host(self.model.decoder.logits(hidden[:, -1])), TorchCache(keys_values, num_padding, is_padded)

    @torch.inference_mode()
    def resume(self, cache: Cache, prompt: Embeddings, *, num_kept: int) -> tuple[Float32Array, Cache]:
        """Read one prompt whose first `num_kept` positions a cache of one row holds; the cache is used up by it.

        Raises PromptError where the cache cannot stand for so many positions.
        """
        held = cast(TorchCache, cache)
        check_resumed(
            prompt,
            num_kept=num_kept,
            num_held=held.num_positions,
            batch_size=held.keys_values.batch_size,
            max_positions=self.max_positions,
        )
        held.keys_values.truncate(num_kept)
        positions = torch.arange(num_kept, prompt.num_positions, device=self.device)[None]
        rest = cast(Tensor, prompt.data)[None, num_kept:]
        hidden = self.model.decoder(rest, positions=positions, cache=held.keys_values)
        return self._to_host(self.model.decoder.logits(hidden[:, -1])), held

    @torch.inference_mode()
    def decode(self, token_ids: Int64Array, cache: Cache) -> Float32Array:
        """Append one token to each of the B rows; returns the logits after it, B x vocabulary.

        Raises GenerationError when the context is full or the ids do not fit the rows.
        """
        held = cast(TorchCache, cache)
        batch_size = held.keys_values.batch_size
        last = held.num_positions
        check_step(token_ids, batch_size=batch_size, num_positions=last, max_positions=self.max_positions)
        self._check_token_ids(token_ids)
        mask = None
        if held.is_padded:
            mask = (torch.arange(last + 1, device=self.device) >= held.num_padding[:, None])[:, None, None]
        hidden = self.model.decoder(
            self.model.decoder.embed(self._to_device(token_ids)[:, None]),
            positions=last - held.num_padding[:, None],
            mask=mask,
            cache=held.keys_values,
        )
        return self._to_host(self.model.decoder.logits(hidden[:, 0]))

    def _check_token_ids(self, token_ids: Int64Array) -> None:
        check_token_ids(token_ids, vocabulary_size=self.model.config.decoder.vocabulary_size)

    def _to_device(self, array: npt.NDArray[np.generic]) -> Tensor:
        # torch warns about sharing memory that it must not write to.
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)

    def _to_host(self, logits: Tensor) -> Float32Array:
        return cast(Float32Array, logits.float().cpu().numpy())


def choose_device(name: str) -> torch.device:
    """The torch device of a name; `auto` is the fastest there is. Raises GenerationError for one that is not there."""
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in is_there.items() if available))
    kind, _, index = name.partition(":")
    num_devices = torch.cuda.device_count() if kind == "cuda" else 1
    if is_there.get(kind, False) and (not index or (index.isdecimal() and int(index) < num_devices)):
        return torch.device(name)
    available = ", ".join(kind for kind, here in is_there.items() if here)
    raise GenerationError(f"Expected a device that this machine has (auto, {available}), got {name!r}.")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of a name; `auto` is float32 on CPUs and bfloat16 on accelerators that compute in it.

    Raises GenerationError for an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise GenerationError(f"Expected a precision of auto, {', '.join(DTYPES)}, got {name!r}.")
    return DTYPES[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        try:
            torch.ones(1, dtype=torch.bfloat16, device=device).add(1)
        except (RuntimeError, TypeError):
            return False
        return True
    return False


def _left_padded_mask(steps: Tensor, num_padding: Tensor) -> Tensor:
    """Causal without the padding, B x 1 x T x T; padding sees itself, since an empty row would be undefined."""
    causal = steps[:, None] >= steps
    is_word = steps >= num_padding[:, None]
    itself = steps[:, None] == steps
    return ((causal & is_word[:, None, :]) | itself)[:, None]
