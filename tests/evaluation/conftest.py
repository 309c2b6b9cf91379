"""Answerers that need no model: one that remembers the right answers by heart, and one that always says the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from fastvlm.batches import UInt8Array
from fastvlm.evaluation.questions import EvaluationQuestion
from fastvlm.evaluation.runner import Reply


def pixel_key(image: UInt8Array) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


@dataclass
class KnowingAnswerer:
    """Right for every question about exactly the picture that it belongs to, and for no other."""

    answers: dict[tuple[str, str], str]
    num_calls: int = 0
    num_images_of_call: list[int] = field(default_factory=list)

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        self.num_calls += 1
        keys = {id(image): pixel_key(image) for image in images}
        self.num_images_of_call.append(len(keys))
        return [
            Reply(self.answers.get((keys[id(image)], text), "no idea"))
            for image, text in zip(images, texts, strict=True)
        ]


@dataclass
class StubbornAnswerer:
    """Says one thing, and remembers what it was shown."""

    said: str
    images: list[UInt8Array] = field(default_factory=list)

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        self.images += images
        return [Reply(self.said)] * len(texts)


@pytest.fixture
def knowing() -> Callable[[Sequence[EvaluationQuestion]], KnowingAnswerer]:
    """Build an answerer that knows these questions."""

    def build(questions: Sequence[EvaluationQuestion]) -> KnowingAnswerer:
        return KnowingAnswerer(
            {(pixel_key(question.picture.load()), question.text): f"{question.answer}." for question in questions}
        )

    return build


@pytest.fixture
def stubborn() -> Callable[[str], StubbornAnswerer]:
    """Build an answerer that always says the same."""
    return StubbornAnswerer
