"""Asking: the order of the outcomes, one encoding for each picture, and baselines that really change the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastvlm.errors import DataError
from fastvlm.evaluation.baselines import (
    grey_picture,
    most_frequent_answers,
    num_correct_guesses,
    other_pictures,
)
from fastvlm.evaluation.questions import EvaluationQuestion, Picture, pictures_of
from fastvlm.evaluation.runner import PICTURES_AT_A_TIME, evaluate
from fastvlm.evaluation.tasks.scenes import scene_questions

Build = Callable[..., Any]


@pytest.fixture(scope="module")
def questions() -> list[EvaluationQuestion]:
    return scene_questions("dev", limit_per_family=18, phrasing="train")


def test_who_knows_everything_is_right_and_who_does_not_is_wrong(
    knowing: Build, stubborn: Build, questions: list[EvaluationQuestion]
) -> None:
    right = evaluate(knowing(questions), questions)
    assert [outcome.question for outcome in right] == questions
    assert all(outcome.is_correct for outcome in right)
    wrong = evaluate(stubborn("a purple elephant"), questions)
    assert not any(outcome.is_correct for outcome in wrong)
    assert {outcome.answer for outcome in wrong} == {"a purple elephant"}
    yes = evaluate(stubborn("Yes."), questions)
    assert sum(outcome.is_correct for outcome in yes) == sum(question.answer == "yes" for question in questions) > 0


def test_a_picture_is_made_once_for_all_of_its_questions(knowing: Build, questions: list[EvaluationQuestion]) -> None:
    """An assistant caches 20 encoded pictures: as many as come together must fit."""
    answerer = knowing(questions)
    evaluate(answerer, questions)
    assert sum(answerer.num_images_of_call) == len(pictures_of(questions))
    assert max(answerer.num_images_of_call) <= PICTURES_AT_A_TIME <= 20
    assert answerer.num_calls == -(-len(pictures_of(questions)) // PICTURES_AT_A_TIME)


def test_progress_ends_with_all(stubborn: Build, questions: list[EvaluationQuestion]) -> None:
    told: list[tuple[int, int]] = []
    evaluate(stubborn("yes"), questions, report=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(questions), len(questions))
    assert evaluate(stubborn("yes"), []) == []


def test_the_blind_baseline_shows_grey_of_the_same_size(stubborn: Build, questions: list[EvaluationQuestion]) -> None:
    answerer = stubborn("yes")
    evaluate(answerer, questions, baseline="grey")
    assert all((image == 128).all() for image in answerer.images)
    assert Counter(image.shape for image in answerer.images) == Counter(
        question.picture.load().shape for question in questions
    )
    assert grey_picture(np.zeros((3, 5, 3), np.uint8)).shape == (3, 5, 3)


def test_a_baseline_leaves_nothing_of_the_picture(knowing: Build, questions: list[EvaluationQuestion]) -> None:
    """Who knows every picture by heart knows nothing of a baseline."""
    answerer = knowing(questions)
    assert not any(outcome.is_correct for outcome in evaluate(answerer, questions, baseline="grey"))
    # Of another scene somebody may have asked the same, with the same answer.
    own_texts = Counter(question.text for question in questions)
    for outcome in evaluate(answerer, questions, baseline="shuffled"):
        assert not outcome.is_correct or own_texts[outcome.question.text] > 1


def test_the_shuffled_baseline_shows_every_picture_to_the_questions_of_another(
    questions: list[EvaluationQuestion],
) -> None:
    pictures = pictures_of(questions)
    for number in (2, 3, len(pictures)):
        partners = other_pictures(pictures[:number])
        assert all(name != partner.picture_id for name, partner in partners.items())
        assert {partner.picture_id for partner in partners.values()} == set(partners)
    with pytest.raises(DataError, match="at least two"):
        other_pictures(pictures[:1])


def test_the_majority_is_counted_for_each_kind_of_question() -> None:
    picture = Picture("p", "resized", lambda: np.zeros((1, 1, 3), np.uint8))

    def ask(kind: str, answer: str) -> EvaluationQuestion:
        return EvaluationQuestion("", picture, "family", kind, "", answer)

    training = [ask("a", "gray"), ask("a", "grey"), ask("a", "red"), ask("b", "no"), ask("b", "Yes."), ask("c", "2")]
    guesses = most_frequent_answers(training)
    assert guesses == {("family", "a"): "grey", ("family", "b"): "no", ("family", "c"): "2"}
    test = [ask("a", "gray"), ask("a", "red"), ask("b", "no"), ask("c", "two"), ask("d", "0")]
    assert num_correct_guesses(test, guesses) == 3
    elsewhere = [replace(question, family="another") for question in test]
    assert num_correct_guesses(elsewhere, guesses) == 0, "the same kind of another family has a majority of its own"


def test_a_guess_is_judged_as_an_answer_of_the_model_is() -> None:
    picture = Picture("p", "resized", lambda: np.zeros((1, 1, 3), np.uint8))
    test = [EvaluationQuestion("", picture, "chart", "value", "", answer, "relaxed") for answer in ("20", "20.5", "40")]
    assert num_correct_guesses(test, most_frequent_answers([test[0]])) == 2


def test_no_majority_answer_is_a_good_guess(questions: list[EvaluationQuestion]) -> None:
    """Pitfall of generated questions: where one answer is frequent, nothing is learnt from pictures."""
    test = scene_questions("test", limit_per_family=80, phrasing="train")
    guesses = most_frequent_answers(scene_questions("train", limit_per_family=80, phrasing="train"))
    for family, most in (("existence", 0.66), ("count", 0.3), ("color", 0.3), ("shape", 0.3), ("relation", 0.6)):
        asked = [question for question in test if question.family == family]
        assert num_correct_guesses(asked, guesses) <= most * len(asked), family
