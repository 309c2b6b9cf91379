"""Encoders beside each other, as tables for people, JSON for programs and a picture for documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from fastvlm.benchmarks.encoder_runner import EncoderRow, FirstTokenRow
from fastvlm.benchmarks.report import FORMAT_VERSION, markdown_table, saved_figure, spread_text
from fastvlm.benchmarks.runner import Plan

_ENCODER_HEADINGS = ("encoder", "engine", "precision", "px", "visual tokens", "M parameters", "GMAC", "ms")
_MODEL_HEADINGS = (
    "model", "encoder", "px", "pictures", "visual tokens", "encoder ms", "prefill ms", "TTFT ms", "slower", "paper",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EncoderReport:
    """Rows with what they stand on: the plan, the machine and the versions."""

    plan: Plan
    encoders: tuple[EncoderRow, ...]
    first_tokens: tuple[FirstTokenRow, ...]
    machine: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "machine": self.machine,
            "versions": dict(self.versions),
            "decoder": self.plan.shape,
            "num_threads": self.plan.num_threads,
            "num_runs": self.plan.num_runs,
            "num_warm_ups": self.plan.num_warm_ups,
            "num_text_tokens": self.plan.num_text_tokens,
            "encoders": [asdict(row) for row in self.encoders],
            "first_tokens": [asdict(row) for row in self.first_tokens],
        }

    def __rich__(self) -> Group:
        """A table of encoders, and one of what they make of the time to first token."""
        caption = f"{self.machine}; medians of {self.plan.num_runs} alternating runs, with quarter-points"
        encoders = _table(f"Encoders, {self.plan.num_threads} threads", caption, _ENCODER_HEADINGS, num_left=3)
        for row in self.encoders:
            encoders.add_row(*_encoder_cells(row))
        models = _table(
            f"Time to first token with the decoder of {self.plan.shape}, all in one engine",
            f"{self.plan.num_text_tokens} words beside the picture; paper: the ratio there, on an Apple M1 Max",
            _MODEL_HEADINGS,
            num_left=2,
        )
        for model in self.first_tokens:
            models.add_row(*_model_cells(model))
        return Group(encoders, models)


def _encoder_cells(row: EncoderRow) -> tuple[str, ...]:
    return (
        row.encoder, row.engine, row.precision, str(row.size_px), str(row.visual_tokens),
        f"{row.million_parameters:.0f}", f"{row.giga_macs:.1f}",
        row.error or "" if row.encode_ms is None else spread_text(row.encode_ms, 0),
    )  # fmt: skip


def _model_cells(row: FirstTokenRow) -> tuple[str, ...]:
    return (
        row.name, row.encoder, str(row.size_px), str(row.num_pictures), str(row.visual_tokens),
        f"{row.encode_ms:.0f}", spread_text(row.prefill_ms, 0), f"{row.ttft_ms:.0f}", f"{row.slower:.1f} x",
        "" if row.paper is None else f"{row.paper:g} x",
    )  # fmt: skip


def _table(title: str, caption: str, headings: tuple[str, ...], *, num_left: int) -> Table:
    table = Table(title=title, caption=caption)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < num_left else "right", no_wrap=number < num_left)
    return table


def encoder_markdown(report: EncoderReport) -> tuple[str, str]:
    """The tables of encoders and of models, for documents."""
    return (
        markdown_table(_ENCODER_HEADINGS, [_encoder_cells(row) for row in report.encoders]),
        markdown_table(_MODEL_HEADINGS, [_model_cells(row) for row in report.first_tokens]),
    )


def write_encoder_plot(report: EncoderReport, path: Path) -> None:
    """Draw the time of each encoder over the side of the picture, as PNG, SVG or PDF by the file's suffix.

    Raises MissingExtraError without matplotlib.
    """
    with saved_figure(path, machine=report.machine) as axes:
        for engine in dict.fromkeys(row.engine for row in report.encoders):
            axes.set_prop_cycle(None)
            for name in dict.fromkeys(row.encoder for row in report.encoders):
                own = sorted(
                    (row for row in report.encoders if (row.encoder, row.engine) == (name, engine) and row.encode_ms),
                    key=lambda row: row.size_px,
                )
                spreads = [row.encode_ms for row in own if row.encode_ms is not None]
                medians = [spread.median for spread in spreads]
                errors = [
                    [spread.median - spread.low for spread in spreads],
                    [spread.high - spread.median for spread in spreads],
                ]
                is_first = engine == report.encoders[0].engine
                axes.errorbar(
                    [row.size_px for row in own], medians, yerr=errors, marker="o" if is_first else "x",
                    linestyle="-" if is_first else ":", capsize=3, label=f"{name}, {engine}",
                )  # fmt: skip
        axes.set(
            title="Vision encoders: time over resolution",
            xlabel="side of the picture in pixels",
            ylabel="milliseconds, median and quarter-points",
            yscale="log",
        )
        axes.legend(fontsize=7, ncols=2)
