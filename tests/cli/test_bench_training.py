"""The commands of `fastvlm bench` that measure training, in miniature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    assert stored["num_threads"] == 1 and stored["size_px"] == 64 and len(stored["rows"]) == 4
    assert all(row["step_s"]["n"] == 2 and row["over_torch"]["median"] > 0 for row in stored["rows"])
    assert table.read_text().startswith("| way |")


def test_kernels_that_are_switched_off_are_not_measured(run: Run) -> None:
    finished = run("bench", "kernels", "--runs", "1", environment={"FASTVLM_KERNELS": "off"})
    assert finished.returncode == 1 and not finished.stdout
    reason, error = finished.stderr.splitlines()
    assert "FASTVLM_KERNELS says so" in reason and error.startswith("error: Expected the compiled kernels")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kernels", "--size", "100"], "100 is no multiple of 64."),
        (["kernels", "--batch-size", "2"], "2 is not in the range x>=3"),
        (["kernels", "--json", "nowhere/steps.json"], "is no place for a file"),
    ],
)
def test_wrong_flags_are_told_in_one_line(run: Run, arguments: list[str], words: str) -> None:
    finished = run("bench", *arguments)
    assert finished.returncode == 2 and words in finished.stderr and len(finished.stderr.splitlines()) == 1
