"""Documents kept with their pictures: what was frozen, and read back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.errors import DataError
from fastvlm.evaluation.kept import FOLDER, chosen_documents, keep, kept_documents
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, read_manifest
from fastvlm.evaluation.questions import EvaluationQuestion, Picture


def test_a_hundred_questions_of_the_test_split_are_kept() -> None:
    questions = kept_documents()
    assert len(questions) == 100 and len({question.question_id for question in questions}) == 100
    assert len({question.family for question in questions}) == 16
    assert all("/test/" in question.question_id for question in questions)
    files = {question.picture.picture_id.replace("/", "-") + ".jpg" for question in questions}
    assert files == {path.name for path in FOLDER.glob("*.jpg")}
    for question in questions:
        pixels = question.picture.load()
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and min(pixels.shape[:2]) >= 64


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    image = np.full((64, 128, 3), (40, 90, 200), np.uint8)
    picture = Picture("documents/test/1", "resized", lambda: image)
    questions = [
        EvaluationQuestion("a", picture, "sign", "says", "What does it say?", "Café 3 €"),
        EvaluationQuestion("b", picture, "chart value", "bar_value", "How much?", "12", "relaxed"),
    ]
    (tmp_path / "old.jpg").write_bytes(b"")
    keep(questions, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents-test-1.jpg", "questions.json"]
    found = kept_documents(tmp_path)
    assert found == questions
    assert np.abs(found[0].picture.load().astype(int) - image).max() <= 4


def test_an_installation_without_them_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^Expected questions\.json in"):
        kept_documents(tmp_path)
    (tmp_path / "questions.json").write_text('[{"picture": "a"}]')
    with pytest.raises(DataError, match=r"^Expected a question with its picture in .* entry 1"):
        kept_documents(tmp_path)


@pytest.mark.skipif(
    fonts_digest() != read_manifest(DOCUMENTS_PATH).fonts_sha256, reason="other typefaces than the frozen set's"
)
def test_what_is_kept_is_what_was_chosen_from_the_frozen_set() -> None:
    chosen, kept = chosen_documents(), kept_documents()
    assert chosen == kept, "pictures aside"
    for one, other in zip(chosen[::20], kept[::20], strict=True):
        assert np.abs(one.picture.load().astype(int) - other.picture.load()).mean() < 4
