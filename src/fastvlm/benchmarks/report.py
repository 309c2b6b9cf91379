"""The results of a measurement: a table for people, JSON for programs, a picture for documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from fastvlm.benchmarks.cost import MachinePeak
from fastvlm.benchmarks.runner import Plan, Row, Spread
from fastvlm.errors import require_extra
from fastvlm.files import replacing, write_whole

FORMAT_VERSION = 1

_HEADINGS = (
    "system", "precision", "px", "visual tokens", "TTFT ms", "2nd question", "times floor", "sooner", "tokens/s", "MB",
)  # fmt: skip
_BASELINE = "transformers"
_PLOT_INCHES = (8, 4.5)


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Rows with what they stand on: the plan, the machine, the versions and the machine's measured peak."""

    plan: Plan
    rows: tuple[Row, ...]
    machine: str
    versions: Mapping[str, str]
    peak: MachinePeak | None

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "machine": self.machine,
            "versions": dict(self.versions),
            "shape": self.plan.shape,
            "num_threads": self.plan.num_threads,
            "num_runs": self.plan.num_runs,
            "num_warm_ups": self.plan.num_warm_ups,
            "num_decoded_tokens": self.plan.num_decoded_tokens,
            "peak": None if self.peak is None else asdict(self.peak),
            "rows": [asdict(row) for row in self.rows],
        }

    def __rich__(self) -> Table:
        """One line for each system and size; how much sooner than transformers as it comes, where that was measured."""
        table = Table(
            title=f"{self.plan.shape}: time to first token and decoding, {self.plan.num_threads} threads",
            caption=f"{self.machine}; medians of {self.plan.num_runs} alternating runs, with quarter-points",
        )
        for heading in _HEADINGS:
            is_name = heading in ("system", "precision")
            table.add_column(heading, justify="left" if is_name else "right", no_wrap=is_name)
        for row in self.rows:
            table.add_row(*_cells(row, _baseline_ms(self.rows, row)))
        return table


def markdown(report: BenchReport) -> str:
    """The table for documents."""
    return markdown_table(_HEADINGS, [_cells(row, _baseline_ms(report.rows, row)) for row in report.rows])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; rows that are too short are filled up."""
    filled = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in (headings, ["---"] * len(headings), *filled))


class Described(Protocol):
    """A report of any kind."""

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""


def write_json(report: Described, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    write_whole(path, json.dumps(report.to_dict(), indent=2) + "\n")


@contextmanager
def saved_figure(path: Path, *, machine: str) -> Iterator[Any]:
    """Give axes to draw on, which are then written as PNG, SVG or PDF by the file's suffix, whole or not at all.

    Raises MissingExtraError without matplotlib.
    """
    require_extra("matplotlib", "bench")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_PLOT_INCHES, layout="constrained")
    try:
        yield axes
        axes.grid(visible=True, which="both", alpha=0.3)
        figure.text(0.99, 0.005, machine, ha="right", fontsize=6)
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=150)
    finally:
        pyplot.close(figure)


def write_plot(report: BenchReport, path: Path) -> None:
    """Draw time to first token over resolution, one line for each system, as PNG, SVG or PDF by the file's suffix.

    Raises MissingExtraError without matplotlib.
    """
    with saved_figure(path, machine=report.machine) as axes:
        for name in dict.fromkeys((row.system, row.precision) for row in report.rows):
            own = [row for row in report.rows if (row.system, row.precision) == name and row.ttft_ms is not None]
            if own:
                spreads = [row.ttft_ms for row in own if row.ttft_ms is not None]
                below = [spread.median - spread.low for spread in spreads]
                above = [spread.high - spread.median for spread in spreads]
                sizes = [row.size_px for row in own]
                medians = [spread.median for spread in spreads]
                axes.errorbar(sizes, medians, yerr=[below, above], marker="o", capsize=3, label=" ".join(name))
        precisions = dict.fromkeys(row.precision for row in report.rows if row.floor_ttft_ms is not None)
        for precision, style in zip(precisions, ("--", ":", "-."), strict=False):
            floors = {row.size_px: row.floor_ttft_ms for row in report.rows if row.precision == precision}
            sizes = sorted(floors)
            heights = [floors[size] for size in sizes]
            axes.plot(sizes, heights, linestyle=style, color="grey", label=f"floor {precision}")
        axes.set(
            title=f"{report.plan.shape}: time to first token",
            xlabel="side of the picture in pixels",
            ylabel="milliseconds, median and quarter-points",
            yscale="log",
        )
        axes.set_xticks(sorted({row.size_px for row in report.rows}))
        # Beside the lines: with a dozen of systems there is no free corner.
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _baseline_ms(rows: Sequence[Row], row: Row) -> float | None:
    """What transformers as it comes took at this size, in the first precision that it was measured in, or None."""
    found = [
        other.ttft_ms.median
        for other in rows
        if other.system == _BASELINE and other.size_px == row.size_px and other.ttft_ms is not None
    ]
    return found[0] if found else None


def _cells(row: Row, baseline_ms: float | None) -> tuple[str, ...]:
    start = (row.system, row.precision, str(row.size_px), str(row.visual_tokens))
    if row.error is not None or row.ttft_ms is None:
        return (*start, row.error or "")
    ttft_ms = row.ttft_ms
    floor = "" if row.floor_ttft_ms is None else f"{ttft_ms.median / row.floor_ttft_ms:.2f}"
    sooner = "" if baseline_ms is None else f"{baseline_ms / ttft_ms.median:.1f} x"
    memory = "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
    second, rate = _median(row.second_ttft_ms), spread_text(row.decode_tokens_per_second, 1)
    return (*start, spread_text(ttft_ms, 0), second, floor, sooner, rate, memory)


def _median(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.0f}"


def spread_text(spread: Spread | None, digits: int) -> str:
    """Median and quarter-points in words; nothing for None."""
    if spread is None:
        return ""
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"
