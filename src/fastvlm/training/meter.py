"""What a run tells of itself between its steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LEARNING_RATE = "learning_rate"
VALIDATION_LOSS = "validation_loss"


@dataclass(frozen=True)
class StepReport:
    """What is known after a step: losses are means since the last report, seconds_left an estimate.

    waiting: share of the time since then in which no batch was ready.
    """

    step: int
    num_steps: int
    losses: dict[str, float]
    learning_rate: float
    steps_per_second: float
    validation_loss: float | None = None
    waiting: float = 0.0

    def numbers(self) -> dict[str, float]:
        """Everything that can be drawn over steps, by name."""
        found = {
            **self.losses,
            LEARNING_RATE: self.learning_rate,
            "steps_per_second": self.steps_per_second,
            "waiting": self.waiting,
        }
        return found if self.validation_loss is None else {**found, VALIDATION_LOSS: self.validation_loss}

    @property
    def seconds_left(self) -> float:
        """Remaining steps at the present rate."""
        return (self.num_steps - self.step) / self.steps_per_second


class Meter:
    """Means of losses since the last report, of each over the steps that have it, and the rate."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.found: dict[str, list[float]] = {}
        self.count, self.waited, self.since = 0, 0.0, time.monotonic()

    def add(self, line: dict[str, float]) -> None:
        """Take what is logged of a step: its losses, its rate and, where there was one, its validation."""
        losses = dict(line)
        self.rate, self.validation_loss = losses.pop(LEARNING_RATE), losses.pop(VALIDATION_LOSS, None)
        for name, value in losses.items():
            self.found.setdefault(name, []).append(value)
        self.count += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waited."""
        begin = time.monotonic()
        yield
        self.waited += time.monotonic() - begin

    def report(self, step: int, num_steps: int) -> StepReport:
        """Tell what was added since the last report, which is something, and begin anew."""
        seconds = max(1e-9, time.monotonic() - self.since)
        speed, waiting = self.count / seconds, self.waited / seconds
        means = {name: statistics.fmean(values) for name, values in self.found.items()}
        self._reset()
        return StepReport(step, num_steps, means, self.rate, speed, self.validation_loss, waiting)
