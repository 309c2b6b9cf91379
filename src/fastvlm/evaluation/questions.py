"""What a model is asked: questions about pictures in a fixed order, with a fingerprint of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.evaluation.scores import ScoreName

PictureKind = Literal["native", "resized"]
"""Whether a picture has the size of a model input already, or the processor resizes it, as it does with people's."""


@dataclass(frozen=True)
class Picture:
    """A picture that is made when it is needed; `load` always gives the same uint8 array, height x width x 3."""

    picture_id: str
    kind: PictureKind
    load: Callable[[], UInt8Array] = field(compare=False, repr=False)


@dataclass(frozen=True)
class EvaluationQuestion:
    """One question with its only answer.

    family: the row of the report that it counts for. kind: the narrower sort of question within the family, for which
    somebody who sees no picture would always guess the same answer. score: `exact`, `relaxed` for numbers that are
    read off a chart, or `refusal` where every way to say that there is none is right.
    """

    question_id: str
    picture: Picture
    family: str
    kind: str
    text: str
    answer: str
    score: ScoreName = "exact"


@dataclass(frozen=True)
class Fingerprint:
    """What a set of questions is, in short: two sets are the same where these are equal."""

    num_questions: int
    num_pictures: int
    questions_sha256: str
    pixels_sha256: str


def pictures_of(questions: Iterable[EvaluationQuestion]) -> list[Picture]:
    """The pictures of questions, each once, in the order of their first question."""
    return list({question.picture.picture_id: question.picture for question in questions}.values())


def questions_digest(questions: Iterable[EvaluationQuestion]) -> str:
    """SHA-256 of the words: ids, families, kinds, texts, answers and how these are judged, in their order."""
    digest = hashlib.sha256()
    for question in questions:
        words = (
            question.question_id, question.picture.picture_id, question.family, question.kind, question.text,
            question.answer, question.score,
        )  # fmt: skip
        digest.update(json.dumps(words).encode() + b"\n")
    return digest.hexdigest()


def pixels_digest(pictures: Iterable[Picture]) -> str:
    """SHA-256 of the ids, sizes and pixels of pictures in their order; every picture is made once."""
    digest = hashlib.sha256()
    for picture in pictures:
        pixels = np.ascontiguousarray(picture.load())
        digest.update(json.dumps((picture.picture_id, pixels.shape)).encode() + b"\n")
        digest.update(hashlib.sha256(pixels.data).digest())
    return digest.hexdigest()


def fingerprint(questions: Sequence[EvaluationQuestion]) -> Fingerprint:
    """Fingerprint of a set of questions, words and pixels."""
    pictures = pictures_of(questions)
    return Fingerprint(len(questions), len(pictures), questions_digest(questions), pixels_digest(pictures))
