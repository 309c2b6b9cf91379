"""The page about the Python API does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastvlm.checkpoints import hub

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "api.md"


def test_every_example_of_the_page_runs(
    tiny_checkpoint: Path, picture: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the embedded model and the examples of the checkout; where they are not there, with stand-ins."""
    page = PAGE.read_text(encoding="utf-8")
    (tmp_path / "examples").mkdir()
    for number, name in enumerate(sorted(set(re.findall(r"examples/scene-\w+\.png", page)))):
        if (CHECKOUT / name).is_file():
            (tmp_path / name).write_bytes((CHECKOUT / name).read_bytes())
        else:
            picture(number, width_px=320, height_px=240).save(tmp_path / name)
    try:
        hub.resolve(None)
    except hub.CheckpointError:
        monkeypatch.setattr(hub, "_EMBEDDED_FOLDER", tiny_checkpoint)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(examples) >= 8
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["answer"].usage.visual_tokens > 0


def test_the_table_of_settings_is_complete() -> None:
    from dataclasses import fields

    from fastvlm.inference.settings import GenerationSettings
    from fastvlm.inference.timings import Timings

    page = PAGE.read_text(encoding="utf-8")
    for field in (*fields(GenerationSettings), *fields(Timings)):
        assert f"`{field.name}`" in page
