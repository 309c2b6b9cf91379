"""The page of failures: pictures and words of a report's mistakes, nothing chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastvlm.errors import DataError
from fastvlm.evaluation.failures import write_failures
from fastvlm.evaluation.tasks.scenes import scene_questions


def report_of(*answers: str) -> dict[str, Any]:
    asked = scene_questions("dev", limit_per_family=2, phrasing="train")
    family = asked[0].family
    chosen = [question for question in asked if question.family == family]
    return {
        "task": "scenes-dev",
        "model": {"weights": [{"sha256": "ab" * 32}]},
        "questions": {"sha256": "cd" * 32},
        "families": [{"family": family, "n": 2, "correct": 2 - len(answers)}],
        "mistakes": [
            {
                "question_id": question.question_id,
                "question": question.text,
                "expected": question.answer,
                "answered": answer,
            }
            for question, answer in zip(chosen, answers, strict=False)
        ],
    }


def test_every_mistake_has_its_picture_and_its_words(tmp_path: Path) -> None:
    report = report_of("left | right\nor up", "")
    page = tmp_path / "failures.md"
    write_failures(report, page)
    text = page.read_text()
    assert f"## {report['families'][0]['family']}: 2 of 2 wrong" in text
    assert "| left \\| right / or up |" in text and "| (nothing) |" in text
    for mistake in report["mistakes"]:
        assert f"| {mistake['question']} | {mistake['expected']} |" in text
    pictures = sorted((tmp_path / "failures").iterdir())
    assert pictures and all(f"![picture](failures/{path.name})" in text for path in pictures)
    assert all(path.read_bytes()[:3] == b"\xff\xd8\xff" for path in pictures)


def test_a_report_of_other_questions_is_refused(tmp_path: Path) -> None:
    report = report_of("left")
    report["mistakes"][0]["question"] = "Who are you?"
    with pytest.raises(DataError, match="among those of this machine"):
        write_failures(report, tmp_path / "failures.md")
    assert not (tmp_path / "failures.md").exists()
