"""The loop: exact resume, stopping, and losses that are not finite."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from fastvlm.errors import DataError, MissingExtraError, TrainingError
from fastvlm.training.average import WeightAverage
from fastvlm.training.events import EVENTS_FOLDER
from fastvlm.training.loop import BEST_FILE, METRICS_FILE, Interrupted, LoopSettings, Validation, train
from fastvlm.training.meter import StepReport
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer, learning_rate
from fastvlm.training.parts import freeze
from fastvlm.training.resume import STATE_FILE, Progress, identity_of, load_state, require_same, save_state
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

    def weight(self, _batch: int) -> float:
        return 1.0

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
    train(Regression(), Steps(4), SETTINGS, tmp_path, identity={"data": "1", "size_px": "64"})
    with pytest.raises(TrainingError, match=r"other settings: data 1 instead of 2\. "):
        train(Regression(), Steps(4), SETTINGS, tmp_path, identity={"data": "2", "size_px": "64"})
    quicker = replace(SETTINGS, optimizer=replace(OPTIMIZER, learning_rate=1.0, warmup_steps=1), seed=3)
    with pytest.raises(TrainingError, match=r"seed 0 instead of 3, learning_rate 0\.01 instead of 1\.0, .* and 1 more"):
        train(Regression(), Steps(4), quicker, tmp_path, identity={"size_px": "64"})


def test_settings_within_settings_are_named_and_long_ones_shown_where_they_differ(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Inner:
        rate: float
        words: str = "x" * 100

    @dataclass(frozen=True)
    class Outer:
        inner: Inner
        seed: int = 0

    own = identity_of(Outer(Inner(0.5)), without=("seed",))
    assert own == {"inner.rate": "0.5", "inner.words": repr("x" * 100)}
    require_same(own, own, tmp_path)
    with pytest.raises(
        TrainingError, match=r"inner\.rate 0\.5 instead of 0\.25, inner\.words \.\.\.x{12}' instead of \.\.\.x{12}y"
    ):
        require_same(own, identity_of(Outer(Inner(0.25, "x" * 100 + "y")), without=("seed",)), tmp_path)


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
    run = {"data": "1"}

    def refuse_with(number: int) -> None:
        def refuse(*_arguments: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)

    refuse_with(errno.EACCES)
    with pytest.raises(TrainingError, match=r"Permission denied.*can be written to and resume; no state was saved"):
        save_state(tmp_path, task.module, optimizer, Progress(step=0, run=run))
    monkeypatch.undo()
    save_state(tmp_path, task.module, optimizer, Progress(step=1, run=run))
    refuse_with(errno.ENOSPC)
    with pytest.raises(TrainingError, match=r"No space left.*Free some space and resume; the last .* is unharmed"):
        save_state(tmp_path, task.module, optimizer, Progress(step=2, run=run))
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    assert load_state(tmp_path, task.module, optimizer, run=run).step == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_resumed_run_holds_nothing_of_the_file_that_it_will_replace(tmp_path: Path) -> None:
    task = Regression()
    train(task, Steps(4), replace(SETTINGS, ema_decay=0.9), tmp_path, max_steps=2)
    optimizer = build_optimizer(task.module, OPTIMIZER)
    average = WeightAverage(task.module, decay=0.9)
    with safe_open(tmp_path / STATE_FILE, framework="pt") as file:
        run = json.loads(file.metadata()["run"])
    load_state(tmp_path, task.module, optimizer, run=run, average=average)
    assert str(tmp_path / STATE_FILE) not in Path("/proc/self/maps").read_text()


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


class Uneven(Regression):
    """Batches of 1, 2, 3, ... rows: a mean over rows is no mean over batches."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.module = nn.Sequential(nn.Linear(4, 1))
        self.signal_step = self.poison_step = None

    def rows(self, batch: int) -> torch.Tensor:
        return torch.randn(batch + 1, 4, generator=torch.Generator().manual_seed(batch))

    def loss(self, batch: int) -> TaskLoss:
        x = self.rows(batch)
        return TaskLoss((self.module(x) - x.sum(1, keepdim=True)).square().mean())

    def weight(self, batch: int) -> float:
        return batch + 1.0


class AllAtOnce(Uneven):
    """The batches 0 to 2, and 3 to 4, as one each."""

    def rows(self, batch: int) -> torch.Tensor:
        return torch.cat([super(AllAtOnce, self).rows(number) for number in ((0, 1, 2), (3, 4))[batch]])


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Also where the last step has fewer of them."""
    pieces, whole = Uneven(), AllAtOnce()
    train(pieces, Steps(5), replace(SETTINGS, num_accumulated=3), tmp_path / "pieces")
    train(whole, Steps(2), SETTINGS, tmp_path / "whole")
    assert _losses(tmp_path / "pieces") == pytest.approx(_losses(tmp_path / "whole"), rel=1e-6)
    for one, other in zip(pieces.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_mean_of_the_weights_is_what_remains_and_survives_a_stop(tmp_path: Path) -> None:
    settings = replace(SETTINGS, ema_decay=0.9)
    whole, plain, pieces = Regression(), Regression(), Regression()
    train(whole, Steps(12), settings, tmp_path / "whole")
    train(plain, Steps(12), SETTINGS, tmp_path / "plain")
    assert _losses(tmp_path / "whole") == _losses(tmp_path / "plain"), "the mean does not change what is learned"
    assert not torch.equal(whole.module[0].weight, plain.module[0].weight)
    train(Regression(), Steps(12), settings, tmp_path / "pieces", max_steps=5)
    train(pieces, Steps(12), settings, tmp_path / "pieces")
    for one, other in zip(whole.module.parameters(), pieces.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_mean_follows_the_weights() -> None:
    module = nn.Linear(2, 1)
    average = WeightAverage(module, decay=0.5)
    with torch.no_grad():
        for value in (1.0, 2.0):
            module.weight.fill_(value)
            average.update()
    expected = module.weight.new_tensor(0.0)
    with average.in_place():
        mean = float(module.weight[0, 0].detach())
    assert float(module.weight[0, 0].detach()) == 2.0
    assert float(expected) < mean < 2.0 and mean > 1.0


class Watched(Regression):
    """Its validation loss is what the test says, step by step."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values, self.seen = values, []

    def validation(self, every: int) -> Validation:
        def loss() -> float:
            assert not self.module.training
            self.seen.append(self.module[0].weight.detach().clone())
            return self.values[len(self.seen) - 1]

        return Validation(loss, every)


def test_the_best_weights_are_what_remains(tmp_path: Path) -> None:
    watched = Watched([3.0, 1.0, 2.0])
    train(watched, Steps(7), SETTINGS, tmp_path, validation=watched.validation(3))
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 5, 6]
    assert torch.equal(watched.module[0].weight, watched.seen[1])
    assert (tmp_path / BEST_FILE).is_file()
    plain = Regression()
    train(plain, Steps(7), SETTINGS, tmp_path / "plain")
    assert [line["loss"] for line in lines] == _losses(tmp_path / "plain"), "validation changes nothing of the run"


def test_a_resumed_run_knows_its_best_loss(tmp_path: Path) -> None:
    first, second = Watched([1.0]), Watched([2.0, 3.0])
    train(first, Steps(6), SETTINGS, tmp_path, validation=first.validation(2), max_steps=3)
    train(second, Steps(6), SETTINGS, tmp_path, validation=second.validation(2))
    assert torch.equal(second.module[0].weight, first.seen[0])


class Broken(Steps):
    """Its fourth batch cannot be made."""

    def __getitem__(self, step: int) -> int:
        if step == 3:
            raise DataError("sample-3: Expected a picture, got none.")
        return step


def test_a_batch_that_cannot_be_made_is_one_line_from_a_worker_too(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train(Regression(), Broken(6), replace(SETTINGS, num_workers=1), tmp_path)
    assert str(caught.value) == "sample-3: Expected a picture, got none."
    assert len(_losses(tmp_path)) == 3


def test_kept_statistics_stay_and_any_number_of_rows_will_do(tmp_path: Path) -> None:
    task = Regression()
    before = {name: value.clone() for name, value in task.module[1].state_dict().items()}
    train(task, Steps(4), replace(SETTINGS, keeps_statistics=True), tmp_path)
    after = task.module[1].state_dict()
    assert torch.equal(before["running_mean"], after["running_mean"])
    assert torch.equal(before["running_var"], after["running_var"])
    assert not torch.equal(before["weight"], after["weight"])


def test_tensorboard_gets_what_is_reported_and_forgets_what_a_kill_left_behind(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = replace(SETTINGS, writes_events=True)
    train(Regression(), Steps(6), settings, tmp_path, max_steps=4)
    train(Regression(), Steps(6), settings, tmp_path)
    events = EventAccumulator(str(tmp_path / EVENTS_FOLDER))
    events.Reload()
    assert {"loss", "learning_rate", "steps_per_second", "waiting"} <= set(events.Tags()["scalars"])
    drawn = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in drawn] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in drawn] == pytest.approx(_losses(tmp_path), rel=1e-6)


def test_without_tensorboard_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastvlm\[tensorboard\]'"):
        train(Regression(), Steps(6), replace(SETTINGS, writes_events=True), tmp_path)


class Sometimes(Regression):
    """Has a part of its loss in every second step alone."""

    def loss(self, batch: int) -> TaskLoss:
        total = super().loss(batch).total
        return TaskLoss(total, {"every": total.detach()} | ({"second": torch.tensor(3.0)} if batch % 2 else {}))


def test_a_part_that_not_every_step_has_is_a_mean_over_those_that_do(tmp_path: Path) -> None:
    told: list[StepReport] = []
    train(Sometimes(), Steps(4), replace(SETTINGS, log_every=4), tmp_path, report=told.append)
    assert told[-1].losses["second"] == 3.0


def test_what_a_frozen_part_had_learned_before_is_not_clipped_with(tmp_path: Path) -> None:
    """A gradient that an earlier stage has left on it would make the steps of the others smaller."""

    def run(folder: Path, left_behind: float | None) -> list[float]:
        task = Regression()
        freeze(task.module[0])
        if left_behind is not None:
            task.module[0].weight.grad = torch.full_like(task.module[0].weight, left_behind)
        train(task, Steps(3), SETTINGS, folder)
        return _losses(folder)

    assert run(tmp_path / "a", None) == run(tmp_path / "b", 1e6)


class SlowSteps(Steps):
    """Batches that take longer to make than to learn from."""

    def __getitem__(self, step: int) -> int:
        time.sleep(0.05)
        return step


def test_waiting_for_batches_is_told(tmp_path: Path) -> None:
    """Of two runs, since a step on a busy machine takes long too."""
    told: list[StepReport] = []
    for name, batches in (("quick", Steps(6)), ("slow", SlowSteps(6))):
        train(Regression(), batches, replace(SETTINGS, log_every=6), tmp_path / name, report=told.append)
    quick, slow = (report.waiting for report in told)
    assert 0 <= quick < slow <= 1 and slow > 2 * quick


def test_a_run_ends_by_its_time_and_its_rate_with_it(tmp_path: Path) -> None:
    """A stop in between counts as no time; what is over stays over."""
    settings = replace(SETTINGS, optimizer=replace(OPTIMIZER, warmup_steps=1), seconds=1.0)
    batches = SlowSteps(10_000)
    train(Regression(), batches, settings, tmp_path, max_steps=4)
    time.sleep(1)
    told: list[StepReport] = []
    train(Regression(), batches, settings, tmp_path, report=told.append)
    assert told[0].step == 5 and 10 <= told[-1].step <= 25
    assert told[-1].num_steps == told[-1].step and told[-1].seconds_left == 0
    assert all(told[-1].step / 2 < one.num_steps < 2 * told[-1].step for one in told)
    assert told[-1].learning_rate < 0.1 * told[0].learning_rate
    task = Regression()
    train(task, batches, settings, tmp_path, report=lambda _: pytest.fail("it was over"))
    assert not task.module.training


def test_time_is_for_one_process_without_validation(tmp_path: Path) -> None:
    for validation, is_sharded in ((None, True), (Validation(lambda: 1.0, every=1), False)):
        settings = replace(SETTINGS, seconds=1.0, is_sharded=is_sharded)
        with pytest.raises(TrainingError, match="one process and no validation"):
            train(Regression(), Steps(2), settings, tmp_path, validation=validation)
