"""Whether a time to first token is kept: random budgets, a model loaded anew for each, a picture asked about."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table

from fastvlm.benchmarks.askable import QUESTION, random_picture
from fastvlm.benchmarks.report import FORMAT_VERSION, markdown_table
from fastvlm.evaluation.provenance import describe_machine, installed_versions
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.loading import load

TOLERANCE = 0.1
"""A budget counts as kept where the first token is late by at most this share of it."""

_HEADINGS = ("budget ms", "TTFT ms", "late by", "visual tokens", "next larger, expected ms")


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """One question under a budget.

    next_ms: what the next larger resolution was expected to take; None for the largest.
    is_possible: whether any was expected to be in time.
    """

    budget_ms: float
    ttft_ms: float
    visual_tokens: int
    next_ms: float | None
    is_possible: bool

    @property
    def excess(self) -> float:
        """By how much of the budget the first token was late; negative where it was early."""
        return self.ttft_ms / self.budget_ms - 1

    @property
    def is_kept(self) -> bool:
        """Whether the first token was late by no more than TOLERANCE."""
        return self.excess <= TOLERANCE


@dataclass(frozen=True, kw_only=True)
class BudgetReport:
    """Rows in the order of measuring, and what they were measured on."""

    shape: str
    quantize: str | None
    num_threads: int
    seed: int
    runtime: str
    rows: tuple[BudgetRow, ...]
    machine: str
    versions: Mapping[str, str]

    @property
    def num_kept(self) -> int:
        """How many budgets were kept."""
        return sum(row.is_kept for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self), "num_kept": self.num_kept, "tolerance": TOLERANCE}

    def __rich__(self) -> Table:
        """One line for each budget, the smallest first."""
        table = Table(
            title=f"{self.shape}: {self.num_kept} of {len(self.rows)} budgets kept within {TOLERANCE:.0%}",
            caption=f"{self.runtime}; {self.machine}",
        )
        for heading in _HEADINGS:
            table.add_column(heading, justify="right")
        for row in _sorted(self.rows):
            table.add_row(*_cells(row))
        return table


def budget_markdown(report: BudgetReport) -> str:
    """The table for documents."""
    return markdown_table(_HEADINGS, [_cells(row) for row in _sorted(report.rows)])


def _sorted(rows: Sequence[BudgetRow]) -> list[BudgetRow]:
    return sorted(rows, key=lambda row: row.budget_ms)


def _cells(row: BudgetRow) -> list[str]:
    larger = "" if row.next_ms is None else f"{row.next_ms:.0f}"
    remark = "" if row.is_possible else " (none in time)"
    numbers = f"{row.budget_ms:.0f}", f"{row.ttft_ms:.0f}", f"{row.excess:+.0%}"
    return [*numbers, f"{row.visual_tokens}{remark}", larger]


def measure_budgets(
    model: Path,
    *,
    shape: str,
    num_budgets: int,
    lowest_ms: float,
    highest_ms: float,
    quantize: str | None,
    num_threads: int,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> BudgetReport:
    """Ask a checkpoint of a shape once under each of so many budgets, drawn evenly from the range."""
    generator = np.random.default_rng(seed)
    picture = random_picture(generator)
    report("measuring the machine")
    runtime = _load(model, highest_ms, quantize, num_threads).runtime.name
    rows = []
    for number, budget_ms in enumerate(generator.uniform(lowest_ms, highest_ms, num_budgets), start=1):
        report(f"budget {number} of {num_budgets}: {budget_ms:.0f} ms")
        gc.collect()  # the last model goes before the next one comes
        rows.append(_ask(_load(model, float(budget_ms), quantize, num_threads), picture, float(budget_ms)))
    return BudgetReport(
        shape=shape,
        quantize=quantize,
        num_threads=num_threads,
        seed=seed,
        runtime=runtime,
        rows=tuple(rows),
        machine=describe_machine(),
        versions=installed_versions(),
    )


def _load(model: Path, budget_ms: float, quantize: str | None, num_threads: int) -> Assistant:
    return load(model, max_ttft_ms=budget_ms, quantize=quantize, num_threads=num_threads)


def _ask(assistant: Assistant, picture: Image.Image, budget_ms: float) -> BudgetRow:
    answer = assistant.ask(QUESTION, images=picture, max_new_tokens=2)
    chosen = answer.resolution
    assert chosen is not None
    return BudgetRow(
        budget_ms=budget_ms,
        ttft_ms=answer.timings.first_token_ms,
        visual_tokens=answer.usage.visual_tokens,
        next_ms=chosen.next_ms,
        is_possible=chosen.is_in_time,
    )
