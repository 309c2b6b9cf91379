"""Questions about scanned receipts: short lines cut out of them, totals and dates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.errors import DataError
from fastvlm.evaluation.tasks.receipts import RECEIPTS_FILE, read_receipts, receipt_questions

LINES = [
    {"text": "TOTAL", "box": [10, 20, 60, 40]},
    {"text": "a line that is long", "box": [10, 50, 90, 70]},
    {"text": "9.00", "box": [70, 20, 95, 40]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture = np.zeros((120, 100, 3), np.uint8)
    picture[20:40, 10:60] = 255
    entries = []
    for name in ("b", "a"):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        entries.append(
            {"image": f"{name}.png", "total": "9.00", "date": f"0{len(entries) + 1}/02/2020", "lines": LINES}
        )
    (tmp_path / RECEIPTS_FILE).write_text(json.dumps(entries))
    return tmp_path


def test_short_lines_are_cut_out_and_whole_receipts_asked_about(folder: Path) -> None:
    questions = receipt_questions(folder, limit_per_family=3, phrasing="train")
    assert Counter(question.family for question in questions) == {
        "short line": 3,
        "receipt total": 2,
        "receipt date": 2,
    }
    line = next(question for question in questions if question.answer == "TOTAL")
    assert line.picture.load().shape == (28, 58, 3), "with a fifth of its height around it"
    assert (line.picture.load()[4:-4, 4:-4] == 255).all()
    dates = [question.answer for question in questions if question.family == "receipt date"]
    assert dates == ["02/02/2020", "01/02/2020"], "in the order of the pictures' names"
    assert questions[-1].picture.load().shape == (120, 100, 3)
    unseen = receipt_questions(folder, limit_per_family=3, phrasing="held_out")
    assert [question.answer for question in unseen] == [question.answer for question in questions]
    assert not {question.text for question in unseen} & {question.text for question in questions}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "Expected JSON"),
        ("[]", "Expected a list of receipts"),
        ('[{"image": "a.png"}]', "Expected image, total, date and lines in .*entry 1"),
        (
            '[{"image": "a.png", "total": "", "date": "", "lines": [{"text": "x", "box": [3, 0, 1, 2]}]}]',
            "Expected lines",
        ),
    ],
)
def test_a_folder_of_another_layout_is_told_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / RECEIPTS_FILE).write_text(content)
    with pytest.raises(DataError, match=told):
        read_receipts(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_receipts(tmp_path / "none")


def test_the_stored_receipts_can_be_asked_about(shared: Path) -> None:
    folder = shared / "real" / "receipts"
    if not folder.is_dir():
        pytest.skip("no stored receipts")
    questions = receipt_questions(folder, limit_per_family=100, phrasing="train")
    assert Counter(question.family for question in questions) == dict.fromkeys(
        ("short line", "receipt total", "receipt date"), 100
    )
    assert all(question.picture.load().ndim == 3 for question in questions[:20])
