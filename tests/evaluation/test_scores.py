"""Answers compared, and intervals against values computed by hand."""

from __future__ import annotations

import pytest

from fastvlm.evaluation.scores import Accuracy, exact_match, normalize_answer, wilson_interval


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        (" yes. ", "yes"),
        ("Gray", "grey"),
        ("three", "3"),
        ("None.", "0"),
        ("A red  star", "red star"),
        ("the centre", "center"),
        ("two red circles and a gray ring", "2 red circles and a grey ring"),
        ("I can't tell. I know colored shapes.", "I can't tell. I know coloured shapes"),
    ],
)
def test_the_same_answer_in_other_letters(answer: str, expected: str) -> None:
    assert exact_match(answer, expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("no", "0"),  # `no` answers another question than `none`
        ("yes, there is one", "yes"),
        ("", "yes"),
        ("10", "1"),
        ("red", "dark red"),
        ("a red star", "a star"),
        ("someone", "some1"),
        ("left", "top left"),
    ],
)
def test_other_answers_stay_wrong(answer: str, expected: str) -> None:
    assert not exact_match(answer, expected)


def test_normalising_twice_changes_nothing() -> None:
    for text in ("The A-team.", "a gray ring.", "Ten", "none", "a", "the", "There is no gray cross."):
        once = normalize_answer(text)
        assert normalize_answer(once) == once


@pytest.mark.parametrize(
    ("num_correct", "num_questions", "low", "high"),
    [
        # z = 1.95996, z^2 = 3.84146. For 8 of 10: (0.8 + 0.19207) / 1.38415 = 0.71674, and
        # 1.95996 * sqrt((0.16 + 0.096036) / 10) / 1.38415 = 0.22658.
        (8, 10, 0.49016, 0.94332),
        # For 0 of 10 the upper end is z^2 / (n + z^2) = 3.84146 / 13.84146.
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        # For one half the interval is symmetrical: 0.5 +- 1.95996 * sqrt(0.25 + 0.0096036) / 10 / 1.0384146.
        (50, 100, 0.40383, 0.59617),
        # For 475 of 500: (0.95 + 0.0038415) / 1.0076829 = 0.946569, and
        # 1.95996 * sqrt((0.0475 + 0.0019207) / 500) / 1.0076829 = 0.019337.
        (475, 500, 0.92723, 0.96591),
    ],
)
def test_wilson_interval_by_hand(num_correct: int, num_questions: int, low: float, high: float) -> None:
    interval = wilson_interval(num_correct, num_questions)
    assert interval.low == pytest.approx(low, abs=1e-5)
    assert interval.high == pytest.approx(high, abs=1e-5)


def test_without_questions_nothing_is_known() -> None:
    nothing = Accuracy(0, 0)
    assert nothing.share == 0.0
    assert (nothing.interval.low, nothing.interval.high) == (0.0, 1.0)
