"""How soon a first token comes on this machine, by resolution: measured once, kept, and used to keep a budget.

The paper finds the input resolution to be the best dial between accuracy and time to first token (section 3.2, figure
1); here it is turned by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastvlm.batches import PromptTokens, UInt8Array, VisualTokens
from fastvlm.errors import GenerationError, one_line
from fastvlm.files import write_whole
from fastvlm.inference.image_cache import ImageCache
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.runtimes.protocol import Runtime
from fastvlm.tiles import ENCODER_STRIDE_PX

_LOGGER = logging.getLogger(__name__)

PROFILE_VERSION = 4
"""Raised whenever something else is measured, or an engine computes in another way: earlier profiles are not taken."""

TEXT_TOKENS = 32
"""Words around the picture while measuring."""

_PICTURE_PX = 1400
_MAX_REMEMBERED, _FINGERPRINT_ROWS = 64, 64
_NUM_SIZES = 5
_NUM_RUNS = 7


@dataclass(frozen=True, kw_only=True)
class LatencyProfile:
    """Times in milliseconds that three of four runs stay within.

    encode_ms: from a picture in memory to visual tokens, by their number; prefill_ms: from visual tokens to the first
    token, by the length of the prompt. Raises ValueError for lengths that do not fit.
    """

    visual_tokens: tuple[float, ...]
    encode_ms: tuple[float, ...]
    prompt_tokens: tuple[float, ...]
    prefill_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.visual_tokens) == len(self.encode_ms) == len(self.prompt_tokens) == len(self.prefill_ms):
            raise ValueError("a profile has as many times as places, and at least one")

    def first_token_ms(self, *, visual_tokens: int, num_images: int, text_tokens: int, num_repeated: int = 0) -> float:
        """Milliseconds that `num_images` pictures of so many visual tokens each and a text take; interpolated.

        num_repeated: how many of them are shown once more, which is read but not encoded again.
        """
        encode_ms = _interpolated(visual_tokens, self.visual_tokens, self.encode_ms)
        prompt = (num_images + num_repeated) * visual_tokens + text_tokens
        return num_images * encode_ms + _interpolated(prompt, self.prompt_tokens, self.prefill_ms)


@dataclass(frozen=True, kw_only=True)
class ChosenResolution:
    """At which resolution pictures are looked at for a time to first token, and why.

    visual_tokens: of a square picture; most_visual_tokens: of one at the checkpoint's own resolution. expected_ms: the
    time to first token that was foreseen; next_ms: at the next larger resolution, None at the largest.
    """

    max_ttft_ms: float
    visual_tokens: int
    most_visual_tokens: int
    expected_ms: float
    next_ms: float | None

    @property
    def is_in_time(self) -> bool:
        """Whether the time is expected to be kept; False where even the smallest resolution takes longer."""
        return self.expected_ms <= self.max_ttft_ms

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {
            **asdict(self),
            "expected_ms": round(self.expected_ms, 3),
            "next_ms": None if self.next_ms is None else round(self.next_ms, 3),
            "is_in_time": self.is_in_time,
        }


class LatencyBudget:
    """Chooses the resolution at which the first token comes in time.

    processing: the checkpoint's own, whose resolution is the largest that is ever chosen.
    Raises GenerationError as `check_budget` does.
    """

    def __init__(self, profile: LatencyProfile, *, max_ttft_ms: float, processing: ProcessingConfig) -> None:
        check_budget(max_ttft_ms, processing)
        self.profile, self.max_ttft_ms = profile, max_ttft_ms
        sizes = sizes_of(processing)
        self._processors = {tokens: ImageProcessor(sizes[tokens]) for tokens in sorted(sizes, reverse=True)}
        self._chosen: OrderedDict[bytes, ChosenResolution] = OrderedDict()

    @property
    def resolutions(self) -> list[int]:
        """Visual tokens of a square picture at each resolution, the largest first."""
        return list(self._processors)

    def processor(self, chosen: ChosenResolution) -> ImageProcessor:
        """What prepares pictures at a resolution that was chosen."""
        return self._processors[chosen.visual_tokens]

    def choose(
        self, pictures: Sequence[UInt8Array], *, text_tokens: int, spent_ms: float = 0.0
    ) -> tuple[list[ChosenResolution], ChosenResolution]:
        """Choose for each picture of a question, `spent_ms` after it came; the smallest where none is in time.

        A picture keeps the resolution that it was given first: what was encoded and read of it serves later turns.
        Returns those of all pictures, at least one, and that which was chosen now, if any was, else the last.
        """
        keys = [_fingerprint(picture) for picture in pictures]
        new = [key for key in dict.fromkeys(keys) if key not in self._chosen]
        chosen = None
        if new:
            known_tokens = sum(self._chosen[key].visual_tokens for key in keys if key in self._chosen)
            num_repeated = sum(key in new for key in keys) - len(new)
            chosen = self._largest(
                len(new), num_repeated=num_repeated, other_tokens=known_tokens + text_tokens, spent_ms=spent_ms
            )
            self._chosen.update(dict.fromkeys(new, chosen))
        found = [self._chosen[key] for key in keys]
        while len(self._chosen) > _MAX_REMEMBERED:
            self._chosen.popitem(last=False)
        return found, chosen or found[-1]

    def _largest(
        self, num_images: int, *, other_tokens: int, spent_ms: float, num_repeated: int = 0
    ) -> ChosenResolution:
        """The most visual tokens for each of so many new pictures that keep the time; the fewest where none do."""
        next_ms: float | None = None
        most = tokens = self.resolutions[0]
        expected_ms = 0.0
        for place, tokens in enumerate(self.resolutions):
            next_ms = expected_ms if place else None
            expected_ms = spent_ms + self.profile.first_token_ms(
                visual_tokens=tokens, num_images=num_images, text_tokens=other_tokens, num_repeated=num_repeated
            )
            if expected_ms <= self.max_ttft_ms:
                break
        return ChosenResolution(
            max_ttft_ms=self.max_ttft_ms,
            visual_tokens=tokens,
            most_visual_tokens=most,
            expected_ms=expected_ms,
            next_ms=next_ms,
        )

    def expected_processor(self) -> ImageProcessor:
        """What will prepare one picture with a few words."""
        return self.processor(self._largest(1, other_tokens=TEXT_TOKENS, spent_ms=0.0))


def _fingerprint(picture: UInt8Array) -> bytes:
    """Tells pictures apart by their size and some of their rows: all of them would take as long as preparing one."""
    step = max(1, len(picture) // _FINGERPRINT_ROWS)
    return hashlib.blake2b(repr(picture.shape).encode() + np.ascontiguousarray(picture[::step]).tobytes()).digest()


def check_budget(max_ttft_ms: float, processing: ProcessingConfig) -> None:
    """Raise GenerationError for a budget that is not positive, and for pictures cut into tiles."""
    if not max_ttft_ms > 0:
        raise GenerationError(f"Expected a time to first token above 0 ms, got {max_ttft_ms:g}.")
    sizes_of(processing)


def sizes_of(processing: ProcessingConfig) -> dict[int, ProcessingConfig]:
    """The checkpoint's processing at each resolution down to a quarter of its own, by visual tokens of a square.

    Raises GenerationError for pictures cut into tiles, whose number is not a matter of resolution alone.
    """
    if processing.mode == "anyres":
        raise GenerationError(
            "Expected pictures in one piece for a time to first token to keep, this checkpoint cuts them into tiles "
            "(anyres). Choose --image-mode pad, or leave out --max-ttft."
        )
    if processing.mode == "fit":
        most = int(processing.max_visual_tokens**0.5)
        return {
            side**2: replace(processing, max_visual_tokens=side**2) for side in range(max(1, most // 4), most + 1)
        } | {processing.max_visual_tokens: processing}
    most = processing.size_px // ENCODER_STRIDE_PX
    return {
        side**2: replace(processing, size_px=side * ENCODER_STRIDE_PX) for side in range(max(1, most // 4), most + 1)
    }


def measure_latency(runtime: Runtime, processing: ProcessingConfig) -> LatencyProfile:
    """Measure a runtime at a few of the resolutions."""
    sizes = sizes_of(processing)
    places = np.linspace(0, len(sizes) - 1, _NUM_SIZES).round().astype(int)
    chosen = [sorted(sizes)[place] for place in dict.fromkeys(places.tolist())]
    visual_tokens, encode_ms, prefill_ms, prompt_tokens = [], [], [], []
    for tokens in chosen:
        measured = _Question(runtime, ImageProcessor(sizes[tokens]))
        visual_tokens.append(measured.visual_tokens.num_tokens)
        encode_ms.append(_upper_quartile_ms(measured.encode))
        prefill_ms.append(_upper_quartile_ms(measured.read))
        prompt_tokens.append(len(measured.prompt))
    return LatencyProfile(
        visual_tokens=tuple(visual_tokens),
        encode_ms=_rising(encode_ms),
        prompt_tokens=tuple(prompt_tokens),
        prefill_ms=_rising(prefill_ms),
    )


def kept_profile(folder: Path | None, key: object, measure: Callable[[], LatencyProfile]) -> LatencyProfile:
    """Read the profile of `key` (whatever it depends on) from a folder, or measure it and keep it there if possible."""
    if folder is None:
        return measure()
    path = folder / f"latency-{hashlib.sha256(repr((PROFILE_VERSION, key)).encode()).hexdigest()[:32]}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return LatencyProfile(**{name: tuple(map(float, numbers)) for name, numbers in values.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        profile = measure()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(profile)) + "\n")
    except OSError as error:
        _LOGGER.warning("Cannot keep what was measured in %s (%s); it is measured again.", folder, one_line(error))
    return profile


def warm_up(runtime: Runtime, processor: ImageProcessor) -> None:
    """Answer once about a picture prepared so: the engine's first run of a size is slower than later ones."""
    _Question(runtime, processor).read()


class _Question:
    """A picture of noise and some words, encoded."""

    def __init__(self, runtime: Runtime, processor: ImageProcessor) -> None:
        self._runtime, self._processor = runtime, processor
        self._picture = np.random.default_rng(0).integers(0, 256, (_PICTURE_PX, _PICTURE_PX, 3), dtype=np.uint8)
        self.visual_tokens = self.encode()
        image_index = np.full(self.visual_tokens.num_tokens + TEXT_TOKENS, -1, np.int64)
        image_index[2 : 2 + self.visual_tokens.num_tokens] = 0
        zeros = np.zeros(len(image_index), np.int64)
        self.prompt = PromptTokens(zeros, image_index, zeros.astype(bool))

    def encode(self) -> VisualTokens:
        """From the picture in memory to visual tokens, as an assistant does it."""
        return ImageCache().get_or_encode([self._processor(self._picture)], self._runtime.encode)[0]

    def read(self) -> None:
        """From visual tokens to the first token."""
        self._runtime.prefill([self._runtime.embed(self.prompt, [self.visual_tokens])])[0].argmax(-1)


def _upper_quartile_ms(run: Callable[[], object]) -> float:
    """What three of four runs stay within: a budget that is kept every other time is not kept."""
    times_ms = []
    for _ in range(_NUM_RUNS + 1):
        started_s = time.perf_counter()
        run()
        times_ms.append((time.perf_counter() - started_s) * 1000)
    # The first run is one to warm up.
    return statistics.quantiles(times_ms[1:], n=4, method="inclusive")[-1]


def _rising(values: Sequence[float]) -> tuple[float, ...]:
    """Larger is never faster: what noise says to the contrary is levelled."""
    return tuple(np.maximum.accumulate(values).tolist())


def _interpolated(x: float, places: Sequence[float], values: Sequence[float]) -> float:
    """A line through the measured places: level before the first, and beyond the last as steep as before it."""
    if len(places) > 1 and x > places[-1]:
        steepness = (values[-1] - values[-2]) / (places[-1] - places[-2])
        return values[-1] + steepness * (x - places[-1])
    return float(np.interp(x, places, values))
