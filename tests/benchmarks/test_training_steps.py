"""A training step in four ways: the plain twin is the same network, and what is told of the ways is true."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from fastvlm.benchmarks import training_steps
from fastvlm.benchmarks.plain_encoder import plain, without_kernels
from fastvlm.benchmarks.report import write_json
from fastvlm.benchmarks.training_steps import (
    CHANNELS_LAST,
    CHANNELS_LAST_BFLOAT16,
    NO_KERNELS,
    OURS,
    OURS_BFLOAT16,
    TORCH,
    GradientDifference,
    largest_difference,
    measure_training_steps,
    training_steps_markdown,
)
from fastvlm.errors import TrainingError
from fastvlm.models.vision import kernels
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.training import precision

TINY = replace(
    PRESETS["fastvithd-nano"], form="train", depths=(1, 1, 1, 1, 1), widths=(8, 16, 16, 32, 32), multi_scale="depthwise"
)


@pytest.fixture
def compiled() -> None:
    kernels.load()
    if not kernels.are_loaded():
        pytest.skip("no C++ compiler")


def test_the_plain_twin_is_the_same_network_of_torchs_own_layers() -> None:
    torch.manual_seed(0)
    encoder = FastViTHD(TINY).double().train()
    twin = plain(encoder)
    ours = {type(part) for part in twin.modules() if "Plain" not in type(part).__name__}
    assert not {kind.__name__ for kind in ours} & {
        "Convolution", "ConvNorm", "MobileOneBlock", "LargeKernelConv", "RepMixer",
    }  # fmt: skip
    assert all(type(part) is nn.Conv2d for part in twin.modules() if isinstance(part, nn.Conv2d))
    assert twin.state_dict().keys() == encoder.state_dict().keys()
    assert not {id(own) for own in twin.parameters()} & {id(own) for own in encoder.parameters()}

    pixels = torch.rand(3, 3, 128, 64, dtype=torch.float64)
    seen = []
    for network in (encoder, twin):
        output = network(pixels)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output).sin()).sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        seen.append({"output": output.detach(), **gradients, **dict(network.named_buffers())})
    for name, value in seen[0].items():
        torch.testing.assert_close(seen[1][name], value, rtol=1e-7, atol=1e-7, msg=lambda text, name=name: name + text)


def test_a_plain_twin_never_asks_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(kernels, "suit", lambda map_: bool(asked.append(map_)))
    encoder = FastViTHD(TINY).train()
    for network, has_asked in ((plain(encoder), False), (encoder, True)):
        network(torch.rand(3, 3, 64, 64)).sum().backward()
        assert bool(asked) == has_asked


def test_kernels_are_left_out_inside_and_back_afterwards(compiled: None) -> None:
    map_ = torch.rand(1, 16, 8, 8).to(memory_format=torch.channels_last)
    assert kernels.suit(map_)
    with pytest.raises(KeyError), without_kernels():
        assert not kernels.suit(map_)
        raise KeyError
    assert kernels.suit(map_)


def test_the_largest_difference_is_found_and_small_gradients_do_not_count_as_large() -> None:
    reference = {"large": torch.full((4,), 50.0), "half": torch.tensor([2.0]), "nothing": torch.zeros(2)}
    found = copy.deepcopy(reference)
    found["half"] += 1.0
    found["nothing"] += 1e-6
    assert largest_difference(found, reference) == GradientDifference(pytest.approx(1 / 2.1), "half")
    assert largest_difference(reference, reference).relative == 0


@pytest.mark.usefixtures("same_threads_afterwards", "compiled")
@pytest.mark.parametrize("is_fast", [True, False], ids=["bfloat16", "float32 alone"])
def test_every_way_is_measured_in_turn_from_the_same_weights(
    is_fast: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (training_steps, precision):
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda _device: is_fast)
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    told: list[str] = []
    result = measure_training_steps(
        batch_size=4, size_px=128, num_runs=3, num_threads=1, encoder="tiny", report=told.append
    )
    rounded = [CHANNELS_LAST_BFLOAT16, OURS_BFLOAT16] if is_fast else []
    assert [row.way for row in result.rows] == [TORCH, CHANNELS_LAST, NO_KERNELS, OURS, *rounded]
    assert [text.partition(": ")[2] for text in told if text.startswith("run")] == [row.way for row in result.rows] * 5
    for row in result.rows:
        assert 0 < row.step_s.low <= row.step_s.median <= row.step_s.high and row.step_s.n == 3
        assert row.pictures_per_second == pytest.approx(4 / row.step_s.median)
        assert (row.gradients.relative > 0.01) == (row.way in rounded), row
        assert row.way != OURS_BFLOAT16 or row.gradients.relative < 0.2, row
    assert result.rows[0].over_torch.median == result.rows[1].over_channels_last.median == 1
    assert 0 < result.ours_from_torch.relative < 0.01
    assert result.num_parameters == sum(own.numel() for own in FastViTHD(TINY).parameters())

    write_json(result, tmp_path / "steps.json")
    stored = json.loads((tmp_path / "steps.json").read_text())
    assert stored["rows"][3]["way"] == OURS and stored["machine"] and stored["versions"]["torch"]
    Console(width=160).print(result)
    printed = capsys.readouterr().out
    assert all(row.way in printed for row in result.rows) and "3 alternating runs" in printed
    assert training_steps_markdown(result).count("\n") == 2 + len(result.rows)


def test_without_kernels_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "are_loaded", lambda: False)
    with pytest.raises(TrainingError, match="Expected the compiled kernels"):
        measure_training_steps(batch_size=4, size_px=64, num_runs=1, num_threads=torch.get_num_threads())
