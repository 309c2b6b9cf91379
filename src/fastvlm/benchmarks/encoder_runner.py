"""Encoders beside each other, and what they make of the time to first token: the paper's figure 1 and table 10, here.

Large pictures come first, so that each encoder's usual size meets FastViTHD's in one round of turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest

from fastvlm.benchmarks.cost import encoder_macs
from fastvlm.benchmarks.encoders import OTHERS, RandomEncoder
from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.runner import Plan, Spread, Worker
from fastvlm.benchmarks.shapes import shape_config
from fastvlm.benchmarks.systems import FASTVITHD, PARTS
from fastvlm.checkpoints.strict import fused_shapes
from fastvlm.errors import GenerationError

SIZES_PX: dict[str, tuple[int, ...]] = {
    FASTVITHD: (1024, 768, 512, 256),
    "vit-l-14": (336,),
    "siglip-so400m-14": (384,),
    "convnext-l": (1024, 768, 512, 320),
    "convllava": (1024, 768),
}
"""Sides of the pictures that each encoder is measured at: those of the paper's figure 1."""

DECODER = "fastvlm-0.5b"
"""The shape whose decoder and FastViTHD are measured."""

ENGINES = {"encoder": "openvino", "encoder-transformers": "transformers"}
"""What runs an encoder, by the name of the part."""


@dataclass(frozen=True, kw_only=True)
class EncoderRow:
    """One encoder at one size. engine: `openvino`, the same for all, or `transformers`, as it ships."""

    engine: str
    precision: str
    encoder: str
    size_px: int
    visual_tokens: int
    million_parameters: float
    giga_macs: float
    encode_ms: Spread | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class FirstTokenRow:
    """A model by its parts: so many pictures through an encoder, then a prompt through the decoder of `Plan.shape`.

    slower: how many times FastVLM's at 1024 px. paper: the same ratio there, with the same decoder on an M1 Max; None
    where the paper has none.
    """

    name: str
    encoder: str
    size_px: int
    num_pictures: int
    visual_tokens: int
    encode_ms: float
    prefill_ms: Spread
    ttft_ms: float
    slower: float
    paper: float | None


@dataclass(frozen=True)
class _Model:
    name: str
    encoder: str
    size_px: int
    num_pictures: int = 1
    visual_tokens: int | None = None
    paper: float | None = None


MODELS = (
    _Model("FastVLM", FASTVITHD, 1024),
    _Model("LLaVA-1.5", "vit-l-14", 336),
    _Model("LLaVA-1.5 with SigLIP", "siglip-so400m-14", 384, paper=3.2),
    _Model("LLaVA-1.5 with ConvNeXt-L", "convnext-l", 768),
    _Model("ConvLLaVA", "convllava", 1024),
    _Model("LLaVA-OneVision", "siglip-so400m-14", 384, num_pictures=10, visual_tokens=7290, paper=85.0),
)
"""The paper's rivals, all with one decoder; ratios of its section 4 (14124 ms and 535 ms against 166 and 167)."""


def measure_encoders(plan: Plan, engine: str, *, report: Callable[[str], None] = lambda _: None) -> list[EncoderRow]:
    """Measure all encoders with the part `engine`, in turn. Raises GenerationError where it is not installed."""
    if not PARTS[engine].is_installed:
        raise GenerationError(f"Expected {', '.join(PARTS[engine].packages)} to be installed for {engine}. Install it.")
    ((_, precision),) = plan.systems
    rows: list[EncoderRow] = []
    for sizes in zip_longest(*SIZES_PX.values()):
        asked = {name: size_px for name, size_px in zip(SIZES_PX, sizes, strict=True) if size_px is not None}
        # Anew for each round: what one encoder cannot hold at one size it may hold at the next.
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(Worker(engine, precision, replace(plan, shape=name))) for name in asked
            }
            found = _in_turn(plan, workers, asked, report)
            rows += [
                _row(plan, engine, precision, name, asked[name], times_ms, workers[name].error)
                for name, times_ms in found.items()
            ]
    return rows


def _in_turn(
    plan: Plan, workers: dict[str, Worker], sizes_px: dict[str, int], report: Callable[[str], None]
) -> dict[str, list[float]]:
    times_ms: dict[str, list[float]] = {name: [] for name in workers}
    for run in range(-plan.num_warm_ups, plan.num_runs):
        for name, worker in workers.items():
            report(f"{name} {sizes_px[name]} px, run {max(0, run + 1)} of {plan.num_runs}")
            answered = worker.answer(Question(sizes_px[name], plan.num_text_tokens), num_tokens=1)
            if run >= 0:
                times_ms[name] += answered.times_ms
    return times_ms


def _row(
    plan: Plan, engine: str, precision: str, name: str, size_px: int, times_ms: Sequence[float], error: str | None
) -> EncoderRow:
    parameters, macs = _cost(plan, name, size_px)
    return EncoderRow(
        engine=ENGINES[engine],
        precision=precision,
        encoder=name,
        size_px=size_px,
        visual_tokens=_num_tokens(name, size_px),
        million_parameters=parameters / 1e6,
        giga_macs=macs / 1e9,
        encode_ms=Spread.of(times_ms) if times_ms and error is None else None,
        error=error,
    )


def _num_tokens(name: str, size_px: int) -> int:
    return (size_px // 64) ** 2 if name == FASTVITHD else OTHERS[name].num_tokens(size_px)


def _cost(plan: Plan, name: str, size_px: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates of an encoder for one picture."""
    if name == FASTVITHD:
        config = shape_config(plan.shape)
        shapes = {key: shape for key, shape in fused_shapes(config).items() if key.startswith("vision.")}
        parameters = sum(math.prod(shape) for key, shape in shapes.items() if "running_" not in key)
        return parameters, encoder_macs(config.vision, height_px=size_px, width_px=size_px)
    counted = RandomEncoder(OTHERS[name], size_px=size_px, precision="float32", is_empty=True)
    counted.build()
    return counted.num_parameters, counted.macs


def measure_first_tokens(
    plan: Plan, rows: Sequence[EncoderRow], *, report: Callable[[str], None] = lambda _: None
) -> list[FirstTokenRow]:
    """Put the rivals together from the encoders' times and from prefills that are measured here, in turn.

    Preparing pictures and projecting features, next to nothing, are left out of all. A prompt that could not be read
    leaves its models out, and nothing comes of it where FastVLM itself could not be measured.
    """
    ((_, precision),) = plan.systems
    encode_ms = {(row.encoder, row.size_px): row.encode_ms.median for row in rows if row.encode_ms is not None}
    models = [model for model in MODELS if (model.encoder, model.size_px) in encode_ms]
    lengths = {model: model.visual_tokens or _num_tokens(model.encoder, model.size_px) for model in models}
    prefills = _measure_prefills(plan, precision, sorted(set(lengths.values())), report)
    models = [model for model in models if prefills[lengths[model]]]
    if MODELS[0] not in models:
        return []
    totals = {
        model: model.num_pictures * encode_ms[model.encoder, model.size_px] + Spread.of(prefills[lengths[model]]).median
        for model in models
    }
    return [
        FirstTokenRow(
            name=model.name,
            encoder=model.encoder,
            size_px=model.size_px,
            num_pictures=model.num_pictures,
            visual_tokens=lengths[model],
            encode_ms=model.num_pictures * encode_ms[model.encoder, model.size_px],
            prefill_ms=Spread.of(prefills[lengths[model]]),
            ttft_ms=totals[model],
            slower=totals[model] / totals[MODELS[0]],
            paper=model.paper,
        )
        for model in models
    ]


def _measure_prefills(
    plan: Plan, precision: str, lengths: Sequence[int], report: Callable[[str], None]
) -> dict[int, list[float]]:
    """Milliseconds of reading prompts of so many visual tokens; none for those that failed, which come last."""
    times_ms: dict[int, list[float]] = {length: [] for length in lengths}
    with Worker("prefill", precision, plan) as worker:
        for run in range(-plan.num_warm_ups, plan.num_runs):
            for length in lengths:
                report(f"prefill of {length} visual tokens, run {max(0, run + 1)} of {plan.num_runs}")
                # A picture of no size: all positions count as words, which cost the same.
                answered = worker.answer(Question(0, length + plan.num_text_tokens), num_tokens=1)
                if run >= 0:
                    times_ms[length] += answered.times_ms
    return times_ms
