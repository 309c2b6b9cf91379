"""The whole command, from its start to its first token: with everything kept from before, and with nothing kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from fastvlm.benchmarks.askable import QUESTION, random_picture
from fastvlm.benchmarks.commands import timed_ask
from fastvlm.benchmarks.report import FORMAT_VERSION, markdown_table, spread_text
from fastvlm.benchmarks.runner import Spread
from fastvlm.evaluation.provenance import describe_machine, installed_versions
from fastvlm.machine import CACHE_VARIABLE

_HEADINGS = (
    "quantize", "prompt tokens", "loading ms", "first token after that ms", "whole command s", "peak memory MB",
    "nothing kept: whole command s", "nothing kept: peak memory MB",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StartsRow:
    """Starts of `fastvlm ask` for one token, with the decoder's weights in one format; `quantize` as the flag has it.

    prompt_tokens: visual ones and words. load_ms: until the model is ready, without the imports before. first_token_ms:
    from there on. command_ms: of the whole process. empty_command_ms: with an empty cache, None where that was not
    measured. Memory in 10^6 bytes is the largest that was seen, None where the system does not tell.
    """

    quantize: str | None
    runtime: str
    prompt_tokens: int
    load_ms: Spread
    first_token_ms: Spread
    command_ms: Spread
    peak_memory_mb: float | None
    empty_command_ms: Spread | None
    empty_peak_memory_mb: float | None


@dataclass(frozen=True, kw_only=True)
class StartsReport:
    """Rows, and what they were measured on. model: the name of a shape, or of a model."""

    model: str
    num_threads: int
    rows: tuple[StartsRow, ...]
    machine: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    def __rich__(self) -> Table:
        """One line for each format."""
        table = Table(
            title=f"{self.model}: from the command to the first token, {self.num_threads} threads",
            caption=f"{self.rows[0].runtime}; {self.machine}; medians with quarter-points",
        )
        for heading in _HEADINGS:
            table.add_column(heading, justify="left" if heading == "quantize" else "right")
        for row in self.rows:
            table.add_row(*_cells(row))
        return table


def starts_markdown(report: StartsReport) -> str:
    """The table for documents."""
    return markdown_table(_HEADINGS, [_cells(row) for row in report.rows])


def _cells(row: StartsRow) -> list[str]:
    return [
        row.quantize or "none",
        str(row.prompt_tokens),
        spread_text(row.load_ms, 0),
        spread_text(row.first_token_ms, 0),
        _seconds(row.command_ms),
        _megabytes(row.peak_memory_mb),
        _seconds(row.empty_command_ms),
        _megabytes(row.empty_peak_memory_mb),
    ]


def _megabytes(peak_memory_mb: float | None) -> str:
    return "" if peak_memory_mb is None else f"{peak_memory_mb:.0f}"


def _seconds(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.n == 1:
        return f"{spread.median / 1000:.2f}"
    return spread_text(Spread(spread.median / 1000, spread.low / 1000, spread.high / 1000, spread.n), 2)


@dataclass(frozen=True)
class _Start:
    printed: Mapping[str, Any]
    command_ms: float

    @property
    def timings(self) -> Mapping[str, Any]:
        timings: Mapping[str, Any] = self.printed["timings"]
        return timings


def measure_starts(
    model: str,
    *,
    name: str,
    quantize: Sequence[str | None],
    num_starts: int,
    num_empty_starts: int,
    num_threads: int,
    report: Callable[[str], None] = lambda _: None,
) -> StartsReport:
    """Start `fastvlm ask` so often in each format, in turn, about a picture of 1600 x 1200 px in a JPEG file.

    model: as `--model` has it; name: what it is called in the report. quantize: formats of the decoder's weights, None
    for as they are. Raises GenerationError where a command fails.
    """
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as place:
        picture = Path(place) / "picture.jpg"
        random_picture(np.random.default_rng(0)).save(picture, quality=90)

        def start(chosen: str | None, cache: str) -> _Start:
            arguments = [str(picture), QUESTION, "--json", "--model", model, "--threads", str(num_threads)]
            arguments += [] if chosen is None else ["--quantize", chosen]
            printed, elapsed_ms = timed_ask(arguments, environment={CACHE_VARIABLE: cache})
            return _Start(json.loads(printed), elapsed_ms)

        empty: dict[str | None, list[_Start]] = {chosen: [] for chosen in quantize}
        for number in range(num_empty_starts):
            for chosen in quantize:
                report(f"nothing kept, {chosen or 'as it is'}: {number + 1} of {num_empty_starts}")
                with tempfile.TemporaryDirectory(dir=place) as cache:
                    empty[chosen].append(start(chosen, cache))
        warm: dict[str | None, list[_Start]] = {chosen: [] for chosen in quantize}
        cache = str(Path(place) / "cache")
        for number in range(num_starts + 1):
            for chosen in quantize:
                report(f"start, {chosen or 'as it is'}: {number} of {num_starts}")
                found = start(chosen, cache)
                if number:  # the first fills the cache
                    warm[chosen].append(found)
    return StartsReport(
        model=name,
        num_threads=num_threads,
        rows=tuple(_row(chosen, warm[chosen], empty[chosen]) for chosen in quantize),
        machine=describe_machine(),
        versions=installed_versions(),
    )


def _row(quantize: str | None, warm: Sequence[_Start], empty: Sequence[_Start]) -> StartsRow:
    return StartsRow(
        quantize=quantize,
        runtime=str(warm[0].printed["runtime"]),
        prompt_tokens=int(warm[0].printed["usage"]["prompt_tokens"]),
        load_ms=Spread.of([start.timings["load_ms"] for start in warm]),
        first_token_ms=Spread.of([start.timings["first_token_ms"] for start in warm]),
        command_ms=Spread.of([start.command_ms for start in warm]),
        peak_memory_mb=_peak_memory_mb(warm),
        empty_command_ms=Spread.of([start.command_ms for start in empty]) if empty else None,
        empty_peak_memory_mb=_peak_memory_mb(empty),
    )


def _peak_memory_mb(starts: Sequence[_Start]) -> float | None:
    told = [start.timings["peak_memory_mb"] for start in starts]
    return max((peak for peak in told if peak is not None), default=None)
