"""Two processes that train together come to what one does alone (gloo, on processors)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).resolve().parents[1] / "support" / "parallel_worker.py"


def trained(task: str, folder: Path, *, num_processes: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """The logged steps and the weights of a run of 3 steps of two batches each."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    alone = [sys.executable, str(WORKER), task, str(folder), "2"]
    together = [sys.executable, *launch, str(WORKER), task, str(folder), "1"]
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


@pytest.mark.parametrize("task", ["instruct", "contrastive", "dense", "symbols"])
def test_two_processes_are_as_one(task: str, tmp_path: Path) -> None:
    """Losses, gradients (by their norm) and weights, step by step; BatchNorm keeps its statistics."""
    alone_lines, alone = trained(task, tmp_path / "alone", num_processes=1)
    together_lines, together = trained(task, tmp_path / "together", num_processes=2)
    assert [line["step"] for line in together_lines] == [0, 1, 2]
    for one, other in zip(alone_lines, together_lines, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        # Adam divides by gradients: where these are nearly 0, their last digits decide over a step's direction.
        assert float((value - together[name]).abs().median()) < 1e-5, name
