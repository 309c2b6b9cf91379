"""What is written down: numbers that follow from the answers, JSON that is complete, a table that fits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastvlm.errors import DataError
from fastvlm.evaluation.report import ModelIdentity, Report, WeightFile, write_report
from fastvlm.evaluation.suite import QuestionSet, measure, question_set

Build = Callable[..., Any]
IDENTITY = ModelIdentity("mine", (WeightFile("model.safetensors", "ab" * 32),))


@pytest.fixture(scope="module")
def small() -> QuestionSet:
    return question_set("scenes", data=None, limit_per_family=8)


def _measure(answerer: Any, questions: QuestionSet, *, with_baselines: bool = True) -> Report:
    return measure(answerer, questions, task="scenes", identity=IDENTITY, runtime="test", with_baselines=with_baselines)


def test_the_numbers_follow_from_the_answers(knowing: Build, small: QuestionSet) -> None:
    report = _measure(knowing(small.asked), small)
    assert report.overall.accuracy.share == 1.0
    assert report.overall.blind is not None and report.overall.blind.num_correct == 0
    assert report.overall.shuffled is not None and report.overall.shuffled.num_correct == 0
    # The same words may be in both phrasings; otherwise who learnt by heart is lost.
    assert report.overall.unseen is not None and report.overall.unseen.share < 0.15
    assert report.overall.unseen_difference == pytest.approx(report.overall.unseen.share - 1.0)
    assert 0.1 < report.overall.majority.share < 0.6
    assert report.mistakes == ()
    assert sum(result.accuracy.num_questions for result in report.families) == len(small.asked)
    assert {result.kind for result in report.pictures} == {"native", "resized"}
    assert report.conditions.num_asked == 4 * len(small.asked)


def test_mistakes_are_shown_by_the_hash_of_their_ids(stubborn: Build, small: QuestionSet) -> None:
    report = _measure(stubborn("blue"), small)
    assert len(report.mistakes) == 4 * len(report.families)
    ids = [mistake.question_id for mistake in report.mistakes[:4]]
    assert ids == sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert all(mistake.answered == "blue" != mistake.expected for mistake in report.mistakes)


def test_json_holds_everything(stubborn: Build, small: QuestionSet, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    report = _measure(stubborn("yes"), small)
    write_report(report, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    values = json.loads(path.read_text())
    assert values == json.loads(json.dumps(report.to_json()))
    existence = next(entry for entry in values["families"] if entry["family"] == "existence")
    yes = sum(question.answer == "yes" for question in small.asked if question.family == "existence")
    assert (existence["n"], existence["correct"], existence["accuracy"]) == (8, yes, yes / 8)
    low, high = existence["interval_95"]
    assert low < yes / 8 < high
    assert existence["blind"]["correct"] == existence["shuffled"]["correct"] == yes
    assert values["model"] == {"name": "mine", "weights": [{"file": "model.safetensors", "sha256": "ab" * 32}]}
    assert values["questions"]["frozen_set"] is None
    assert values["questions"]["majority_source"] == "the training split"
    assert values["versions"]["numpy"] and values["machine"] and values["seconds"] >= 0
    assert values["overall"]["n"] == len(small.asked)


def test_without_baselines_they_are_left_out_and_not_zero(stubborn: Build, small: QuestionSet) -> None:
    report = _measure(stubborn("yes"), small, with_baselines=False)
    overall = report.to_json()["overall"]
    assert isinstance(overall, dict)
    assert overall["blind"] is None and overall["shuffled"] is None
    assert overall["majority"] is not None and overall["unseen_phrasings"] is not None
    console = Console(width=120, record=True, force_terminal=False)
    console.print(report)
    text = console.export_text()
    assert "unseen: phrasings" in text and "blind: " not in text and "shuffled: " not in text


def test_the_table_fits_a_narrow_terminal(stubborn: Build, small: QuestionSet) -> None:
    report = _measure(stubborn("yes"), small)
    console = Console(width=80, record=True, force_terminal=False)
    console.print(report)
    text = console.export_text()
    for result in report.families:
        assert result.family in text
    assert "..." not in text and "…" not in text
    assert f"{100 * report.overall.accuracy.share:.1f}" in text
    assert "blind" in text and "majority" in text and "abababababababab" in text


def test_a_family_without_unseen_phrasings_has_none(stubborn: Build, small: QuestionSet) -> None:
    only = replace(small, unseen=[question for question in small.unseen if question.family != "count"])
    report = _measure(stubborn("yes"), only, with_baselines=False)
    count = next(result for result in report.families if result.family == "count")
    assert count.unseen is None and count.unseen_difference is None
    base = report.overall.unseen_base
    assert base is not None and base.num_questions == len(small.asked) - 8


def test_a_report_that_cannot_be_written_is_told(stubborn: Build, small: QuestionSet, tmp_path: Path) -> None:
    report = _measure(stubborn("yes"), small, with_baselines=False)
    with pytest.raises(DataError, match="Cannot write the report"):
        write_report(report, tmp_path / "nowhere" / "report.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="Cannot write the report"):
        write_report(report, tmp_path / "folder")
    os.mkfifo(tmp_path / "device")
    with pytest.raises(DataError, match="Not a regular file"):
        write_report(report, tmp_path / "device")
    assert (tmp_path / "device").is_fifo()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["device", "folder"]


def test_the_same_answers_give_the_same_report(stubborn: Build, small: QuestionSet) -> None:
    one, other = (_measure(stubborn("yes"), small) for _ in range(2))
    assert replace(one, conditions=other.conditions) == other


def test_what_people_wrote_stays_apart_from_what_was_derived(stubborn: Build, shared: Path) -> None:
    folder = shared / "real" / "scenes"
    if not folder.is_dir():
        pytest.skip(f"no pictures at {folder}")
    report = _measure(stubborn("yes"), question_set("boxes", data=folder, limit_per_family=40), with_baselines=False)
    *derived, human = report.families
    assert human.family == "human statement" and human.unseen is None
    assert report.overall.family == "all from boxes"
    assert report.overall.accuracy.num_questions == sum(result.accuracy.num_questions for result in derived) == 160
    # Always yes: half of what was balanced, and none of the counts.
    assert report.overall.accuracy.num_correct == 60
