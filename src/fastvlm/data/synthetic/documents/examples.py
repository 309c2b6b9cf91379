"""Documents for people to ask about: the examples at the root of the repository."""

from __future__ import annotations

from collections.abc import Iterator

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.document import Kind
from fastvlm.data.synthetic.documents.samples import document_sample

EXAMPLES: tuple[tuple[str, Kind, tuple[int, int], int], ...] = (
    ("receipt", "receipt", (320, 448), 0),
    ("chart", "chart", (448, 320), 1),
    ("form", "form", (384, 320), 2),
    ("table", "table", (448, 256), 3),
    ("sign", "sign", (256, 192), 4),
    ("page", "page", (448, 320), 5),
)
"""Name, family, (width, height) in pixels, and the number in the split `dev`, on which nothing is trained."""

_QUESTIONS = 6


def example_documents() -> Iterator[tuple[str, UInt8Array, list[tuple[str, str]]]]:
    """Each example with its picture, undamaged, and some questions with what is true of it.

    The pictures depend on the typefaces of the machine; those of the repository were made once.
    """
    for name, family, canvas, index in EXAMPLES:
        sample = document_sample(
            "dev", index, family, canvas, num_questions=_QUESTIONS, phrasing="train", is_degraded=False
        )
        questions = [
            (question.text, question.answer.replace("\n", " / "))
            for question in sample.questions
            if len(question.answer) < 100
        ]
        yield name, sample.image, questions
