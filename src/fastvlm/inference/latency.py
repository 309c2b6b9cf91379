"""How soon a first token comes on this machine, by resolution: measured once, kept, and used to keep a budget.

The paper finds the input resolution to be the best dial between accuracy and time to first token (section 3.2, figure
1); here it is turned by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from numbers import Real
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
from fastvlm.tiles import ENCODER_STRIDE_PX, TileLayout

_LOGGER = logging.getLogger(__name__)

PROFILE_VERSION = 6
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

    resize_ms: from a picture in memory to pixels for the encoder, for each million pixels of the picture; fill_ms: the
    same for each visual token. encode_ms: from these pixels to visual tokens, by their number; new_size_ms: what an
    engine takes longer for the first picture of a size. prefill_ms: from visual tokens to the first token, by the
    length of the prompt. Raises ValueError for columns of different lengths and for places that do not rise.
    """

    resize_ms: float
    fill_ms: float
    visual_tokens: tuple[float, ...]
    encode_ms: tuple[float, ...]
    new_size_ms: tuple[float, ...]
    prompt_tokens: tuple[float, ...]
    prefill_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        columns = self.visual_tokens, self.encode_ms, self.new_size_ms, self.prompt_tokens, self.prefill_ms
        if not self.visual_tokens or len({len(column) for column in columns}) > 1:
            raise ValueError("a profile has as many times as places, and at least one")
        if any(
            later <= place for places in (self.visual_tokens, self.prompt_tokens) for place, later in pairwise(places)
        ):
            raise ValueError("the places of a profile rise")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatencyProfile:
        """Take what `asdict` has made of one. Raises ValueError, TypeError or AttributeError for anything else."""
        numbers: dict[str, Any] = {
            name: float(value) if name in ("resize_ms", "fill_ms") else tuple(map(float, value))
            for name, value in values.items()
        }
        return cls(**numbers)

    def picture_ms(self, *, num_pixels: int, visual_tokens: int, is_new_size: bool = False) -> float:
        """Milliseconds from a picture of so many pixels in memory to so many visual tokens."""
        prepare_ms = self.resize_ms * num_pixels / 1e6 + self.fill_ms * visual_tokens
        encode_ms = _interpolated(visual_tokens, self.visual_tokens, self.encode_ms)
        if is_new_size:
            encode_ms += _interpolated(visual_tokens, self.visual_tokens, self.new_size_ms)
        return prepare_ms + encode_ms

    def prompt_ms(self, prompt_tokens: int) -> float:
        """Milliseconds from visual tokens to the first token after a prompt."""
        return _interpolated(prompt_tokens, self.prompt_tokens, self.prefill_ms)


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


_Size = tuple[int, int]


@dataclass(frozen=True)
class _Chosen:
    """What was chosen for a picture, and how many visual tokens it has for that."""

    resolution: ChosenResolution
    num_tokens: int


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
        self._chosen: OrderedDict[bytes, _Chosen] = OrderedDict()
        self._known_sizes: set[TileLayout] = set()
        self._lock = threading.Lock()

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

        A picture keeps the resolution that it was given first, as long as it is among the last that were asked about:
        what was encoded and read of it serves later turns. Its size counts as known to the engine from then on.
        Returns those of all pictures, at least one, and that which was chosen now, if any was, else the last.
        """
        keys = [_fingerprint(picture) for picture in pictures]
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        with self._lock:
            return self._choose(keys, sizes, text_tokens=text_tokens, spent_ms=spent_ms)

    def _choose(
        self, keys: Sequence[bytes], sizes: Sequence[_Size], *, text_tokens: int, spent_ms: float
    ) -> tuple[list[ChosenResolution], ChosenResolution]:
        new = {key: size for key, size in zip(keys, sizes, strict=True) if key not in self._chosen}
        chosen = None
        if new:
            known_tokens = sum(self._chosen[key].num_tokens for key in keys if key not in new)
            shown = [new[key] for key in keys if key in new]
            chosen = self._largest([*new.values()], shown, other_tokens=known_tokens + text_tokens, spent_ms=spent_ms)
            for key, size in new.items():
                layout = self.processor(chosen).layout(*size)
                self._known_sizes.add(layout)
                self._chosen[key] = _Chosen(chosen, layout.num_visual_tokens)
        for key in keys:
            self._chosen.move_to_end(key)
        found = [self._chosen[key].resolution for key in keys]
        while len(self._chosen) > _MAX_REMEMBERED:
            self._chosen.popitem(last=False)
        return found, chosen or found[-1]

    def _largest(
        self,
        new: Sequence[_Size],
        shown: Sequence[_Size],
        *,
        other_tokens: int,
        spent_ms: float,
        are_sizes_known: bool = False,
    ) -> ChosenResolution:
        """The largest resolution of new pictures that keeps the time; the smallest where none does.

        new: width and height of each in pixels; shown: the same of all their places, as one may be shown again.
        are_sizes_known: whether the engine has had pictures of all sizes.
        """
        next_ms: float | None = None
        most = tokens = self.resolutions[0]
        expected_ms = 0.0
        for place, tokens in enumerate(self.resolutions):
            next_ms = expected_ms if place else None
            processor = self._processors[tokens]
            known_sizes = {processor.layout(*size) for size in new} if are_sizes_known else self._known_sizes
            expected_ms = spent_ms + self._expected_ms(processor, new, shown, other_tokens, known_sizes)
            if expected_ms <= self.max_ttft_ms:
                break
        return ChosenResolution(
            max_ttft_ms=self.max_ttft_ms,
            visual_tokens=tokens,
            most_visual_tokens=most,
            expected_ms=expected_ms,
            next_ms=next_ms,
        )

    def _expected_ms(
        self,
        processor: ImageProcessor,
        new: Sequence[_Size],
        shown: Sequence[_Size],
        other_tokens: int,
        known_sizes: Set[TileLayout],
    ) -> float:
        known_sizes = set(known_sizes)
        pictures_ms = 0.0
        for width_px, height_px in new:
            layout = processor.layout(width_px, height_px)
            pictures_ms += self.profile.picture_ms(
                num_pixels=processor.num_resized_pixels(width_px, height_px),
                visual_tokens=layout.num_visual_tokens,
                is_new_size=layout not in known_sizes,
            )
            known_sizes.add(layout)
        num_visual_tokens = sum(processor.layout(*size).num_visual_tokens for size in shown)
        return pictures_ms + self.profile.prompt_ms(num_visual_tokens + other_tokens)

    def warm_up(self, runtime: Runtime) -> None:
        """Answer once about a square, at the resolution that is in time once the engine knows its size."""
        size = _PICTURE_PX, _PICTURE_PX
        expected = self._largest([size], [size], other_tokens=TEXT_TOKENS, spent_ms=0.0, are_sizes_known=True)
        processor = self.processor(expected)
        _Question(runtime, processor).read()
        self._known_sizes.add(processor.layout(*size))


def _fingerprint(picture: UInt8Array) -> bytes:
    """Tells pictures apart by their size and some of their rows: all of them would take as long as preparing one."""
    step = max(1, len(picture) // _FINGERPRINT_ROWS)
    return hashlib.blake2b(repr(picture.shape).encode() + np.ascontiguousarray(picture[::step]).tobytes()).digest()


def check_budget(max_ttft_ms: float, processing: ProcessingConfig) -> None:
    """Raise GenerationError for a budget that is no positive number, and for pictures cut into tiles."""
    is_number = isinstance(max_ttft_ms, Real) and not isinstance(max_ttft_ms, bool)
    if not (is_number and max_ttft_ms > 0):
        raise GenerationError(f"Expected a time to first token as a number above 0 ms, got {max_ttft_ms!r}.")
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
    # The largest first, so that no later one has to wait for memory.
    largest, *others = [_Measured.of(runtime, ImageProcessor(sizes[tokens])) for tokens in reversed(chosen)]
    # A square may have as many tokens at two resolutions.
    rising = [*{each.visual_tokens: each for each in (*reversed(others), largest)}.values()]
    visual_tokens = tuple(float(each.visual_tokens) for each in rising)
    # The very first picture of all pays for more than its size, which is told by the others.
    *first_ms, most_ms = (max(0.0, each.first_encode_ms - each.encode_ms) for each in rising)
    new_size_ms = _rising(first_ms)
    largest_ms = min(most_ms, _interpolated(visual_tokens[-1], visual_tokens[:-1], new_size_ms)) if first_ms else 0.0
    resize_ms, fill_ms = _prepare_ms(ImageProcessor(sizes[chosen[-1]]))
    return LatencyProfile(
        resize_ms=resize_ms,
        fill_ms=fill_ms,
        visual_tokens=visual_tokens,
        encode_ms=_rising([each.encode_ms for each in rising]),
        new_size_ms=(*new_size_ms, largest_ms),
        prompt_tokens=tuple(float(each.prompt_tokens) for each in rising),
        prefill_ms=_rising([each.prefill_ms for each in rising]),
    )


@dataclass(frozen=True)
class _Measured:
    """What one resolution takes, in milliseconds: the first picture of this size, later ones, and the prompt.

    Raises what the runtime raises.
    """

    visual_tokens: int
    prompt_tokens: int
    first_encode_ms: float
    encode_ms: float
    prefill_ms: float

    @classmethod
    def of(cls, runtime: Runtime, processor: ImageProcessor) -> _Measured:
        question = _Question(runtime, processor)
        return cls(
            visual_tokens=question.visual_tokens.num_tokens,
            prompt_tokens=len(question.prompt),
            first_encode_ms=question.first_encode_ms,
            encode_ms=_upper_quartile_ms(question.encode),
            prefill_ms=_upper_quartile_ms(question.read),
        )


def _prepare_ms(processor: ImageProcessor) -> tuple[float, float]:
    """Milliseconds of preparing pictures: for each million of their pixels, and for each visual token.

    Of two pictures that both are made smaller, so that they get as many tokens.
    """
    sides_px = _PICTURE_PX, 2 * _PICTURE_PX
    small_ms, large_ms = (_upper_quartile_ms(partial(processor, _noise(side_px))) for side_px in sides_px)
    small, large = (side_px**2 / 1e6 for side_px in sides_px)
    resize_ms = max(0.0, large_ms - small_ms) / (large - small)
    tokens = processor.layout(_PICTURE_PX, _PICTURE_PX).num_visual_tokens
    return resize_ms, max(0.0, small_ms - resize_ms * small) / tokens


def kept_profile(folder: Path | None, key: object, measure: Callable[[], LatencyProfile]) -> LatencyProfile:
    """Read the profile of `key` (whatever it depends on) from a folder, or measure it and keep it there if possible."""
    if folder is None:
        return measure()
    path = folder / f"latency-{hashlib.sha256(repr((PROFILE_VERSION, key)).encode()).hexdigest()[:32]}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return LatencyProfile.from_dict(values)
    except (OSError, ValueError, TypeError, AttributeError):
        profile = measure()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(profile)) + "\n")
    except OSError as error:
        _LOGGER.warning("Cannot keep what was measured in %s (%s); it is measured again.", folder, one_line(error))
    return profile


def _noise(side_px: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)


class _Question:
    """A picture of noise, prepared, and some words; it is encoded once, which takes first_encode_ms."""

    def __init__(self, runtime: Runtime, processor: ImageProcessor) -> None:
        self._runtime, self._image = runtime, processor(_noise(_PICTURE_PX))
        started_s = time.perf_counter()
        self.visual_tokens = self.encode()
        self.first_encode_ms = (time.perf_counter() - started_s) * 1000
        image_index = np.full(self.visual_tokens.num_tokens + TEXT_TOKENS, -1, np.int64)
        image_index[2 : 2 + self.visual_tokens.num_tokens] = 0
        zeros = np.zeros(len(image_index), np.int64)
        self.prompt = PromptTokens(zeros, image_index, zeros.astype(bool))

    def encode(self) -> VisualTokens:
        """From pixels to visual tokens, as an assistant does it."""
        return ImageCache().get_or_encode([self._image], self._runtime.encode)[0]

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
