"""The self-test: the same questions everywhere, passed as measured and failed by a model that guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastvlm.batches import UInt8Array
from fastvlm.errors import DataError
from fastvlm.evaluation import selftest
from fastvlm.evaluation.questions import questions_digest
from fastvlm.evaluation.runner import Reply
from fastvlm.evaluation.scores import Accuracy
from fastvlm.evaluation.selftest import EXPECTED_PATH, NUM_QUESTIONS, SelfTest, run_selftest, selftest_questions


class Knowing:
    """Answers every so-many-th question wrong, and knows all others."""

    def __init__(self, wrong_every: int) -> None:
        questions = selftest_questions()
        self.answers = {(one.text, one.picture.load().tobytes()): one.answer for one in questions}
        self.wrong_every, self.count = wrong_every, 0

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        assert all(image.ndim == 3 for image in images)
        answers = []
        for image, text in zip(images, texts, strict=True):
            self.count += 1
            is_wrong = self.wrong_every and self.count % self.wrong_every == 0
            answers.append(Reply("?" if is_wrong else self.answers[text, image.tobytes()]))
        return answers


def test_the_questions_are_those_that_were_measured() -> None:
    questions = selftest_questions()
    assert len({question.question_id for question in questions}) == NUM_QUESTIONS
    assert len({question.family for question in questions}) >= 26
    stored = json.loads(EXPECTED_PATH.read_text())
    assert questions_digest(questions) == stored["questions_sha256"]
    assert 0.5 < stored["num_correct"] / NUM_QUESTIONS < 1


def test_it_is_passed_inside_the_interval_only() -> None:
    expected = Accuracy(170, NUM_QUESTIONS)
    assert SelfTest(expected, Accuracy(165, NUM_QUESTIONS)).is_passed
    assert not SelfTest(expected, Accuracy(150, NUM_QUESTIONS)).is_passed
    assert not SelfTest(expected, Accuracy(200, NUM_QUESTIONS)).is_passed, "too good to be this model"
    stored = json.loads(EXPECTED_PATH.read_text())
    low = Accuracy(stored["num_correct"], NUM_QUESTIONS).interval.low
    assert not run_selftest(Knowing(wrong_every=math.floor(1 / (1 - low)))).is_passed, "just below the interval"


def test_other_questions_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored = json.loads(EXPECTED_PATH.read_text())
    (tmp_path / "x.json").write_text(json.dumps({**stored, "questions_sha256": "0"}))
    monkeypatch.setattr(selftest, "EXPECTED_PATH", tmp_path / "x.json")
    with pytest.raises(DataError, match="Expected the questions"):
        run_selftest(Knowing(wrong_every=0))
