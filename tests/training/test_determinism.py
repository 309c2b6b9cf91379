"""A run goes on with the arithmetic that it was started with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fastvlm.training.determinism import arithmetic, restore_arithmetic
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.resume import Progress, load_state, save_state


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_state_brings_its_number_of_threads(tmp_path: Path) -> None:
    module = nn.Linear(3, 3)
    optimizer = build_optimizer(module, OptimizerSettings(learning_rate=1e-2, warmup_steps=1))
    torch.set_num_threads(2)
    save_state(tmp_path, module, optimizer, Progress(step=1, run={}))
    torch.set_num_threads(1)
    load_state(tmp_path, module, optimizer, run={})
    assert torch.get_num_threads() == 2


def test_the_same_arithmetic_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        restore_arithmetic(arithmetic())
        restore_arithmetic({})
    assert not caplog.records


@pytest.mark.parametrize(("name", "value"), [("instructions", "ABACUS"), ("torch", "0.1")])
def test_what_cannot_be_restored_is_told(caplog: pytest.LogCaptureFixture, name: str, value: str) -> None:
    with caplog.at_level(logging.WARNING):
        restore_arithmetic({**arithmetic(), name: value})
    (record,) = caplog.records
    assert f"started with {name} {value}" in record.getMessage()
