"""What can be had without looking: the usual answer, a grey picture, and the picture of another scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.errors import DataError
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.scores import SCORES, normalize_answer

MID_GREY = 128


Guesses = Mapping[tuple[str, str], str]
"""What is always answered to each kind of question of a family."""


def most_frequent_answers(questions: Iterable[EvaluationQuestion]) -> Guesses:
    """The most frequent answer to each kind of question of a family; of equals the first in the alphabet."""
    answers: dict[tuple[str, str], Counter[str]] = {}
    for question in questions:
        answers.setdefault((question.family, question.kind), Counter())[normalize_answer(question.answer)] += 1
    return {kind: _most_frequent(counts) for kind, counts in answers.items()}


def _most_frequent(counts: Counter[str]) -> str:
    return max(sorted(counts), key=lambda answer: counts[answer])


def num_correct_guesses(questions: Iterable[EvaluationQuestion], guesses: Guesses) -> int:
    """How many questions are right by the guess for their kind, judged as a model is; one without a guess is wrong."""
    return sum(_is_right(question, guesses.get((question.family, question.kind))) for question in questions)


def _is_right(question: EvaluationQuestion, guess: str | None) -> bool:
    return guess is not None and SCORES[question.score](guess, question.answer)


def grey_picture(image: UInt8Array) -> UInt8Array:
    """A mid-grey picture of the same size."""
    return np.full_like(image, MID_GREY)


def other_pictures(pictures: Sequence[Picture]) -> dict[str, Picture]:
    """For the id of each picture the picture of another scene, half of the set away; every picture is used once.

    Raises DataError where there is only one picture.
    """
    if len(pictures) == 1:
        raise DataError("Expected at least two pictures to shuffle, got one. Ask about more.")
    shift = len(pictures) // 2
    return {picture.picture_id: pictures[(index + shift) % len(pictures)] for index, picture in enumerate(pictures)}
