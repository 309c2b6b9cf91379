"""Which runtime is chosen by itself, whatever this machine has."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastvlm.benchmarks.shapes import shape_config
from fastvlm.compiler import NoLibraryError
from fastvlm.errors import GenerationError, MissingExtraError
from fastvlm.runtimes import choice
from fastvlm.runtimes.choice import choose_runtime
from fastvlm.runtimes.kernels import library
from fastvlm.runtimes.openvino import engine
from support.runtimes import CONFIG

LEARNS = replace(CONFIG, vision=replace(CONFIG.vision, form="train"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be another machine."""

    def pretend(*, has_accelerator: bool = False, has_torch: bool = True, has_bfloat16: bool = True) -> None:
        real = importlib.util.find_spec
        hidden = () if has_torch else ("torch",)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in hidden else real(name, *rest)
        )
        monkeypatch.setattr(choice, "_may_have_accelerator", lambda: has_accelerator)
        monkeypatch.setattr(choice, "_has_accelerator", lambda: has_accelerator)
        monkeypatch.setattr(engine, "has_bfloat16", lambda: has_bfloat16)
        monkeypatch.setattr(choice, "has_instruction", lambda _: False)

    return pretend


@pytest.mark.skipif(sys.platform != "linux", reason="other systems show GPUs in other ways")
def test_a_gpu_is_looked_for_where_its_device_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"/dev/nvidiactl", "/dev/kfd", "/dev/dxg"} <= set(choice._GPU_DEVICES)
    monkeypatch.setattr(choice, "_GPU_DEVICES", (str(tmp_path / "none"), str(tmp_path / "dxg")))
    assert not choice._may_have_accelerator()
    (tmp_path / "dxg").touch()
    assert choice._may_have_accelerator()


@pytest.mark.parametrize(
    ("here", "asked", "expected"),
    [
        ({}, {}, "openvino"),
        ({"has_accelerator": True}, {}, "torch"),
        ({"has_accelerator": True, "has_torch": False}, {}, "openvino"),
        ({"has_accelerator": True}, {"device": "cpu"}, "openvino"),
        ({}, {"dtype": "float16"}, "torch"),
        ({}, {"dtype": "bfloat16"}, "openvino"),
        ({"has_bfloat16": False}, {"dtype": "bfloat16"}, "torch"),
        ({}, {"config": LEARNS}, "torch"),
        ({}, {"name": "torch"}, "torch"),
        ({"has_accelerator": True}, {"name": "openvino"}, "openvino"),
    ],
)
def test_the_choice(machine: Any, here: dict[str, bool], asked: dict[str, str], expected: str) -> None:
    machine(**here)
    given: dict[str, Any] = {"name": "auto", "device": "auto", "dtype": "auto", "config": CONFIG, **asked}
    assert choose_runtime(given.pop("name"), **given) == expected


@pytest.mark.parametrize(
    ("asked", "flags", "is_compiled", "expected"),
    [
        ({}, "", True, "kernels"),
        ({"dtype": "bfloat16"}, "", True, "kernels"),
        ({"quantize": "int4"}, "", True, "kernels"),
        ({"quantize": "int4", "name": "openvino"}, "", True, "openvino"),
        ({"dtype": "float32"}, "", True, "openvino"),
        ({"config": CONFIG}, "", True, "openvino"),
        ({}, "amx_int8", True, "openvino"),
        ({"name": "kernels"}, "amx_int8", True, "kernels"),
        ({}, "", False, "openvino"),
        ({"quantize": "int8"}, "", False, "openvino"),
    ],
)
def test_our_own_kernels_are_taken_where_they_are_the_fastest(
    machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    flags: str,
    is_compiled: bool,
    expected: str,
) -> None:
    machine(has_torch=False)
    monkeypatch.setattr(choice, "has_instruction", lambda name: name in flags.split())
    num_loaded = []
    monkeypatch.setattr(library, "load", lambda: num_loaded.append(1) if is_compiled else refuse())
    given: dict[str, Any] = {"name": "auto", "device": "auto", "dtype": "auto", "config": shape_config("tiny"), **asked}
    assert choose_runtime(given.pop("name"), **given) == expected
    assert bool(num_loaded) == (expected == "kernels"), "nothing is compiled to be left out"


def refuse() -> None:
    raise NoLibraryError("there is no compiler")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"config": CONFIG}, "do not fit a model of this shape"),
        ({"config": LEARNS}, "in the form of training.*--fuse"),
        ({"dtype": "float32"}, "not in float32"),
        ({"device": "cuda"}, "not on cuda"),
        ({}, "there is no compiler"),
    ],
)
def test_kernels_that_were_asked_for_and_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(library, "load", refuse)
    with pytest.raises(GenerationError, match=f"{reason}.*Leave out --runtime kernels"):
        choose_runtime("kernels", **{"device": "auto", "dtype": "auto", "config": shape_config("tiny"), **asked})


@pytest.mark.parametrize("asked", [{"dtype": "float16"}, {"config": LEARNS}, {"device": "cuda"}])
def test_what_needs_torch_says_how_to_get_it(machine: Any, asked: dict[str, Any]) -> None:
    machine(has_torch=False)
    with pytest.raises(MissingExtraError, match=r"fastvlm\[torch\]"):
        choose_runtime("auto", **{"device": "auto", "dtype": "auto", "config": CONFIG, **asked})


def test_what_is_not_there_is_told(machine: Any) -> None:
    machine(has_torch=False, has_bfloat16=False)
    with pytest.raises(GenerationError, match="computes in bfloat16"):
        choose_runtime("auto", device="auto", dtype="bfloat16", config=CONFIG)
    with pytest.raises(GenerationError, match="auto, torch, openvino, kernels, got 'abacus'"):
        choose_runtime("abacus", device="auto", dtype="auto", config=CONFIG)
