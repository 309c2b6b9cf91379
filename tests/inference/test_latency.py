"""A time to first token is kept by turning down the resolution, as far as needed and no further."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.batches import Float32Array, PixelTiles, VisualTokens
from fastvlm.errors import GenerationError
from fastvlm.inference.latency import (
    TEXT_TOKENS,
    LatencyBudget,
    LatencyProfile,
    kept_profile,
    measure_latency,
    sizes_of,
    warm_up,
)
from fastvlm.processing.config import ProcessingConfig
from fastvlm.runtimes.protocol import Embeddings

Build = Callable[..., Any]

PROFILE = LatencyProfile(
    visual_tokens=(16, 64, 256), encode_ms=(20.0, 80.0, 300.0), prompt_tokens=(48, 96, 288), prefill_ms=(10, 20, 100)
)
SQUARE = ProcessingConfig(mode="pad", size_px=1024)


@pytest.mark.parametrize(
    ("visual_tokens", "num_images", "text_tokens", "expected"),
    [
        (16, 1, 32, 20 + 10),
        (64, 1, 32, 80 + 20),
        (40, 1, 8, 50 + 10),
        (256, 2, 32, 600 + 100 + 256 * 80 / 192),
        (4, 1, 4, 20 + 10),
    ],
)
def test_time_is_interpolated(visual_tokens: int, num_images: int, text_tokens: int, expected: float) -> None:
    found = PROFILE.first_token_ms(visual_tokens=visual_tokens, num_images=num_images, text_tokens=text_tokens)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "size_px"),
    [
        ({"max_ttft_ms": 1000}, 1024),
        ({"max_ttft_ms": 400}, 1024),
        ({"max_ttft_ms": 399}, 960),
        ({"max_ttft_ms": 100}, 512),
        ({"max_ttft_ms": 500, "spent_ms": 400}, 512),
        ({"max_ttft_ms": 400, "num_images": 2}, 704),
        ({"max_ttft_ms": 400, "text_tokens": 200}, 896),
        ({"max_ttft_ms": 1}, 256),
    ],
)
def test_the_largest_resolution_in_time_is_chosen(asked: dict[str, float], size_px: int) -> None:
    budget = LatencyBudget(PROFILE, max_ttft_ms=asked.pop("max_ttft_ms"), processing=SQUARE)
    question: dict[str, Any] = {"num_images": 1, "text_tokens": 32, **asked}
    assert budget.processor(**question).config == replace(SQUARE, size_px=size_px)


def test_resolutions_of_each_mode() -> None:
    squares = {side**2: replace(SQUARE, size_px=64 * side) for side in range(4, 17)}
    assert sizes_of(SQUARE) == squares
    assert sizes_of(replace(SQUARE, mode="crop")).keys() == squares.keys()
    fitting = ProcessingConfig(mode="fit", max_visual_tokens=60)
    assert sizes_of(fitting) == {
        **{side**2: replace(fitting, max_visual_tokens=side**2) for side in range(1, 8)},
        60: fitting,
    }
    assert sizes_of(ProcessingConfig(mode="pad", size_px=64)) == {1: ProcessingConfig(mode="pad", size_px=64)}
    with pytest.raises(GenerationError, match="in one piece"):
        sizes_of(ProcessingConfig(mode="anyres", size_px=512, pinpoints=((512, 1024),)))


@pytest.mark.parametrize("milliseconds", [0, -5, float("nan")])
def test_a_budget_is_a_time(milliseconds: float) -> None:
    with pytest.raises(GenerationError, match="above 0 ms"):
        LatencyBudget(PROFILE, max_ttft_ms=milliseconds, processing=SQUARE)


def test_a_profile_is_measured_once(tmp_path: Path) -> None:
    measured: list[LatencyProfile] = []

    def measure() -> LatencyProfile:
        measured.append(PROFILE)
        return PROFILE

    assert kept_profile(tmp_path / "new", "one", measure) == PROFILE
    assert kept_profile(tmp_path / "new", "one", measure) == PROFILE
    assert len(measured) == 1
    assert kept_profile(tmp_path / "new", "another", measure) == PROFILE
    assert len(measured) == 2
    for damaged in ("", "[]", "{}", '{"visual_tokens": 3}', "\x00"):
        for path in (tmp_path / "new").iterdir():
            path.write_text(damaged)
        assert kept_profile(tmp_path / "new", "one", measure) == PROFILE
    assert len(measured) == 7


def test_a_profile_that_cannot_be_kept_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert kept_profile(tmp_path / "file", "key", lambda: PROFILE) == PROFILE
    assert "measured again" in caplog.text


@pytest.fixture
def slow(toy_runtime: Build) -> Any:
    """A toy whose pictures take 0.2 ms a visual token and whose prompts take 0.1 ms a token."""
    runtime = toy_runtime(320)
    encode, prefill = runtime.encode, runtime.prefill

    def encode_slowly(image: PixelTiles, **given: Any) -> VisualTokens:
        time.sleep(0.0002 * image.layout.num_visual_tokens)
        return encode(image, **given)

    def prefill_slowly(prompts: Sequence[Embeddings]) -> tuple[Float32Array, Any]:
        time.sleep(0.0001 * sum(prompt.num_positions for prompt in prompts))
        return prefill(prompts)

    runtime.encode, runtime.prefill, runtime.max_positions = encode_slowly, prefill_slowly, 600
    return runtime


def test_measuring_finds_what_sleeping_takes(slow: Any) -> None:
    seen: list[tuple[int, int]] = []
    processing = ProcessingConfig(mode="pad", size_px=768)
    profile = measure_latency(slow, processing, report=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert profile.visual_tokens == (9, 36, 81, 144)
    assert profile.prompt_tokens == tuple(tokens + TEXT_TOKENS for tokens in profile.visual_tokens)
    # Preparing the picture comes to what the toy sleeps.
    assert all(0.2 * tokens <= found for tokens, found in zip(profile.visual_tokens, profile.encode_ms, strict=True))
    assert profile.prefill_ms[-1] == pytest.approx(0.1 * 176, rel=0.3)
    assert list(profile.encode_ms) == sorted(profile.encode_ms)


def test_warming_up_answers_once(slow: Any) -> None:
    warm_up(slow, LatencyBudget(PROFILE, max_ttft_ms=50, processing=SQUARE).processor(num_images=1, text_tokens=8))
    assert slow.num_encoded == 1


def test_budgets_are_kept(slow: Any, assistant_with: Build) -> None:
    """Of 20 random budgets at least 18 are kept within a tenth, at the largest resolution that fits."""
    processing = ProcessingConfig(mode="fit", max_visual_tokens=256)
    profile = measure_latency(slow, processing)
    assistant = assistant_with(slow, max_visual_tokens=256)
    picture = np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    generator = random.Random(5)
    num_kept = 0
    for _ in range(20):
        budget_ms = generator.uniform(40, 130)
        assistant.latency_budget = LatencyBudget(profile, max_ttft_ms=budget_ms, processing=processing)
        assistant.image_cache.clear()
        assistant.prompt_memory.clear()
        answer = assistant.ask("What is it?", images=picture, max_new_tokens=1)
        text_tokens = answer.usage.prompt_tokens - answer.usage.visual_tokens
        larger = [
            tokens
            for tokens in sizes_of(processing)
            if tokens > answer.usage.visual_tokens
            and profile.first_token_ms(visual_tokens=tokens, num_images=1, text_tokens=text_tokens) + 8 < budget_ms
        ]
        assert not larger
        num_kept += answer.timings.first_token_ms <= 1.1 * budget_ms
    assert num_kept >= 18


def test_several_pictures_share_the_time(slow: Any, assistant_with: Build, picture: Build) -> None:
    processing = ProcessingConfig(mode="fit", max_visual_tokens=64)
    assistant = assistant_with(slow, max_visual_tokens=64)
    profile = measure_latency(slow, processing)
    assistant.latency_budget = LatencyBudget(profile, max_ttft_ms=60, processing=processing)
    pictures = [picture(seed, width_px=300, height_px=300) for seed in range(3)]
    one = assistant.ask("What is it?", images=pictures[:1], max_new_tokens=1).usage.visual_tokens
    three = assistant.ask("What is it?", images=pictures, max_new_tokens=1).usage.visual_tokens
    assert three < 3 * one
