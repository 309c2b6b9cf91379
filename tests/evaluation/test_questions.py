"""Fingerprints notice every change of a word or a pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastvlm.evaluation.questions import EvaluationQuestion, Picture, fingerprint, pictures_of


def _picture(name: str, level: int) -> Picture:
    return Picture(name, "native", lambda: np.full((4, 6, 3), level, np.uint8))


QUESTIONS = [
    EvaluationQuestion("a", _picture("one", 10), "count", "count_all", "How many?", "3"),
    EvaluationQuestion("b", _picture("two", 20), "count", "count_all", "How many?", "4"),
    EvaluationQuestion("c", _picture("one", 10), "color", "color_of", "Which colour?", "red"),
]


def test_a_fingerprint_counts_pictures_once() -> None:
    found = fingerprint(QUESTIONS)
    assert (found.num_questions, found.num_pictures) == (3, 2)
    assert [picture.picture_id for picture in pictures_of(QUESTIONS)] == ["one", "two"]
    assert fingerprint(list(QUESTIONS)) == found


def test_a_fingerprint_notices_words_and_their_order() -> None:
    found = fingerprint(QUESTIONS)
    changes = {"question_id": "d", "family": "x", "kind": "x", "text": "How many? ", "answer": "5"}
    for name, value in changes.items():
        changed = fingerprint([replace(QUESTIONS[0], **{name: value}), *QUESTIONS[1:]])
        assert changed.questions_sha256 != found.questions_sha256, name
        assert changed.pixels_sha256 == found.pixels_sha256, name
    assert fingerprint(QUESTIONS[::-1]).questions_sha256 != found.questions_sha256


def test_a_fingerprint_notices_pixels_and_shapes() -> None:
    found = fingerprint(QUESTIONS)
    darker = [replace(QUESTIONS[0], picture=_picture("one", 9)), *QUESTIONS[1:2]]
    assert fingerprint(darker).pixels_sha256 != fingerprint(QUESTIONS[:2]).pixels_sha256 == found.pixels_sha256
    turned = Picture("one", "native", lambda: np.full((6, 4, 3), 10, np.uint8))
    assert fingerprint([replace(QUESTIONS[0], picture=turned)]) != fingerprint(QUESTIONS[:1])
