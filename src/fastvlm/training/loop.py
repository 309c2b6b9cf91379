"""The training loop: it knows a Task, batches by step number, and how to stop and go on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from fastvlm.errors import TrainingError
from fastvlm.training.optimizer import JointOptimizer, OptimizerSettings, build_optimizer, learning_rate
from fastvlm.training.parts import set_training_mode
from fastvlm.training.resume import Progress, has_state, load_state, save_state, truncate_log
from fastvlm.training.task import Task

METRICS_FILE = "metrics.jsonl"

_WORKER_NICENESS = 10

BatchType = TypeVar("BatchType", covariant=True)


class Batches(Protocol[BatchType]):
    """Batches by step number: the same number gives the same batch, in any process, at any time."""

    def __len__(self) -> int:
        """Number of steps in the run."""

    def __getitem__(self, step: int) -> BatchType:
        """The batch of one step."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How one stage runs. save_every: steps between states. num_workers: processes that prepare batches."""

    optimizer: OptimizerSettings
    seed: int = 0
    log_every: int = 20
    save_every: int = 200
    num_workers: int = 1


@dataclass(frozen=True)
class StepReport:
    """What is known after a step: losses are means since the last report, seconds_left an estimate."""

    step: int
    num_steps: int
    losses: dict[str, float]
    learning_rate: float
    steps_per_second: float

    @property
    def seconds_left(self) -> float:
        """Remaining steps at the present rate."""
        return (self.num_steps - self.step) / self.steps_per_second


class Interrupted(TrainingError):
    """The run was asked to stop; its state is saved."""

    exit_code = 130


def train(
    task: Task[Any],
    batches: Batches[Any],
    settings: LoopSettings,
    folder: Path,
    *,
    identity: str = "",
    report: Callable[[StepReport], None] = lambda _: None,
    max_steps: int | None = None,
) -> None:
    """Train `task` on every batch, or go on where the state in `folder` ends.

    identity: everything else that the numbers depend on, such as the recipe and the data; a state of another identity
    is refused. max_steps: stop after this many steps of this call, saved (for runs in pieces). Raises TrainingError on
    a loss or gradient that is not finite, naming the samples, and Interrupted (after saving) on SIGTERM or Ctrl-C.
    """
    num_steps = len(batches)
    run = hashlib.sha256(repr((identity, num_steps, settings.optimizer, settings.seed)).encode()).hexdigest()
    torch.manual_seed(settings.seed)
    set_training_mode(task.module)
    optimizer = build_optimizer(task.module, settings.optimizer)
    done = 0
    if has_state(folder):
        done = load_state(folder, task.module, optimizer, run=run).step
    truncate_log(folder / METRICS_FILE, num_steps=done)
    folder.mkdir(parents=True, exist_ok=True)
    last = num_steps if max_steps is None else min(num_steps, done + max_steps)
    meter = _Meter(num_steps)
    with _stop_requests() as stop, (folder / METRICS_FILE).open("a") as log:
        for step, batch in zip(range(done, last), _load(batches, range(done, last), settings), strict=True):
            rate = learning_rate(settings.optimizer, step=step, num_steps=num_steps)
            losses = _train_step(task, batch, optimizer, rate, settings.optimizer.clip_norm)
            log.write(json.dumps({"step": step, "learning_rate": rate, **losses}) + "\n")
            meter.add(losses)
            is_last = step + 1 == last
            if is_last or (step + 1) % settings.log_every == 0:
                report(meter.report(step + 1, rate))
            if is_last or stop.requested or (step + 1) % settings.save_every == 0:
                log.flush()
                save_state(folder, task.module, optimizer, Progress(step=step + 1, run=run))
            if stop.requested:
                raise Interrupted(f"Stopped after step {step + 1} of {num_steps}; the state is saved in {folder}.")


def _train_step(
    task: Task[Any], batch: object, optimizer: JointOptimizer, rate: float, clip_norm: float
) -> dict[str, float]:
    """One optimisation step; returns the losses as numbers."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = task.loss(batch)
    total = float(loss.total.detach())
    if not math.isfinite(total):
        raise TrainingError(f"The loss is {total}, not a finite number, on {task.describe(batch)}. Lower the rate.")
    optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(task.module.parameters(), clip_norm))
    if not math.isfinite(norm):
        raise TrainingError(f"A gradient is {norm}, not a finite number, on {task.describe(batch)}. Lower the rate.")
    optimizer.step()
    return {"loss": total, "gradient_norm": norm, **{name: float(value) for name, value in loss.parts.items()}}


def _load(batches: Batches[Any], steps: range, settings: LoopSettings) -> Iterator[Any]:
    """The batches of these steps in order, prepared ahead in worker processes."""
    if settings.num_workers == 0:
        return (batches[step] for step in steps)
    return iter(
        DataLoader(
            batches,  # type: ignore[arg-type]  # a map from step to batch, which is what DataLoader indexes
            batch_size=None,
            sampler=steps,
            num_workers=settings.num_workers,
            prefetch_factor=4,
            worker_init_fn=_modest_worker,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )
    )


def _as_it_is(batch: object) -> object:
    """Batches are numpy; the loader must not turn them into tensors."""
    return batch


def _modest_worker(_: int) -> None:
    """Leave stop requests to the parent, which saves first and then ends its workers, and give way to its threads."""
    if hasattr(os, "nice"):
        os.nice(_WORKER_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Meter:
    """Means of losses and the rate since the last report."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.count, self.since = 0, time.monotonic()

    def add(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def report(self, step: int, rate: float) -> StepReport:
        speed = self.count / max(1e-9, time.monotonic() - self.since)
        means = {name: value / self.count for name, value in self.sums.items()}
        self._reset()
        return StepReport(step, self.num_steps, means, rate, speed)


class _Stop:
    requested = False


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """Turn SIGTERM and Ctrl-C into a request that the loop answers between two steps."""
    stop = _Stop()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.requested = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
