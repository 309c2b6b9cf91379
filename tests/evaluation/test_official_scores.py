"""Scores against what the official scripts made of the same answers (tests/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastvlm.evaluation.scores import (
    anls,
    bootstrap_interval,
    character_error_rate,
    edit_distance,
    relaxed_match,
    similarity,
    wilson_interval,
)
from fastvlm.evaluation.vqa import vqa_accuracy, vqa_normalized

GOLDEN: dict[str, list[list[Any]]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "official_scores.json").read_text(encoding="utf-8")
)


def test_answers_are_normalised_as_on_the_server() -> None:
    assert len(GOLDEN["vqa_normalized"]) == 150
    for answer, expected in GOLDEN["vqa_normalized"]:
        assert vqa_normalized(answer) == expected, answer


def test_vqa_accuracy_is_the_official_one() -> None:
    assert {0 < score < 1 for *_, score in GOLDEN["vqa_accuracy"]} == {True, False}
    for answer, people, expected in GOLDEN["vqa_accuracy"]:
        assert vqa_accuracy(answer, people) == pytest.approx(expected), (answer, people)


def test_anls_is_the_official_one() -> None:
    assert any(0.5 <= score < 1 for *_, score in GOLDEN["anls"])
    for answer, right, expected in GOLDEN["anls"]:
        assert anls(answer, right) == pytest.approx(expected), (answer, right)


def test_relaxed_accuracy_is_the_official_one() -> None:
    assert len({right for *_, right in GOLDEN["relaxed"]}) == 2
    for answer, wanted, expected in GOLDEN["relaxed"]:
        assert relaxed_match(answer, wanted) is expected, (answer, wanted)


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("ab", "ba", 2)]
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_character_error_rate_is_over_all_characters() -> None:
    assert character_error_rate(["abc", "x"], ["abd", "xyz"]) == pytest.approx(3 / 6)
    assert character_error_rate(["far too long"], ["a"]) > 1
    assert character_error_rate([], []) == 0


def test_similarity_puts_both_together() -> None:
    near = similarity(["abc", "x"], ["abd", "xyz"])
    assert near.anls == pytest.approx((2 / 3 + 0) / 2) and near.character_error_rate == pytest.approx(3 / 6)
    assert near.anls_interval.low <= near.anls <= near.anls_interval.high
    assert near.error_interval.low <= 0.5 <= near.error_interval.high


def test_bootstrap_intervals_of_shares_are_near_wilsons() -> None:
    values = [1.0] * 70 + [0.0] * 30
    found, wilson = bootstrap_interval(values), wilson_interval(70, 100)
    assert found.low == pytest.approx(wilson.low, abs=0.02) and found.high == pytest.approx(wilson.high, abs=0.02)
    assert bootstrap_interval(values) == found, "always the same resamples"
    assert (bootstrap_interval([]).low, bootstrap_interval([]).high) == (0.0, 1.0)
    rate = bootstrap_interval([1.0, 0.0, 3.0], [10.0, 10.0, 10.0])
    assert 0 <= rate.low < 4 / 30 < rate.high <= 0.3
