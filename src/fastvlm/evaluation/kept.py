"""Documents that are kept with their pictures: what they look like depends on the typefaces of a machine otherwise.

`python -m fastvlm.evaluation.kept` makes them anew, where the typefaces are those of the frozen sets.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.errors import DataError
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, read_manifest
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.scores import SCORES
from fastvlm.evaluation.tasks.documents import document_questions
from fastvlm.evaluation.tasks.entries import read_entries
from fastvlm.files import replacing, write_whole
from fastvlm.processing.images import read_image

FOLDER = Path(__file__).parent / "kept_documents"
NUM_KEPT = 100
_QUESTIONS_FILE = "questions.json"
_QUALITY = 90
"""Of JPEG: without loss the noise of the pictures would be most of the package's weight."""

_FIELDS = ("question_id", "family", "kind", "text", "answer", "score")


def kept_documents(folder: Path = FOLDER) -> list[EvaluationQuestion]:
    """The questions about the kept pictures. Raises DataError where their list is missing or no list of questions."""
    entries = read_entries(folder / _QUESTIONS_FILE, what="questions", advice="Install fastvlm again.")
    return [_question(entry, place, folder) for entry, place in entries]


def _question(entry: object, place: str, folder: Path) -> EvaluationQuestion:
    if (
        isinstance(entry, dict)
        and entry.keys() == {"picture", "file", *_FIELDS}
        and all(isinstance(value, str) for value in entry.values())
        and entry["score"] in SCORES
    ):
        picture = Picture(entry["picture"], "resized", partial(read_image, folder / entry["file"]))
        return EvaluationQuestion(picture=picture, **{name: entry[name] for name in _FIELDS})
    raise DataError(f"Expected a question with its picture in {place}. Install fastvlm again.")


def keep(questions: list[EvaluationQuestion], folder: Path) -> None:
    """Write questions and the picture of each, in the place of those that were kept before."""
    folder.mkdir(parents=True, exist_ok=True)
    old = set(folder.glob("*.jpg"))
    entries: list[dict[str, str]] = []
    for question in questions:
        file = question.picture.picture_id.replace("/", "-") + ".jpg"
        if file not in {entry["file"] for entry in entries}:
            picture = Image.fromarray(np.ascontiguousarray(question.picture.load()))
            with replacing(folder / file) as temporary:
                picture.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)
        own = {name: getattr(question, name) for name in _FIELDS}
        entries.append({"picture": question.picture.picture_id, "file": file, **own})
    write_whole(folder / _QUESTIONS_FILE, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    for path in old - {folder / entry["file"] for entry in entries}:
        path.unlink()


def chosen_documents(num_questions: int = NUM_KEPT) -> list[EvaluationQuestion]:
    """Questions of the frozen set, picture by picture in the order of the digests of their names.

    Raises DataError where this machine has other typefaces than the frozen set was made with.
    """
    if fonts_digest() != read_manifest(DOCUMENTS_PATH).fonts_sha256:
        raise DataError("Expected the typefaces of the frozen set of documents, got others. Install them: make fonts.")
    questions = document_questions("test", limit_per_family=25, phrasing="train")
    return sorted(questions, key=_rank)[:num_questions]


def _rank(question: EvaluationQuestion) -> tuple[str, str]:
    return hashlib.sha256(question.picture.picture_id.encode()).hexdigest(), question.question_id


if __name__ == "__main__":
    keep(chosen_documents(), FOLDER)
