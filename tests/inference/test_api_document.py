"""The page about the Python API does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastvlm
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


def asked_in_the_readme() -> list[tuple[str, str, str]]:
    """Picture, question and answer of every row of README's table of questions."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `fastvlm ask (examples/\S+) \"(.+?)\"` \| (.+?) \|$", text, flags=re.MULTILINE)


def test_what_the_readme_asks_is_answered_as_it_says() -> None:
    """And truly: the pages of the examples say what is so."""
    if not (CHECKOUT / "examples").is_dir():
        pytest.skip("examples/ is not here")
    rows = asked_in_the_readme()
    assert {Path(picture).stem.split("-")[0] for picture, _, _ in rows} >= {"receipt", "form", "chart", "scene"}
    first = re.search(r"fastvlm ask (examples/\S+) \"(.+?)\"", (CHECKOUT / "README.md").read_text(encoding="utf-8"))
    assert first and first.groups() in {(picture, question) for picture, question, _ in rows}
    pages = "".join(
        (CHECKOUT / "examples" / name).read_text(encoding="utf-8") for name in ("README.md", "documents.md")
    )
    truths = {f"examples/{text.splitlines()[0]}": text for text in pages.split("\n## ")[1:]}
    assistant = fastvlm.load()
    for picture, question, answer in rows:
        assert f"| {question} | {answer} |" in truths[picture]
        assert assistant.ask(question, images=CHECKOUT / picture).text == answer
