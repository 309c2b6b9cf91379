"""Pictures that nothing is known about: asked as documents, right is whoever says that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.batches import UInt8Array
from fastvlm.errors import DataError
from fastvlm.evaluation.report import ModelIdentity
from fastvlm.evaluation.runner import Reply
from fastvlm.evaluation.scores import SCORES, Accuracy
from fastvlm.evaluation.suite import measure, question_set
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


def test_the_report_has_no_baselines_that_would_be_right_as_well(tmp_path: Path) -> None:
    class Refusing:
        def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
            return [Reply("a receipt" if "document" in text else "It is not shown.") for text in texts]

    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / name)
    questions = question_set("photographs", data=tmp_path, limit_per_family=2)
    report = measure(
        Refusing(), questions, task="photographs", identity=ModelIdentity("x", ()), runtime="none", with_baselines=True
    )
    assert report.overall.accuracy == Accuracy(8, 10) and report.overall.majority == Accuracy(10, 10)
    assert report.overall.blind is None and report.overall.shuffled is None
    assert "false refusals of documents" in report.conditions.majority_source


def test_whoever_begins_to_say_that_there_is_none_is_right() -> None:
    is_right = SCORES["refusal"]
    assert is_right("It is not shown.", "") and is_right("I can't tell. I read receipts.", "")
    assert not is_right("12.50", "") and not is_right("a receipt", "")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^Expected pictures in"):
        photograph_questions(tmp_path, limit_per_family=1, phrasing="train")
    with pytest.raises(DataError, match=r"^Expected the folder of the pictures for the task photographs"):
        question_set("photographs", data=None, limit_per_family=1)
