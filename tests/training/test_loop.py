"""The loop: exact resume, stopping, and losses that are not finite."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fastvlm.errors import TrainingError
from fastvlm.training.loop import METRICS_FILE, Interrupted, LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer, learning_rate
from fastvlm.training.resume import STATE_FILE, Progress, load_state, save_state
from fastvlm.training.task import TaskLoss

OPTIMIZER = OptimizerSettings(learning_rate=1e-2, warmup_steps=3)
SETTINGS = LoopSettings(optimizer=OPTIMIZER, num_workers=0, log_every=1, save_every=1)


class Regression:
    """Learns a noisy line with dropout, so that the random state matters; a step may ask for trouble."""

    def __init__(self, *, poison_step: int | None = None, signal_step: int | None = None) -> None:
        torch.manual_seed(5)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.poison_step, self.signal_step = poison_step, signal_step

    def loss(self, batch: int) -> TaskLoss:
        if batch == self.signal_step:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(batch))
        total = (self.module(x) - x.sum(1, keepdim=True)).square().mean()
        return TaskLoss(total * float("nan") if batch == self.poison_step else total)

    def describe(self, batch: int) -> str:
        return f"sample-{batch}"


@dataclass(frozen=True)
class Steps:
    """Batches that are their own step number."""

    num_steps: int

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> int:
        return step


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_resume_in_pieces_equals_one_run_exactly(tmp_path: Path) -> None:
    train(Regression(), Steps(20), SETTINGS, tmp_path / "whole")
    for _ in range(4):
        train(Regression(), Steps(20), SETTINGS, tmp_path / "pieces", max_steps=6)
    assert _losses(tmp_path / "pieces") == _losses(tmp_path / "whole")
    assert _losses(tmp_path / "whole")[-1] < _losses(tmp_path / "whole")[0]


def test_lines_logged_after_the_last_state_are_dropped_on_resume(tmp_path: Path) -> None:
    train(Regression(), Steps(8), SETTINGS, tmp_path, max_steps=4)
    with (tmp_path / METRICS_FILE).open("a") as log:
        log.write(json.dumps({"step": 4, "loss": 99.0}) + '\n{"step": 5, "lo')
    train(Regression(), Steps(8), SETTINGS, tmp_path)
    assert len(_losses(tmp_path)) == 8
    assert 99.0 not in _losses(tmp_path)


def test_sigterm_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    train(Regression(), Steps(10), SETTINGS, tmp_path / "whole")
    with pytest.raises(Interrupted, match="Stopped after step 5 of 10"):
        train(Regression(signal_step=4), Steps(10), SETTINGS, tmp_path / "stopped")
    train(Regression(), Steps(10), SETTINGS, tmp_path / "stopped")
    assert _losses(tmp_path / "stopped") == _losses(tmp_path / "whole")


def test_pitfall_b27_loss_that_is_not_finite_names_the_sample(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nan.*sample-3"):
        train(Regression(poison_step=3), Steps(10), SETTINGS, tmp_path)


class Spike(Regression):
    """Its loss is finite and its gradient is not."""

    def loss(self, batch: int) -> TaskLoss:
        weight = self.module[0].weight
        return TaskLoss(super().loss(batch).total + (weight * 0).sum().clamp_min(0).sqrt())


def test_gradient_that_is_not_finite_names_the_sample_and_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"gradient is nan.*sample-0"):
        train(Spike(), Steps(10), SETTINGS, tmp_path)
    assert not (tmp_path / STATE_FILE).exists()


def test_state_of_another_identity_is_refused(tmp_path: Path) -> None:
    train(Regression(), Steps(4), SETTINGS, tmp_path, identity="data 1")
    with pytest.raises(TrainingError, match="other settings"):
        train(Regression(), Steps(4), SETTINGS, tmp_path, identity="data 2")


def test_what_changes_no_number_may_change_on_resume(tmp_path: Path) -> None:
    train(Regression(), Steps(6), SETTINGS, tmp_path, max_steps=3)
    train(Regression(), Steps(6), replace(SETTINGS, log_every=5, save_every=5), tmp_path)
    assert len(_losses(tmp_path)) == 6


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    train(Regression(), Steps(4), SETTINGS, tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        train(Regression(), Steps(5), SETTINGS, tmp_path)


def test_failed_save_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Regression()
    optimizer = build_optimizer(task.module, OPTIMIZER)
    save_state(tmp_path, task.module, optimizer, Progress(step=1, run="r"))

    def disk_full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(TrainingError, match="No space left"):
        save_state(tmp_path, task.module, optimizer, Progress(step=2, run="r"))
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    assert load_state(tmp_path, task.module, optimizer, run="r").step == 1


def test_truncated_state_gives_one_clear_line(tmp_path: Path) -> None:
    train(Regression(), Steps(4), SETTINGS, tmp_path, max_steps=2)
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="Cannot read the training state"):
        train(Regression(), Steps(4), SETTINGS, tmp_path)


def test_learning_rate_rises_then_falls_to_its_floor() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=4, final_fraction=0.1)
    rates = [learning_rate(settings, step=step, num_steps=20) for step in range(21)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == pytest.approx(0.1)


def test_only_matrices_decay() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(3, 5), "norm": nn.BatchNorm2d(5), "conv": nn.Conv2d(4, 4, 3)})
    decayed, plain = build_optimizer(module, OPTIMIZER).param_groups
    assert {tuple(p.shape) for p in decayed["params"]} == {(5, 3), (4, 4, 3, 3)}
    assert plain["weight_decay"] == 0 and all(p.ndim == 1 for p in plain["params"])
