"""Measures systems in turn, so that what else a machine does hits all of them alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from fastvlm.benchmarks.commands import end
from fastvlm.benchmarks.cost import MachinePeak, first_token_macs
from fastvlm.benchmarks.questions import Answered, Question
from fastvlm.benchmarks.systems import SYSTEMS
from fastvlm.errors import GenerationError
from fastvlm.models.config import VLMConfig


@dataclass(frozen=True)
class Spread:
    """n measured values: their median and the quarter-points below and above it."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high, len(values))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system in one precision at one size. second_ttft_ms: of another question about the same picture, None where
    an engine keeps nothing of the first. floor_ttft_ms: the time at the machine's measured peak in that precision; what
    computes with weights of fewer bits can be sooner. error: why there is nothing else, or None."""

    system: str
    precision: str
    size_px: int
    visual_tokens: int
    text_tokens: int
    ttft_ms: Spread | None = None
    second_ttft_ms: Spread | None = None
    decode_tokens_per_second: Spread | None = None
    peak_memory_mb: float | None = None
    floor_ttft_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. systems: names with a precision each. num_runs: of each system at each size, in turn."""

    shape: str
    folder: Path
    systems: tuple[tuple[str, str], ...]
    sizes_px: tuple[int, ...]
    num_text_tokens: int = 30
    num_decoded_tokens: int = 16
    num_runs: int = 7
    num_warm_ups: int = 2
    num_threads: int = 2


class Worker:
    """A system in its own process; see `worker`."""

    def __init__(self, system: str, precision: str, plan: Plan) -> None:
        self.system, self.precision = system, precision
        self.peak_memory_mb: float | None = None
        self.error: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastvlm.benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self._ask(
                {
                    "system": system,
                    "shape": plan.shape,
                    "folder": str(plan.folder),
                    "precision": precision,
                    "num_threads": plan.num_threads,
                }
            )
        except BaseException:  # nobody else knows of the process yet
            end(self._process)
            raise

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        """When tokens came; none did where the system failed, now or before."""
        reply = self._ask(
            {"size_px": question.size_px, "num_text_tokens": question.num_text_tokens, "num_tokens": num_tokens}
        )
        return Answered(reply.get("times_ms", []), reply.get("second_ms"))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.error is not None:
            return {}
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply: dict[str, Any] = json.loads(line) if line else {"error": "its process ended (out of memory?)"}
        self.error = reply.get("error")
        self.peak_memory_mb = reply.get("peak_memory_mb", self.peak_memory_mb)
        return reply

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        end(self._process)


def measure(
    plan: Plan, config: VLMConfig, peak: MachinePeak | None, *, report: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Measure every system at every size, in turn after warm-up. report: told what is done next, for progress.

    Raises GenerationError where no system answered anything.
    """
    rows: list[Row] = []
    for size_px in plan.sizes_px:
        question = Question(size_px, plan.num_text_tokens)
        # Anew for each size: memory is that of this size, and nobody profits from having seen another.
        with ExitStack() as stack:
            workers = []
            for system, precision in plan.systems:
                report(f"loading {system} {precision}")
                if system in SYSTEMS and SYSTEMS[system].keeps_graphs:
                    # Memory is that of every start but the first, which has to compile.
                    with Worker(system, precision, plan) as first:
                        first.answer(question, num_tokens=2)
                workers.append(stack.enter_context(Worker(system, precision, plan)))
            rows += _measure_size(plan, workers, question, report)
    if all(row.error for row in rows):
        raise GenerationError(f"No system could be measured: {rows[0].system}: {rows[0].error}")
    return list(_with_floors(rows, config, peak))


def _measure_size(
    plan: Plan, workers: Sequence[Worker], question: Question, report: Callable[[str], None]
) -> Iterator[Row]:
    first_ms: list[list[float]] = [[] for _ in workers]
    second_ms: list[list[float]] = [[] for _ in workers]
    rates: list[list[float]] = [[] for _ in workers]
    for run in range(-plan.num_warm_ups, plan.num_runs):
        for number, worker in enumerate(workers):
            report(f"{question.size_px} px, run {max(0, run + 1)} of {plan.num_runs}: {worker.system}")
            answered = worker.answer(question, num_tokens=1 + plan.num_decoded_tokens)
            times_ms = answered.times_ms
            if run < 0 or len(times_ms) < 2:
                continue
            first_ms[number].append(times_ms[0])
            if answered.second_ms is not None:
                second_ms[number].append(answered.second_ms)
            rates[number].append(1000 * (len(times_ms) - 1) / (times_ms[-1] - times_ms[0]))
    for worker, firsts, seconds, decoded in zip(workers, first_ms, second_ms, rates, strict=True):
        row = Row(
            system=worker.system,
            precision=worker.precision,
            size_px=question.size_px,
            visual_tokens=question.num_visual_tokens,
            text_tokens=question.num_text_tokens,
        )
        if worker.error is not None or not firsts:
            yield replace(row, error=worker.error or "it answered nothing")
        else:
            yield replace(
                row,
                ttft_ms=Spread.of(firsts),
                second_ttft_ms=Spread.of(seconds) if seconds else None,
                decode_tokens_per_second=Spread.of(decoded),
                peak_memory_mb=worker.peak_memory_mb,
            )


def _with_floors(rows: Sequence[Row], config: VLMConfig, peak: MachinePeak | None) -> Iterator[Row]:
    for row in rows:
        if peak is None or row.precision not in peak.tera_ops_per_second:
            yield row
            continue
        macs = first_token_macs(config, size_px=row.size_px, num_text_tokens=row.text_tokens)
        yield replace(row, floor_ttft_ms=peak.floor_ms(macs, precision=row.precision))
