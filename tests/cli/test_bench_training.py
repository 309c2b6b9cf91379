"""The commands of `fastvlm bench` that measure training, in miniature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvlm.training.precision import has_fast_bfloat16

Run = Callable[..., Any]


def test_a_step_with_the_kernels_and_without(run: Run, tmp_path: Path) -> None:
    file, table = tmp_path / "steps.json", tmp_path / "steps.md"
    arguments = ["--batch-size", "3", "--size", "64", "--runs", "2", "--threads", "1"]
    finished = run("bench", "kernels", *arguments, "--json", file, "--markdown", table)
    if "no C++ compiler" in finished.stderr:
        pytest.skip("no C++ compiler")
    assert finished.returncode == 0, finished.stderr
    assert "torch, channels last" in finished.stdout and "2 alternating runs" in finished.stdout
    stored = json.loads(file.read_text())
    assert stored["num_threads"] == 1 and stored["size_px"] == 64 and stored["encoder"] == "fastvithd-nano"
    assert len(stored["rows"]) == (6 if has_fast_bfloat16(torch.device("cpu")) else 4)
    assert all(row["step_s"]["n"] == 2 and row["over_torch"]["median"] > 0 for row in stored["rows"])
    assert table.read_text().startswith("| way |")


def test_kernels_that_are_switched_off_are_not_measured(run: Run) -> None:
    finished = run("bench", "kernels", "--runs", "1", environment={"FASTVLM_KERNELS": "off"})
    assert finished.returncode == 1 and not finished.stdout
    reason, error = finished.stderr.splitlines()
    assert "they are switched off" in reason and error.startswith("error: Expected the compiled kernels")


def test_what_a_training_step_takes(run: Run, tmp_path: Path) -> None:
    file, table = tmp_path / "training.json", tmp_path / "training.md"
    arguments = ["--shape", "tiny", "--size", "64", "--batch-size", "2", "--text-tokens", "4", "--runs", "2"]
    chosen = ["--parts", "projector", "--parts", "lora", "--threads", "1", "--json", file, "--markdown", table]
    finished = run("bench", "training", *arguments, *chosen)
    assert finished.returncode == 0, finished.stderr
    assert "tiny: what a training step takes, 2 x (64 px and 4 words), 1 threads" in finished.stdout
    stored = json.loads(file.read_text())
    rows = {(row["parts"], row["pictures"]): row for row in stored["rows"]}
    assert list(rows) == [("projector", "pixels"), ("projector", "features"), ("lora", "pixels"), ("lora", "features")]
    assert all(rows["projector", pictures]["median_s"] > 0 for pictures in ("pixels", "features"))
    # peft does not load beside every torchvision; then a row says so.
    for row in rows.values():
        assert (row["median_s"] is None) == (row["error"] is not None), row
        assert row["error"] is None or "peft" in row["error"]
    assert table.read_text().count("\n") == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kernels", "--size", "100"], "100 is no multiple of 64."),
        (["kernels", "--batch-size", "2"], "2 is not in the range x>=3"),
        (["kernels", "--json", "nowhere/steps.json"], "is no place for a file"),
        (["training", "--size", "96"], "96 is no multiple of 64."),
        (["training", "--parts", "encoder"], "'encoder' is not one of"),
        (["training", "--text-tokens", "1"], "1 is not in the range x>=2"),
        (["training", "--json", "nowhere/training.json"], "is no place for a file"),
    ],
)
def test_wrong_flags_are_told_in_one_line(run: Run, arguments: list[str], words: str) -> None:
    finished = run("bench", *arguments)
    assert finished.returncode == 2 and words in finished.stderr and len(finished.stderr.splitlines()) == 1


def test_a_shape_that_is_none(fails: Callable[..., str]) -> None:
    assert "one of the shapes" in fails("bench", "training", "--shape", "huge")
