"""Asks all questions of a set, in batches, and compares the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from fastvlm.batches import UInt8Array
from fastvlm.evaluation.baselines import grey_picture, other_pictures
from fastvlm.evaluation.questions import EvaluationQuestion, Picture, pictures_of
from fastvlm.evaluation.scores import SCORES
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.batching import ask_batch
from fastvlm.messages import ImagePart, user

Baseline = Literal["none", "grey", "shuffled"]
"""What is shown: the picture, a mid-grey one of the same size, or the picture of another scene."""

Progress = Callable[[int, int], None]
"""Called with the number of questions that are answered, and of all."""

PICTURES_AT_A_TIME = 16
"""Fewer than an assistant's image cache holds, so that each picture is encoded once for all of its questions."""

BATCH_SIZE = 32
MAX_NEW_TOKENS = 96
"""More than the longest right answer has; a longer one is wrong anyway."""


class Reply(NamedTuple):
    """An answer, and the probability that its giver gave to it, None where it gave none."""

    text: str
    confidence: float | None = None


class Answerer(Protocol):
    """Whoever answers questions about pictures."""

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        """Answer each text about its image; the same image may stand several times."""


@dataclass(frozen=True)
class Outcome:
    """A question, what was answered, and whether that is right; confidence: as the answerer told it."""

    question: EvaluationQuestion
    answer: str
    is_correct: bool
    confidence: float | None = None


class AssistantAnswerer:
    """Asks an assistant, always with its likeliest answer."""

    def __init__(self, assistant: Assistant, *, batch_size: int = BATCH_SIZE) -> None:
        self._assistant = assistant
        self._batch_size = batch_size

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        """Answer each text about its image, as `fastvlm ask` would."""
        conversations = [user(ImagePart(image), text) for image, text in zip(images, texts, strict=True)]
        answers = ask_batch(
            self._assistant,
            conversations,
            batch_size=self._batch_size,
            temperature=0.0,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        return [Reply(answer.text, answer.confidence) for answer in answers]


def evaluate(
    answerer: Answerer,
    questions: Sequence[EvaluationQuestion],
    *,
    baseline: Baseline = "none",
    report: Progress = lambda _done, _total: None,
) -> list[Outcome]:
    """Ask all questions; returns an outcome for each, in the order of the questions.

    Raises DataError where there is no other picture for the baseline `shuffled`.
    """
    pictures = pictures_of(questions)
    shown = other_pictures(pictures) if baseline == "shuffled" else {entry.picture_id: entry for entry in pictures}
    by_picture: dict[str, list[int]] = {entry.picture_id: [] for entry in pictures}
    for index, question in enumerate(questions):
        by_picture[question.picture.picture_id].append(index)
    outcomes: dict[int, Outcome] = {}
    for start in range(0, len(pictures), PICTURES_AT_A_TIME):
        together = pictures[start : start + PICTURES_AT_A_TIME]
        images = {entry.picture_id: _image(shown[entry.picture_id], baseline) for entry in together}
        # Questions of one kind have answers of about the same length, and a batch runs until its longest has ended.
        indices = sorted(
            (index for entry in together for index in by_picture[entry.picture_id]),
            key=lambda index: questions[index].kind,
        )
        asked = [questions[index] for index in indices]
        replies = answerer.answer(
            [images[question.picture.picture_id] for question in asked], [question.text for question in asked]
        )
        for index, question, (text, confidence) in zip(indices, asked, replies, strict=True):
            outcomes[index] = Outcome(question, text, SCORES[question.score](text, question.answer), confidence)
        report(len(outcomes), len(questions))
    return [outcomes[index] for index in range(len(questions))]


def _image(picture: Picture, baseline: Baseline) -> UInt8Array:
    image = picture.load()
    return grey_picture(image) if baseline == "grey" else image
