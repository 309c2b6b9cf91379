"""Documents that are kept with their pictures: what they look like depends on the typefaces of a machine otherwise.

`python -m fastvlm.evaluation.kept` makes them anew, where the typefaces are those of the frozen sets.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.errors import DataError
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, read_manifest
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.tasks.documents import document_questions
from fastvlm.files import replacing, write_whole

FOLDER = Path(__file__).parent / "kept"
_QUESTIONS_FILE = "questions.json"
_QUALITY = 90
"""Of JPEG: without loss the noise of the pictures would be most of the package's weight."""


def kept_documents(folder: Path = FOLDER) -> list[EvaluationQuestion]:
    """The questions about the kept pictures. Raises DataError where an installation lacks them."""
    try:
        entries = json.loads((folder / _QUESTIONS_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"Expected the pictures of the self-test in {folder}, got none. Install fastvlm again."
        ) from error
    return [_question(entry, folder) for entry in entries]


def _question(entry: dict[str, Any], folder: Path) -> EvaluationQuestion:
    fields = {name: value for name, value in entry.items() if name not in ("picture", "file")}
    picture = Picture(entry["picture"], "resized", partial(_pixels, folder / entry["file"]))
    return EvaluationQuestion(picture=picture, **fields)


def _pixels(path: Path) -> UInt8Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def keep(questions: list[EvaluationQuestion], folder: Path) -> None:
    """Write questions and the picture of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    entries = []
    for question in questions:
        file = question.picture.picture_id.replace("/", "-") + ".jpg"
        if not (folder / file).is_file():
            with replacing(folder / file) as temporary:
                picture = Image.fromarray(np.ascontiguousarray(question.picture.load()))
                picture.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)
        fields = ("question_id", "family", "kind", "text", "answer", "score")
        entries.append(
            {
                "picture": question.picture.picture_id,
                "file": file,
                **{name: getattr(question, name) for name in fields},
            }
        )
    write_whole(folder / _QUESTIONS_FILE, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def chosen_documents(num_questions: int) -> list[EvaluationQuestion]:
    """Questions of the frozen set, picture by picture in the order of the digests of their names.

    Raises DataError where this machine has other typefaces than the frozen set was made with.
    """
    if fonts_digest() != read_manifest(DOCUMENTS_PATH).fonts_sha256:
        raise DataError("Expected the typefaces of the frozen set of documents, got others. See docs/training.md.")
    questions = document_questions("test", limit_per_family=25, phrasing="train")
    ranked = sorted(questions, key=lambda one: (_digest(one.picture.picture_id), one.question_id))
    chosen: list[EvaluationQuestion] = []
    for _, asked in groupby(ranked, key=lambda one: one.picture.picture_id):
        chosen += asked
    return chosen[:num_questions]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


if __name__ == "__main__":
    keep(chosen_documents(100), FOLDER)
