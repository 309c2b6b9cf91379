"""Questions about documents: families, scores, the frozen sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import PIL
import pytest
from rich.console import Console

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.data.synthetic.documents.samples import DOCUMENTS_VERSION, DocumentSplit
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, FrozenSize, read_manifest
from fastvlm.evaluation.questions import fingerprint
from fastvlm.evaluation.report import ModelIdentity
from fastvlm.evaluation.runner import Reply
from fastvlm.evaluation.suite import QuestionSet, measure
from fastvlm.evaluation.tasks.documents import (
    FAMILIES,
    NOT_SHOWN_FAMILY,
    RELAXED_FAMILY,
    SHORT_LINE_CHARACTERS,
    document_questions,
)

ADVICE = "after a wanted change raise DOCUMENTS_VERSION and run: python -m fastvlm.evaluation.manifest documents"


def test_every_family_has_its_number_and_each_document_one_question_of_it() -> None:
    questions = document_questions("test", limit_per_family=6, phrasing="train")
    assert Counter(question.family for question in questions) == dict.fromkeys(FAMILIES, 6)
    assert set(Counter((question.picture.picture_id, question.family) for question in questions).values()) == {1}
    assert len({question.question_id for question in questions}) == len(questions)
    for question in questions:
        assert (question.score == "relaxed") == (question.family == RELAXED_FAMILY)
        assert (question.answer == NOT_SHOWN) == (question.family == NOT_SHOWN_FAMILY)
        if question.family == "short line":
            assert len(question.answer) <= SHORT_LINE_CHARACTERS
    assert (questions[0].picture.load() == questions[0].picture.load()).all()
    unseen = document_questions("test", limit_per_family=6, phrasing="held_out")
    asked = [
        [(one.picture.picture_id, one.family, one.kind, one.answer) for one in both] for both in (questions, unseen)
    ]
    assert asked[0] == asked[1], "the same questions in other words"
    assert not {question.text for question in questions} & {question.text for question in unseen}


def _check_frozen(split: DocumentSplit, size: FrozenSize) -> None:
    manifest = read_manifest(DOCUMENTS_PATH)
    assert manifest.generator_version == DOCUMENTS_VERSION, ADVICE
    if manifest.fonts_sha256 != fonts_digest():
        pytest.skip("documents are the same only on the typefaces that they were frozen with: make fonts")
    for phrasing in ("train", "held_out"):
        found = fingerprint(document_questions(split, limit_per_family=size, phrasing=phrasing))
        expected = manifest.sets[f"documents-{split}-{size}-{phrasing}"]
        assert found.questions_sha256 == expected.questions_sha256, ADVICE
        if manifest.pillow_version == PIL.__version__:
            assert found.pixels_sha256 == expected.pixels_sha256, ADVICE


@pytest.mark.parametrize("split", ["test", "unseen", "combined"])
def test_the_generator_still_gives_the_small_frozen_sets(split: DocumentSplit) -> None:
    _check_frozen(split, 25)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "unseen", "combined"])
def test_the_generator_still_gives_the_large_frozen_sets(split: DocumentSplit) -> None:
    _check_frozen(split, 500)


def test_the_frozen_sets_are_balanced() -> None:
    for name, entry in read_manifest(DOCUMENTS_PATH).sets.items():
        assert entry.num_questions == int(name.split("-")[2]) * len(FAMILIES)


class Refusing:
    """Answers everything with one sentence."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def answer(self, images: Sequence[UInt8Array], texts: Sequence[str]) -> list[Reply]:
        assert len(images) == len(texts)
        return [Reply(self._answer)] * len(texts)


@pytest.mark.parametrize(("answer", "refused"), [(NOT_SHOWN, 1.0), ("I can't tell.", 1.0), ("5", 0.0)])
def test_what_is_refused_without_need_is_counted(answer: str, refused: float) -> None:
    asked = document_questions("dev", limit_per_family=2, phrasing="train")
    questions = QuestionSet(asked, (), {}, "nothing", has_refusals=True, is_read=True)
    report = measure(
        Refusing(answer), questions, task="documents-dev", identity=ModelIdentity("none", ()), runtime="none",
        with_baselines=False,
    )  # fmt: skip
    assert report.false_refusals is not None
    assert report.false_refusals.share == refused
    assert report.false_refusals.num_questions == 2 * (len(FAMILIES) - 1)
    by_name = {family.family: family.accuracy.share for family in report.families}
    assert by_name[NOT_SHOWN_FAMILY] == (answer == NOT_SHOWN), "the words that are expected"
    assert report.to_json()["false_refusals"]["accuracy"] == refused  # type: ignore[index]
    near = next(family.similarity for family in report.families if family.family == NOT_SHOWN_FAMILY)
    is_expected = answer == NOT_SHOWN
    assert near is not None and near.anls == is_expected and (near.character_error_rate == 0) == is_expected
    console = Console(width=200)
    with console.capture() as text:
        console.print(report)
    assert "ANLS" in text.get() and "false refusals" in text.get()
