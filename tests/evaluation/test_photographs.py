"""Pictures that nothing is known about: asked as documents, right is whoever says that there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.errors import DataError
from fastvlm.evaluation.scores import SCORES
from fastvlm.evaluation.suite import question_set
from fastvlm.evaluation.tasks.photographs import photograph_questions


def test_every_picture_is_asked_the_same_in_seen_and_unseen_words(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    questions = photograph_questions(tmp_path, limit_per_family=9, phrasing="train")
    assert [question.picture.picture_id for question in questions[::5]] == ["photographs/a.jpg", "photographs/b.png"]
    assert len(questions) == 10 and len({question.family for question in questions}) == 5
    assert questions[0].picture.load().shape == (40, 60, 3)
    found = question_set("photographs", data=tmp_path, limit_per_family=1)
    assert [question.text for question in found.asked] == [question.text for question in questions[:5]]
    assert {question.text for question in found.asked}.isdisjoint(question.text for question in found.unseen)


def test_any_words_for_there_is_none_are_right() -> None:
    is_right = SCORES["refusal"]
    assert is_right("It is not shown.", "") and is_right("I can't tell. I read receipts.", "")
    assert not is_right("12.50", "") and not is_right("a receipt", "")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^Expected pictures in"):
        photograph_questions(tmp_path, limit_per_family=1, phrasing="train")
    with pytest.raises(DataError, match=r"^Expected the folder of the pictures for the task photographs"):
        question_set("photographs", data=None, limit_per_family=1)
