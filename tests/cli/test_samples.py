"""`fastvlm samples` through the real process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fastvlm.data.synthetic.documents.contact_sheet import GAP_GREY, GAP_PX, contact_sheet

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_samples_are_told_and_drawn(run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    finished = run("samples", "--family", "receipt", "--count", "3", "--output", sheet, "--json")
    assert finished.returncode == 0, finished.stderr
    told = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(told) == 3 and {one["kind"] for one in told} == {"receipt"}
    assert all(len(one["questions"]) == 3 for one in told)
    with Image.open(sheet) as picture:
        assert picture.width == 1600 and picture.height > 384
    assert "exists" in fails("samples", "--count", "1", "--output", sheet)
    assert "found none at" in fails("samples", "--count", "500", "--output", tmp_path / "no" / "sheet.png")
    text = run("samples", "--count", "2", "--questions", "1").stdout.splitlines()
    assert len(text) == 4 and text[0].startswith("train/0  A")
    again = run("samples", "--count", "1", "--first", told[1]["sample"].split("/")[1], "--json").stdout
    assert json.loads(again)["transcript"] == told[1]["transcript"]


def test_pictures_on_a_sheet_keep_their_pixels() -> None:
    pictures = [
        np.full((height, width, 3), level, np.uint8) for height, width, level in ((10, 40, 1), (20, 50, 2), (5, 90, 3))
    ]
    sheet = contact_sheet(pictures, width_px=120)
    assert sheet.shape == (10 + 20 + 5 - 10 + 3 * GAP_PX, 120, 3)
    for level, picture in enumerate(pictures, start=1):
        assert (sheet == level).sum() == picture.size
    assert set(np.unique(sheet)) == {1, 2, 3, GAP_GREY}
