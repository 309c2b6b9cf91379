"""The training loop: it knows a Task, batches by step number, and how to stop and go on."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from fastvlm.errors import TrainingError
from fastvlm.models.vision import kernels
from fastvlm.training import sharding
from fastvlm.training.average import WeightAverage
from fastvlm.training.events import event_files
from fastvlm.training.meter import LEARNING_RATE, VALIDATION_LOSS, Meter, StepReport
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer, learning_rate, set_rate
from fastvlm.training.parallel import (
    is_first,
    is_parallel,
    num_processes,
    own_device,
    process_number,
    synchronised,
    to_whole,
    together,
    total,
    totals,
    wait_for_all,
    without_exchange,
)
from fastvlm.training.parts import set_training_mode
from fastvlm.training.resume import (
    Identity,
    Progress,
    identity_of,
    load_state,
    load_weights,
    save_state,
    save_weights,
    truncate_log,
)
from fastvlm.training.stop import stop_requests
from fastvlm.training.task import Task
from fastvlm.training.workers import Batches, prepared

METRICS_FILE = "metrics.jsonl"
BEST_FILE = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How one stage runs. save_every: steps between states. num_workers: processes that prepare batches.

    num_accumulated: so many batches make one step, whose gradient is their mean by the weights that the task gives
    them: that of one large batch, where a loss is a mean over what is weighed and compares no pairs of a batch.
    ema_decay: of a running mean of the weights, which the module holds when the run is over, or None.
    keeps_statistics: BatchNorm keeps its statistics (see `set_training_mode`). is_sharded: each of several processes
    holds a piece of the model and of what the optimizer remembers (see `sharding`). writes_events: what is reported
    goes to event files of TensorBoard too. seconds: the run ends when so much time has passed, counted over all calls
    that resume it, or with its last batch; rates follow the steps that are to be expected. For one
    process, without validation.
    """

    optimizer: OptimizerSettings
    seed: int = 0
    log_every: int = 20
    save_every: int = 200
    num_workers: int = 1
    num_accumulated: int = 1
    ema_decay: float | None = None
    keeps_statistics: bool = False
    is_sharded: bool = False
    writes_events: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Validation:
    """A loss on other data, the lower the better, each so many steps and after the last."""

    loss: Callable[[], float]
    every: int


class Interrupted(TrainingError):
    """The run was asked to stop; its state is saved."""

    exit_code = 130


def train(
    task: Task[Any],
    batches: Batches[Any],
    settings: LoopSettings,
    folder: Path,
    *,
    identity: Identity | None = None,
    report: Callable[[StepReport], None] = lambda _: None,
    max_steps: int | None = None,
    validation: Validation | None = None,
) -> None:
    """Train `task` on every batch, or go on where the state in `folder` ends.

    Of several processes (see `parallel`) each takes every so-manyth batch, and a step is that of all their batches;
    what would not be enough for all is left out.

    identity: everything else that the numbers depend on, such as the recipe and the data; a state of another identity
    is refused. max_steps: stop after this many steps of this call, saved (for runs in pieces). validation: the weights
    with its lowest loss are kept in `folder` and are what the module holds in the end. Raises TrainingError on a loss
    or gradient that is not finite, naming the samples, and Interrupted (after saving) on SIGTERM or Ctrl-C.
    """
    if own_device().type == "cpu":
        kernels.load(warns=is_first())
    run = _Run(task, batches, settings, folder, identity=identity or {}, validation=validation)
    done = run.resume()
    last = run.num_steps if max_steps is None else min(run.num_steps, done + max_steps)
    if run.is_over():
        last = done
    meter = Meter()
    numbers = run.batches_of(range(done, last))
    with (
        event_files(folder, num_steps=done, is_wanted=settings.writes_events and is_first()) as write_events,
        stop_requests() as stop,
        _log(folder) as log,
        prepared(batches, numbers, settings.num_workers) as loaded,
    ):
        for step in range(done, last):
            with meter.waiting():
                own = list(itertools.islice(loaded, len(run.batches_of(range(step, step + 1)))))
            line = run.step(own, step)
            log.write(json.dumps({"step": step, **line}) + "\n")
            meter.add(line)
            is_over = run.is_over()
            is_last = step + 1 == last or is_over
            is_stopped = total(float(stop.requested)) > 0
            if is_first() and (is_last or (step + 1) % settings.log_every == 0 or VALIDATION_LOSS in line):
                told = meter.report(step + 1, run.expected_steps(step + 1))
                report(told)
                write_events(told.step, told.numbers())
            if is_last or is_stopped or (step + 1) % settings.save_every == 0:
                log.flush()
                run.save(step + 1)
            if is_stopped:
                raise Interrupted(
                    f"Stopped after step {step + 1} of {run.expected_steps(step + 1)}; the state is saved in {folder}."
                )
            if is_over:
                break
    if last == run.num_steps or run.is_over():
        run.finish()


def count_steps(num_batches: int, *, num_accumulated: int) -> int:
    """How many steps so many batches make, each of which takes some from every process."""
    per_step = num_accumulated * num_processes()
    return num_batches // per_step if is_parallel() else -(-num_batches // per_step)


class _Run:
    """A run's moving parts: the optimizer, a mean of the weights, the best weights so far."""

    def __init__(
        self,
        task: Task[Any],
        batches: Batches[Any],
        settings: LoopSettings,
        folder: Path,
        *,
        identity: Identity,
        validation: Validation | None,
    ) -> None:
        self.task, self.settings, self.folder, self.validation = task, settings, folder, validation
        self.num_batches = len(batches)
        self.num_steps = count_steps(self.num_batches, num_accumulated=settings.num_accumulated)
        if not self.num_steps:
            raise TrainingError(
                f"Expected batches for a step of {num_processes()} process(es), got {self.num_batches}. Give more "
                "data, smaller batches, or fewer processes."
            )
        if settings.seconds is not None and (is_parallel() or settings.is_sharded or validation is not None):
            raise TrainingError(
                "Expected one process and no validation for a run that ends by its time, got others. Give it steps."
            )
        every = None if validation is None else validation.every
        own = {
            "num_processes": num_processes(),
            "num_batches": self.num_batches,
            "num_accumulated": settings.num_accumulated,
            "ema_decay": settings.ema_decay,
            "steps_between_validations": every,
            "seed": settings.seed,
            "is_sharded": settings.is_sharded,
            "seconds": settings.seconds,
        }
        self.identity = {
            **identity,
            **{name: repr(value) for name, value in own.items()},
            **identity_of(settings.optimizer),
        }
        torch.manual_seed(settings.seed + process_number())
        self._set_mode()
        self.network = self._network()
        self.optimizer = build_optimizer(task.module, settings.optimizer)
        if settings.is_sharded:
            sharding.only_one(self.optimizer)
        self.average = None
        if settings.ema_decay is not None:
            self.average = WeightAverage(task.module, decay=settings.ema_decay)
        self.best_loss = math.inf
        self.spent_before, self.started = 0.0, time.monotonic()

    def spent(self) -> float:
        """Seconds of this call and of those before it."""
        return self.spent_before + time.monotonic() - self.started

    def is_over(self) -> bool:
        """Whether the run has had its time."""
        return self.settings.seconds is not None and self.spent() >= self.settings.seconds

    def expected_steps(self, num_done: int) -> int:
        """How many steps the run will have made in the end, by what it has made so far where it ends by its time."""
        if self.settings.seconds is None or not num_done:
            return self.num_steps
        return min(self.num_steps, max(num_done, round(num_done * self.settings.seconds / max(1e-9, self.spent()))))

    def _network(self) -> nn.Module:
        network = _LossOf(self.task)
        return sharding.shard(network) if self.settings.is_sharded else synchronised(network)

    def resume(self) -> int:
        """Go on where the folder's state ends; returns the number of steps that are done."""
        done = 0
        in_pieces = (self.folder / sharding.PROGRESS_FILE).is_file()
        if sharding.is_begun(self.folder):
            if in_pieces != self.settings.is_sharded:
                raise TrainingError(
                    f"The state in {self.folder} is {'in pieces' if in_pieces else 'whole'}. Resume "
                    f"{'with' if in_pieces else 'without'} --shard."
                )
            load = sharding.load_shards if self.settings.is_sharded else load_state
            progress = load(self.folder, self.task.module, self.optimizer, run=self.identity, average=self.average)
            done, self.best_loss, self.spent_before = progress.step, progress.best_loss, progress.seconds
            if self.settings.is_sharded or not is_first():
                # A state has the first process's random numbers, in pieces nobody's; others draw new ones of their own.
                torch.manual_seed(hash((self.settings.seed, process_number(), done)))
        wait_for_all()
        if is_first():
            truncate_log(self.folder / METRICS_FILE, num_steps=done)
            self.folder.mkdir(parents=True, exist_ok=True)
        return done

    def batches_of(self, steps: range) -> range:
        """The numbers of this process's batches that steps consist of; the last step may have fewer."""
        per_step = self.settings.num_accumulated * num_processes()
        end = min(steps.stop * per_step, self.num_batches)
        return range(steps.start * per_step + process_number(), end, num_processes())

    def step(self, batches: Sequence[Any], step: int) -> dict[str, float]:
        """One optimisation step, and a validation where it is due; returns what is logged of it."""
        rate = learning_rate(self.settings.optimizer, step=step, num_steps=self.expected_steps(step))
        set_rate(self.optimizer, rate)
        line = {LEARNING_RATE: rate, **self._move(batches)}
        if self.average is not None:
            self.average.update()
        if self.validation is not None and ((step + 1) % self.validation.every == 0 or step + 1 == self.num_steps):
            line[VALIDATION_LOSS] = self._validate(self.validation)
        return line

    def _move(self, batches: Sequence[Any]) -> dict[str, float]:
        """Move the weights once, by the gradient of the loss over these batches, and those of other processes.

        Returns the losses as numbers, the whole and its parts: means over all batches of all processes.
        """
        weights = [self.task.weight(batch) for batch in batches]
        everything = total(sum(weights))
        self.optimizer.zero_grad()
        losses: dict[str, float] = {}
        for number, (batch, weight) in enumerate(zip(batches, weights, strict=True), start=1):
            is_exchanged = number == len(batches)
            with nullcontext() if is_exchanged else without_exchange(self.network):
                loss, parts = self.network(batch)
                value = float(loss.detach())
                self._require_finite(value, "The loss", [batch])
                # The exchange takes the mean over processes; what is wanted is the sum of their shares.
                (loss * (weight * num_processes() / everything)).backward()
            for name, part in {"loss": value, **parts}.items():
                losses[name] = losses.get(name, 0.0) + weight / everything * float(part)
        # A part that is frozen now may still hold the gradient of an earlier stage, which is nobody's any more.
        learning = [parameter for parameter in self.task.module.parameters() if parameter.requires_grad]
        norms = torch.nn.utils.clip_grad_norm_(learning, self.settings.optimizer.clip_norm)
        norm = float(to_whole(norms))
        self._require_finite(norm, "A gradient", batches)
        self.optimizer.step()
        losses = totals(losses)
        return {"loss": losses.pop("loss"), "gradient_norm": norm, **losses}

    def _require_finite(self, value: float, what: str, batches: Sequence[Any]) -> None:
        """Raise TrainingError in every process where one has a number that is not finite."""
        if not total(float(not math.isfinite(value))):
            return
        if math.isfinite(value):
            raise TrainingError(f"{what} is not a finite number in another process. Lower the rate.")
        names = ", ".join(self.task.describe(batch) for batch in batches)
        raise TrainingError(f"{what} is {value}, not a finite number, on {names}. Lower the rate.")

    def save(self, num_done: int) -> None:
        """Write the state, all processes together or the first one while the others wait."""
        progress = Progress(step=num_done, run=self.identity, best_loss=self.best_loss, seconds=self.spent())
        if self.settings.is_sharded:
            together(
                lambda: sharding.save_shards(
                    self.folder, self.task.module, self.optimizer, progress, average=self.average
                )
            )
        else:
            together(
                lambda: (
                    save_state(self.folder, self.task.module, self.optimizer, progress, average=self.average)
                    if is_first()
                    else None
                )
            )

    def finish(self) -> None:
        """Leave in the module what the run was for, its best weights or their mean, in evaluation mode.

        Of a model in pieces the first process has the whole then.
        """
        wait_for_all()
        if self.validation is not None:
            load_weights(self.folder / BEST_FILE, self.task.module)
        elif self.average is not None:
            self.average.apply()
        if self.settings.is_sharded:
            sharding.put_together(self.task.module)
        self.task.module.eval()

    def _validate(self, validation: Validation) -> float:
        with nullcontext() if self.average is None else self.average.in_place(), torch.no_grad():
            self.task.module.eval()
            with sharding.whole(self.network):
                loss = validation.loss()
            # One number for all: what follows is done by all processes or by none.
            loss = total(loss if is_first() else 0.0)
            if loss < self.best_loss:
                self.best_loss = loss
                together(lambda: save_weights(self.folder / BEST_FILE, self.task.module))
        self._set_mode()
        return loss

    def _set_mode(self) -> None:
        set_training_mode(self.task.module, keeps_statistics=self.settings.keeps_statistics)


class _LossOf(nn.Module):
    """A task as a module, so that torch sees where the computing of a loss begins and ends."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.learning = task.module
        self._loss = task.loss

    def forward(self, batch: object) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its parts."""
        loss = self._loss(batch)
        total = loss.total
        if isinstance(self, FSDPModule):
            total = total + sharding.nothing_of_all(self)
        return total, dict(loss.parts)


@contextmanager
def _log(folder: Path) -> Iterator[IO[str]]:
    """The log of a run, which the first process writes."""
    with (folder / METRICS_FILE if is_first() else Path(os.devnull)).open("a") as log:
        yield log
