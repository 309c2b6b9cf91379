"""Pictures of which a model for documents knows nothing, asked as if they were documents: it should say so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastvlm.data.synthetic.documents.phrasings import KIND_WORDS
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN, Phrasing
from fastvlm.errors import DataError
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.tasks.entries import first_wording
from fastvlm.files import pictures_in
from fastvlm.processing.images import image_size, read_image

_ASKED = (("receipt", "total"), ("receipt", "date"), ("table", "title"), ("chart", "highest"), ("page", "kind"))
"""Kinds of documents that the question takes the picture for, with what it asks."""


def photograph_questions(folder: Path, *, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Ask of each picture in a folder what only a document answers; right is every answer that says there is none.

    Raises DataError for a folder without pictures, ImageError for a file that is none, before any is asked about.
    """
    paths = pictures_in(folder)
    if not paths:
        raise DataError(f"Expected pictures in {folder}, got none. Give a folder of photographs.")
    questions = []
    for path in paths[:limit_per_family]:
        image_size(path)
        picture = Picture(f"photographs/{path.name}", "resized", partial(read_image, path))
        for kind, intent in _ASKED:
            text = first_wording(intent, phrasing).format(doc=KIND_WORDS[kind][0])
            name = f"photographs/{path.name}/{intent}/{phrasing}"
            questions.append(
                EvaluationQuestion(name, picture, f"a {kind}'s {intent}", intent, text, NOT_SHOWN, "refusal")
            )
    return questions
