"""Which runtime is chosen by itself, whatever this machine has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fastvlm.errors import GenerationError, MissingExtraError
from fastvlm.runtimes import choice
from fastvlm.runtimes.choice import choose_runtime
from fastvlm.runtimes.openvino import engine


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
        ({}, {"form": "train"}, "torch"),
        ({}, {"name": "torch"}, "torch"),
        ({"has_accelerator": True}, {"name": "openvino"}, "openvino"),
    ],
)
def test_the_choice(machine: Any, here: dict[str, bool], asked: dict[str, str], expected: str) -> None:
    machine(**here)
    given: dict[str, Any] = {"name": "auto", "device": "auto", "dtype": "auto", "form": "fused", **asked}
    assert choose_runtime(given.pop("name"), **given) == expected


@pytest.mark.parametrize("asked", [{"dtype": "float16"}, {"form": "train"}, {"device": "cuda"}])
def test_what_needs_torch_says_how_to_get_it(machine: Any, asked: dict[str, Any]) -> None:
    machine(has_torch=False)
    with pytest.raises(MissingExtraError, match=r"fastvlm\[torch\]"):
        choose_runtime("auto", **{"device": "auto", "dtype": "auto", "form": "fused", **asked})


def test_what_is_not_there_is_told(machine: Any) -> None:
    machine(has_torch=False, has_bfloat16=False)
    with pytest.raises(GenerationError, match="computes in bfloat16"):
        choose_runtime("auto", device="auto", dtype="bfloat16", form="fused")
    with pytest.raises(GenerationError, match="auto, torch, openvino, got 'abacus'"):
        choose_runtime("abacus", device="auto", dtype="auto", form="fused")
