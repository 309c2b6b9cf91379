"""What an installation brings along, and within which versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CORE: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
HEAVY = {
    "torch", "torchvision", "coremltools", "bitsandbytes", "deepspeed", "transformers", "timm", "accelerate", "peft",
    "flash-attn", "sentencepiece", "scikit-learn", "gradio", "onnx", "onnxruntime",
}  # fmt: skip


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def test_pitfall_b23_the_core_install_has_nothing_heavy() -> None:
    assert not HEAVY & {name_of(requirement) for requirement in CORE}
    assert {name_of(requirement) for requirement in EXTRAS["torch"]} == {"torch"}
    for extra, requirements in EXTRAS.items():
        allowed = {"torch", "peft"} if extra == "train" else {"torch"}
        assert not (HEAVY - allowed) & {name_of(requirement) for requirement in requirements}


def test_pitfall_b23_versions_are_ranges_and_a_bound_has_its_reason() -> None:
    everything = [*CORE, *(requirement for extra in EXTRAS.values() for requirement in extra)]
    requirements = [requirement for requirement in everything if requirement != "fastvlm[torch]"]  # our own extra
    assert not [requirement for requirement in requirements if ">=" not in requirement or "==" in requirement]
    bounds = {name_of(one): re.search(r"<=?[\d.]+", one)[0] for one in requirements if "<" in one}
    record = (ROOT / "docs" / "decisions" / "0007-version-ranges.md").read_text(encoding="utf-8")
    recorded = dict(re.findall(r"^\| `([\w-]+)` \| `(<=?[\d.]+)` \| \S", record, flags=re.MULTILINE))
    assert bounds == recorded


def test_pitfall_b23_the_package_shares_its_name_with_no_other_project() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/fastvlm"]
    assert [path.name for path in (ROOT / "src").iterdir() if (path / "__init__.py").is_file()] == ["fastvlm"]
    assert not set(PROJECT["project"]["scripts"]) - {"fastvlm"}


def test_the_range_of_torch_is_the_one_that_its_decision_names() -> None:
    record = (ROOT / "docs" / "decisions" / "0001-torch-is-an-extra.md").read_text(encoding="utf-8")
    assert f"`{EXTRAS['torch'][0]}`" in record
