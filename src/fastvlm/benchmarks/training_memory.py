"""What a training step takes, in time and memory: each way to train a model of a shape, in a process of its own."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from fastvlm.benchmarks.commands import run_program
from fastvlm.benchmarks.report import FORMAT_VERSION, markdown_table
from fastvlm.errors import one_line
from fastvlm.evaluation.provenance import describe_machine, installed_versions

Parts = Literal["projector", "language", "lora", "all"]
"""What learns: the projector, projector and decoder, projector and low-rank changes of the decoder, or everything."""

PARTS: tuple[Parts, ...] = ("projector", "language", "lora", "all")

_HEADINGS = ("what learns", "pictures", "activations", "M parameters", "s a step", "samples/s", "peak MB")
_KILLED = -9


@dataclass(frozen=True, kw_only=True)
class TrainingWay:
    """How a model is trained. pictures: whether they pass the encoder, or what it made of them was kept.

    activations: whether layers keep what they compute for the way back, or compute it again.
    """

    parts: Parts
    pictures: Literal["pixels", "features"] = "pixels"
    activations: Literal["kept", "recomputed"] = "kept"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What to measure. folder: a checkpoint of the shape. batch_size: rows of one picture and num_text_tokens each."""

    shape: str
    folder: Path
    size_px: int = 1024
    batch_size: int = 1
    num_text_tokens: int = 64
    num_runs: int = 3
    num_warm_ups: int = 1
    num_threads: int = 2


@dataclass(frozen=True, kw_only=True)
class MeasuredSteps:
    """What a process tells of its steps. loaded_memory_mb: the most that it held before the first; memory is the
    process's, or what torch held of the GPU where device names one. products: their precision."""

    num_learning: int
    times_s: list[float]
    loaded_memory_mb: float | None
    peak_memory_mb: float | None
    device: str
    products: str


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One way. median_s, least_s and most_s: of a step's seconds. error: why there is nothing else, or None."""

    parts: str
    pictures: str
    activations: str
    num_learning: int | None = None
    median_s: float | None = None
    least_s: float | None = None
    most_s: float | None = None
    samples_per_second: float | None = None
    loaded_memory_mb: float | None = None
    peak_memory_mb: float | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Rows with what they stand on. device and products: as in `MeasuredSteps`, None where nothing was measured."""

    plan: TrainingPlan
    rows: tuple[TrainingRow, ...]
    device: str | None
    products: str | None
    machine: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        described = asdict(self)
        plan = described.pop("plan")
        del plan["folder"]  # a temporary one
        return {"format_version": FORMAT_VERSION, **plan, **described}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plan = self.plan
        table = Table(
            title=f"{plan.shape}: what a training step takes, {plan.batch_size} x ({plan.size_px} px and "
            f"{plan.num_text_tokens} words), {plan.num_threads} threads",
            caption=f"{self.machine}; medians of {plan.num_runs}, with the least and the most",
        )
        for heading in _HEADINGS:
            table.add_column(heading, justify="left" if heading in _HEADINGS[:3] else "right")
        for row in self.rows:
            table.add_row(*_cells(row, unmeasured="not had"))
        yield table
        for error in dict.fromkeys(row.error for row in self.rows if row.error is not None):
            own = (f"{row.parts} from {row.pictures}, {row.activations}" for row in self.rows if row.error == error)
            yield f"Not had: {'; '.join(own)}: {error}"
        if self.device is not None:
            yield f"On {self.device}, weights in float32, products in {self.products}."
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())


def training_markdown(report: TrainingReport) -> str:
    """The table for documents."""
    return markdown_table(_HEADINGS, [_cells(row, unmeasured=row.error or "") for row in report.rows])


def _cells(row: TrainingRow, *, unmeasured: str) -> list[str]:
    start = [row.parts, row.pictures, row.activations]
    if row.num_learning is None or row.median_s is None:
        return [*start, unmeasured]
    median, least, most, rate = (
        _short(value) for value in (row.median_s, row.least_s, row.most_s, row.samples_per_second)
    )
    memory = "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
    return [*start, _short(row.num_learning / 1e6), f"{median} ({least} to {most})", rate, memory]


def _short(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def training_ways(
    parts: Sequence[Parts] = PARTS, *, activations: Literal["kept", "both"] = "kept"
) -> Iterator[TrainingWay]:
    """The ways to train these parts; features cannot be kept where the encoder learns."""
    for chosen in parts:
        for pictures in ("pixels", "features") if chosen != "all" else ("pixels",):
            yield TrainingWay(parts=chosen, pictures=pictures)
            if activations == "both":
                yield TrainingWay(parts=chosen, pictures=pictures, activations="recomputed")


def measure_training(
    plan: TrainingPlan, ways: Sequence[TrainingWay], *, report: Callable[[str], None] = lambda _: None
) -> TrainingReport:
    """Measure each way in a process of its own, one after the other; one that cannot be had is a row that says why.

    report: told what is done next, for progress.
    """
    rows: list[TrainingRow] = []
    device = products = None
    for number, way in enumerate(ways, start=1):
        report(f"{number} of {len(ways)}: {way.parts} from {way.pictures}, activations {way.activations}")
        found = _ask(plan, way)
        if isinstance(found, MeasuredSteps):
            device, products = found.device, found.products
        rows.append(_row(plan, way, found))
    return TrainingReport(
        plan=plan,
        rows=tuple(rows),
        device=device,
        products=products,
        machine=describe_machine(),
        versions=installed_versions("peft"),
    )


def _ask(plan: TrainingPlan, way: TrainingWay) -> MeasuredSteps | str:
    """What a process of its own measured, or why it did not."""
    request = {"plan": asdict(plan) | {"folder": str(plan.folder)}, "way": asdict(way)}
    finished = run_program([sys.executable, "-m", "fastvlm.benchmarks.training_worker"], text_in=json.dumps(request))
    if finished.returncode == _KILLED:
        return "its process was killed (out of memory?)"
    if not finished.stdout:
        last = finished.stderr.strip().rpartition("\n")[2]
        return f"its process ended with {finished.returncode}: {one_line(last, max_length=300)}"
    reply: dict[str, Any] = json.loads(finished.stdout)
    return str(reply["error"]) if "error" in reply else MeasuredSteps(**reply)


def _row(plan: TrainingPlan, way: TrainingWay, found: MeasuredSteps | str) -> TrainingRow:
    if isinstance(found, str):
        return TrainingRow(**asdict(way), error=found)
    median_s = statistics.median(found.times_s)
    return TrainingRow(
        **asdict(way),
        num_learning=found.num_learning,
        median_s=median_s,
        least_s=min(found.times_s),
        most_s=max(found.times_s),
        samples_per_second=plan.batch_size / median_s,
        loaded_memory_mb=found.loaded_memory_mb,
        peak_memory_mb=found.peak_memory_mb,
    )
