"""Sizes in training: each is timed in both ways, and only a GPU has something to tell."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fastvlm.benchmarks.training_sizes import WAYS, measure


def test_every_size_is_timed_in_both_ways() -> None:
    sizes = [(2, 64, 128), (1, 64, 64)]
    found = list(measure(torch.device("cpu"), sizes=sizes, num_steps=2))
    assert [(one.way, one.size) for one in found] == [(way, size) for way in WAYS for size in sizes]
    assert all(one.first_s > 0 and len(one.later_ms) == 2 and min(one.later_ms) > 0 for one in found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "fastvlm.benchmarks.training_sizes"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert finished.stderr == "Expected an NVIDIA GPU, whose sizes this measures, got a processor alone.\n"
