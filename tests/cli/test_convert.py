"""`fastvlm convert` through the real process: what is written answers as what was read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vlm import FastVLM

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("layout", ["fastvlm", "apple", "transformers"])
def test_each_layout_answers_alike(run: Run, parrot: Path, picture: Path, tmp_path: Path, layout: str) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in parrot.iterdir())
    finished = run("convert", parrot, tmp_path / "copy", "--to", layout, "--dtype", "bfloat16")
    assert finished.returncode == 0, finished.stderr
    # The parrot's pictures keep their aspect, which programs for the other layouts cannot: that has to be told.
    assert ("has no image mode 'fit'" in finished.stderr) == (layout != "fastvlm")
    assert finished.stdout == f"{tmp_path / 'copy'}\n"
    with safe_open(tmp_path / "copy" / "model.safetensors", framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"BF16", "I64"}  # noqa: SIM118
    answer = run("ask", picture, "What is this?", "--model", tmp_path / "copy", "--max-tokens", "3", "--json")
    assert json.loads(answer.stdout)["answer"] == "aaa"
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in parrot.iterdir())


def test_destination_with_content_is_refused(fails: Callable[..., str], parrot: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    line = fails("convert", parrot, tmp_path)
    assert "new or empty folder" in line
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_source_that_is_not_there(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere" in fails("convert", tmp_path / "nowhere", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_calibrated_checkpoint_answers_in_eight_bits(run: Run, parrot: Path, picture: Path, tmp_path: Path) -> None:
    finished = run("convert", parrot, tmp_path / "copy", "--calibrate", picture.parent)
    assert finished.returncode == 0, finished.stderr
    ranges = json.loads((tmp_path / "copy" / "encoder_ranges.json").read_text())
    assert ranges and all(value > 0 for value in ranges.values())
    answer = run(
        "ask", picture, "What is this?", "--model", tmp_path / "copy", "--quantize", "int4", "--max-tokens", "3"
    )
    assert answer.stdout == "aaa\n" and answer.stderr.startswith("Cut short.")


def test_an_encoder_in_the_form_of_training_is_fused(
    run: Run, fails: Callable[..., str], picture: Path, tmp_path: Path
) -> None:
    """The only way to OpenVINO for an encoder of our own shape, which the authors' layout does not hold."""
    own, trained, fused = load_checkpoint(None), tmp_path / "trained", tmp_path / "fused"
    vision = replace(PRESETS["fastvithd-nano"], form="train")
    save_checkpoint(trained, FastVLM(replace(own.config.vlm, vision=vision)), own.config, own.tokenizer)
    asked = ("ask", picture, "What is this?", "--runtime", "openvino", "--max-tokens", "2", "--model")
    assert "convert SOURCE DESTINATION --fuse" in fails(*asked, trained)
    assert "--fuse" in fails("convert", trained, tmp_path / "no", "--calibrate", picture.parent)
    assert run("convert", trained, fused, "--fuse").returncode == 0
    assert run(*asked, fused).returncode == 0


def test_what_cannot_be_calibrated(fails: Callable[..., str], parrot: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    copy = tmp_path / "copy"
    assert "pictures to calibrate on, got none" in fails("convert", parrot, copy, "--calibrate", tmp_path / "empty")
    words = fails("convert", parrot, copy, "--calibrate", tmp_path, "--to", "apple", code=2)
    assert "Only our own layout" in words
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert "broken.png" in fails("convert", parrot, copy, "--calibrate", tmp_path)
    assert not copy.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"stages.0": -1}', "-1 for stages.0"),
        ("{", "encoder_ranges.json"),
        ('{"stages.0": 2.0}', "ranges of the layers"),
    ],
)
def test_ranges_that_do_not_fit(
    run: Run, fails: Callable[..., str], parrot: Path, picture: Path, tmp_path: Path, content: str, words: str
) -> None:
    assert run("convert", parrot, tmp_path / "copy").returncode == 0
    (tmp_path / "copy" / "encoder_ranges.json").write_text(content)
    assert words in fails("ask", picture, "What is it?", "--model", tmp_path / "copy", "--quantize", "int8")
