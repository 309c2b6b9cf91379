"""Two processes that train together come to what one does alone (gloo, on processors)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fastvlm.errors import TrainingError
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.sharding import only_one
from fastvlm.training.task import TaskLoss

Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor]]

WORKER = Path(__file__).resolve().parents[1] / "support" / "parallel_worker.py"


class Linear:
    """A task that is never come to."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"matrix": nn.Linear(4, 4)})

    def loss(self, batch: object) -> TaskLoss:
        raise AssertionError

    def weight(self, batch: object) -> float:
        return 1.0

    def describe(self, batch: object) -> str:
        return ""


def trained(
    task: str, folder: Path, *, num_processes: int, is_sharded: bool = False, interrupted_after: int = 0
) -> Trained:
    """The logged steps and the weights of a run of 3 steps of two batches each."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    how = ["pieces" if is_sharded else "copies", str(interrupted_after)]
    alone = [sys.executable, str(WORKER), task, str(folder), "2", *how]
    together = [sys.executable, *launch, str(WORKER), task, str(folder), "1", *how]
    finished = subprocess.run(
        together if num_processes > 1 else alone,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    lines = [json.loads(line) for line in (folder / "state" / "metrics.jsonl").read_text().splitlines()]
    return lines, load_file(folder / "weights.safetensors")


def assert_same(one: Trained, other: Trained) -> None:
    """Losses, gradients (by their norm) and weights, step by step; BatchNorm keeps its statistics."""
    (lines, weights), (other_lines, other_weights) = one, other
    assert [line["step"] for line in other_lines] == [0, 1, 2]
    for line, other_line in zip(lines, other_lines, strict=True):
        assert other_line["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other_line["gradient_norm"] == pytest.approx(line["gradient_norm"], rel=1e-4)
    assert weights.keys() == other_weights.keys()
    for name, value in weights.items():
        # Adam divides by gradients: where these are nearly 0, their last digits decide over a step's direction.
        assert float((value - other_weights[name]).abs().median()) < 1e-5, name


@pytest.mark.parametrize("task", ["instruct", "contrastive", "dense", "symbols"])
def test_two_processes_are_as_one(task: str, tmp_path: Path) -> None:
    alone = trained(task, tmp_path / "alone", num_processes=1)
    assert_same(alone, trained(task, tmp_path / "together", num_processes=2))


@pytest.mark.parametrize("task", ["instruct", "contrastive", "mixed"])
def test_a_model_in_pieces_is_as_one(task: str, tmp_path: Path) -> None:
    """FSDP2, DDP and one process come to the same; also where one batch of a step has words alone."""
    alone = trained(task, tmp_path / "alone", num_processes=1)
    if task == "mixed":
        assert_same(alone, trained(task, tmp_path / "copies", num_processes=2))
    assert_same(alone, trained(task, tmp_path / "pieces", num_processes=2, is_sharded=True))


def test_a_run_in_pieces_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = trained("instruct", tmp_path / "whole", num_processes=2, is_sharded=True)
    pieces = trained("instruct", tmp_path / "pieces", num_processes=2, is_sharded=True, interrupted_after=2)
    assert pieces[0] == whole[0]
    assert all((pieces[1][name] == value).all() for name, value in whole[1].items())
    state = tmp_path / "pieces" / "state"
    assert sorted(path.name for path in state.iterdir()) == ["metrics.jsonl", "shards-3", "shards.json"]


def test_pieces_need_several_processes_and_one_optimizer(tmp_path: Path) -> None:
    task = Linear()
    settings = LoopSettings(optimizer=OptimizerSettings(learning_rate=1e-3, warmup_steps=0), is_sharded=True)
    with pytest.raises(TrainingError, match=r"several processes.*got one.*torchrun"):
        train(task, [0, 1], settings, tmp_path)
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"in pieces\. Resume with --shard"):
        train(task, [0, 1], replace(settings, is_sharded=False), tmp_path)
    both = build_optimizer(task.module, OptimizerSettings(learning_rate=1e-3, warmup_steps=0, muon_parts=("matrix",)))
    with pytest.raises(TrainingError, match=r"AdamW alone.*Muon"):
        only_one(both)
