"""What the encoder's ways to learn are worth: a training step with the compiled kernels and without, and torch's alone.

All ways start from the same random weights, learn from the same pictures, and take turns in one process.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.benchmarks.plain_encoder import plain, without_kernels
from fastvlm.benchmarks.report import FORMAT_VERSION, markdown_table, spread_text
from fastvlm.benchmarks.runner import Spread
from fastvlm.errors import TrainingError
from fastvlm.evaluation.provenance import describe_machine, installed_versions
from fastvlm.models.vision import kernels
from fastvlm.models.vision.config import PRESETS, FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.parts import set_training_mode
from fastvlm.training.precision import has_fast_bfloat16, mixed_precision

ENCODER = "fastvithd-nano"
"""That of the recipe `scenes`."""

TORCH = "torch, as it comes"
CHANNELS_LAST = "torch, channels last"
NO_KERNELS = "ours without the compiled kernels"
OURS = "ours"
CHANNELS_LAST_BFLOAT16 = "torch, channels last, bfloat16"
OURS_BFLOAT16 = "ours, products in bfloat16"

_NUM_WARM_UPS = 2
_LEAST_SHARE = 1e-3
"""A gradient counts as no smaller than so much of the largest: rounding leaves something where others cancel."""

_HEADINGS = ("way", "ms", "pictures/s", "times torch as it comes", "times torch, channels last", "gradients off by")


@dataclass(frozen=True)
class GradientDifference:
    """The largest of all parameters: the norm of a difference over that of the reference. parameter: where it is."""

    relative: float
    parameter: str


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One way to compute a step.

    over_torch and over_channels_last: how many times as fast as torch as it comes, and with its channels innermost, by
    the times of the same round. gradients: how far off they are at the first step from torch's in float64.
    """

    way: str
    step_s: Spread
    pictures_per_second: float
    over_torch: Spread
    over_channels_last: Spread
    gradients: GradientDifference


@dataclass(frozen=True, kw_only=True)
class TrainingStepsReport:
    """Rows with what they stand on. ours_from_torch: how far our gradients are from torch's, both in float32."""

    encoder: str
    num_parameters: int
    size_px: int
    batch_size: int
    num_threads: int
    num_runs: int
    num_warm_ups: int
    rows: tuple[StepRow, ...]
    ours_from_torch: GradientDifference
    machine: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(
            title=f"{self.encoder}: a training step of {self.batch_size} pictures, {self.size_px} px, "
            f"{self.num_threads} threads",
            caption=f"{self.machine}; medians of {self.num_runs} alternating runs, with quarter-points",
        )
        for heading in _HEADINGS:
            table.add_column(heading, justify="left" if heading == "way" else "right")
        for row in self.rows:
            table.add_row(*_cells(row))
        yield table
        yield (
            f"Gradients of ours are off torch's by {self.ours_from_torch.relative:.1e} at most "
            f"({self.ours_from_torch.parameter}); the column compares each way with torch in float64."
        )
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())


def training_steps_markdown(report: TrainingStepsReport) -> str:
    """The table for documents."""
    return markdown_table(_HEADINGS, [_cells(row) for row in report.rows])


def _cells(row: StepRow) -> list[str]:
    spread = row.step_s
    in_ms = Spread(1000 * spread.median, 1000 * spread.low, 1000 * spread.high, spread.n)
    return [
        row.way,
        spread_text(in_ms, 0),
        f"{row.pictures_per_second:.1f}",
        spread_text(row.over_torch, 2),
        spread_text(row.over_channels_last, 2),
        f"{row.gradients.relative:.1e}",
    ]


def measure_training_steps(
    *,
    batch_size: int,
    size_px: int,
    num_runs: int,
    num_threads: int,
    encoder: str = ENCODER,
    report: Callable[[str], None] = lambda _: None,
) -> TrainingStepsReport:
    """Measure a training step of an encoder with random weights in each way, on this many threads.

    encoder: the name of its preset. report: told what is done next, for progress. Raises TrainingError where the
    kernels cannot be had, or for a batch that is too small to normalise by.
    """
    torch.set_num_threads(num_threads)
    report("compiling the kernels")
    kernels.load()
    if not kernels.are_loaded():
        raise TrainingError("Expected the compiled kernels to measure them, found none: the line above says why.")
    ways = _ways(PRESETS[encoder], batch_size=batch_size, size_px=size_px)
    report("comparing gradients")
    exact = ways[TORCH].in_float64().gradients()
    found = {name: way.gradients() for name, way in ways.items()}
    times_s = _in_turn(ways, num_runs=num_runs, report=report)
    rows = (
        StepRow(
            way=name,
            step_s=Spread.of(own_s),
            pictures_per_second=batch_size / Spread.of(own_s).median,
            over_torch=_ratio(times_s[TORCH], own_s),
            over_channels_last=_ratio(times_s[CHANNELS_LAST], own_s),
            gradients=largest_difference(found[name], exact),
        )
        for name, own_s in times_s.items()
    )
    return TrainingStepsReport(
        encoder=encoder,
        num_parameters=sum(gradient.numel() for gradient in exact.values()),
        size_px=size_px,
        batch_size=batch_size,
        num_threads=num_threads,
        num_runs=num_runs,
        num_warm_ups=_NUM_WARM_UPS,
        rows=tuple(rows),
        ours_from_torch=largest_difference(found[OURS], found[TORCH]),
        machine=describe_machine(),
        versions=installed_versions(),
    )


def largest_difference(found: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> GradientDifference:
    """Compare gradients by name: |found - reference| / (|reference| + a thousandth of the largest norm of all)."""
    norms = {name: float(gradient.double().norm()) for name, gradient in reference.items()}
    least = _LEAST_SHARE * max(norms.values())
    return max(
        (
            GradientDifference(float((found[name].double() - gradient.double()).norm()) / (norms[name] + least), name)
            for name, gradient in reference.items()
        ),
        key=lambda difference: difference.relative,
    )


class _Way:
    """A network with its optimizer, and the pictures that it learns from."""

    def __init__(
        self,
        network: nn.Module,
        pixels: Tensor,
        target: Tensor,
        *,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._network, self._pixels, self._target, self._within = network, pixels, target, within
        self._optimizer = build_optimizer(network, OptimizerSettings(learning_rate=1e-3, warmup_steps=0))

    def in_float64(self) -> _Way:
        """The same in float64, with a network of its own."""
        return _Way(copy.deepcopy(self._network).double(), self._pixels.double(), self._target.double())

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of every parameter; none is moved."""
        self._backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in self._network.named_parameters()
            if parameter.grad is not None
        }

    def step(self) -> None:
        """Forward, backward, and every parameter moved once."""
        self._backward()
        self._optimizer.step()

    def _backward(self) -> None:
        self._optimizer.zero_grad()
        with self._within():
            output = self._network(self._pixels)
        F.mse_loss(output.to(self._target.dtype), self._target).backward()  # type: ignore[no-untyped-call]


def _ways(config: FastViTHDConfig, *, batch_size: int, size_px: int) -> dict[str, _Way]:
    """All ways from the same weights, in the order of their turns."""
    torch.manual_seed(0)
    encoder = FastViTHD(replace(config, form="train")).train()
    pixels = torch.rand(batch_size, 3, size_px, size_px)
    target = torch.randn(batch_size, config.output_width, *[size_px // config.stride_px] * 2)
    innermost = pixels.contiguous(memory_format=torch.channels_last)

    def own() -> nn.Module:
        network = _channels_last(copy.deepcopy(encoder))
        set_training_mode(network)  # as the loop does
        return network

    ways = {
        TORCH: _Way(plain(encoder), pixels, target),
        CHANNELS_LAST: _Way(_channels_last(plain(encoder)), innermost, target),
        NO_KERNELS: _Way(own(), innermost, target, within=without_kernels),
        OURS: _Way(own(), innermost, target),
    }
    if has_fast_bfloat16(pixels.device):
        mixed = partial(mixed_precision, pixels.device)
        ways[CHANNELS_LAST_BFLOAT16] = _Way(_channels_last(plain(encoder)), innermost, target, within=mixed)
        ways[OURS_BFLOAT16] = _Way(own(), innermost, target, within=mixed)
    return ways


def _channels_last(network: nn.Module) -> nn.Module:
    placed: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _in_turn(ways: Mapping[str, _Way], *, num_runs: int, report: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of each run of each way."""
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-_NUM_WARM_UPS, num_runs):
        for name, way in ways.items():
            report(f"run {max(0, run + 1)} of {num_runs}: {name}")
            started_s = time.perf_counter()
            way.step()
            if run >= 0:
                times_s[name].append(time.perf_counter() - started_s)
    return times_s


def _ratio(others_s: Sequence[float], own_s: Sequence[float]) -> Spread:
    return Spread.of([other / own for other, own in zip(others_s, own_s, strict=True)])
