"""One evaluation from beginning to end: questions, answers, baselines, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal, get_args

from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.data.synthetic.documents.samples import DOCUMENTS_VERSION, DocumentSplit
from fastvlm.data.synthetic.samples import GENERATOR_VERSION
from fastvlm.errors import DataError
from fastvlm.evaluation.baselines import Guesses, most_frequent_answers, num_correct_guesses
from fastvlm.evaluation.manifest import MANIFESTS, read_manifest
from fastvlm.evaluation.provenance import describe_machine, identify_model, installed_versions
from fastvlm.evaluation.questions import EvaluationQuestion, pictures_of, questions_digest
from fastvlm.evaluation.report import (
    CONFIDENCES,
    Conditions,
    Coverage,
    FamilyResult,
    Mistake,
    ModelIdentity,
    PictureResult,
    Report,
)
from fastvlm.evaluation.runner import Answerer, AssistantAnswerer, Baseline, Outcome, evaluate
from fastvlm.evaluation.scores import Accuracy, similarity
from fastvlm.evaluation.tasks.box_scenes import HUMAN_FAMILY, box_questions
from fastvlm.evaluation.tasks.documents import document_questions
from fastvlm.evaluation.tasks.photographs import photograph_questions
from fastvlm.evaluation.tasks.receipts import receipt_questions
from fastvlm.evaluation.tasks.rendered import rendered_questions
from fastvlm.evaluation.tasks.scenes import scene_questions
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.reading import is_refusal

Task = Literal[
    "scenes", "scenes-dev", "boxes", "documents", "documents-unseen", "documents-combined", "documents-rendered",
    "documents-dev", "receipts", "photographs",
]  # fmt: skip
"""scenes, documents: the test split, for reports. scenes-dev, documents-dev: another, for choosing between models.
documents-unseen: designs of type, words, layouts and some numbers that training never shows. documents-combined:
kinds in formats that training shows of other kinds. documents-rendered: by other programs, laid out by another author.
boxes, receipts: a folder. photographs: a folder of pictures of anything else, about which nothing is known."""

TASKS: tuple[Task, ...] = get_args(Task)

_DOCUMENT_SPLITS: Mapping[Task, DocumentSplit] = {
    "documents": "test",
    "documents-unseen": "unseen",
    "documents-combined": "combined",
    "documents-dev": "dev",
}

FOLDER_TASKS: Mapping[Task, Callable[..., list[EvaluationQuestion]]] = {
    "boxes": box_questions,
    "receipts": receipt_questions,
    "photographs": photograph_questions,
}

Phase = Literal["answers", "grey pictures", "shuffled pictures"]

SuiteProgress = Callable[[Phase, int, int], None]
"""Called with what is being asked, the number of questions that are answered, and of all in this phase."""

DEFAULT_LIMIT_PER_FAMILY = 500
_TRAINING_QUESTIONS_PER_FAMILY = 400
_MISTAKES_PER_FAMILY = 4


@dataclass(frozen=True)
class QuestionSet:
    """What a task asks.

    asked: the questions. unseen: the same in held-out phrasings, as far as there are such. guesses: the majority
    answer of each kind of question, counted in majority_source. apart: families that do not count for the last row,
    overall_name. has_refusals: whether some have no answer, so that those that have one count as refused. is_read:
    whether answers are read letter by letter, so that how near they come is told too. has_baselines: whether grey and
    other pictures have other right answers.
    """

    asked: Sequence[EvaluationQuestion]
    unseen: Sequence[EvaluationQuestion]
    guesses: Guesses
    majority_source: str
    apart: frozenset[str] = frozenset()
    overall_name: str = "overall"
    generator_version: int = GENERATOR_VERSION
    has_refusals: bool = False
    is_read: bool = False
    has_baselines: bool = True


@dataclass(frozen=True, kw_only=True)
class _Outcomes:
    """All that was answered; empty where it was not asked."""

    seen: Sequence[Outcome]
    unseen: Sequence[Outcome]
    blind: Sequence[Outcome]
    shuffled: Sequence[Outcome]


def run_suite(
    assistant: Assistant,
    *,
    task: Task = "scenes",
    data: Path | None = None,
    limit_per_family: int = DEFAULT_LIMIT_PER_FAMILY,
    with_baselines: bool = True,
    report: SuiteProgress = lambda _phase, _done, _total: None,
    model: str | Path | None = None,
) -> Report:
    """Evaluate a model.

    data: the folder of a task about other people's pictures. limit_per_family: questions of each family at most.
    with_baselines: whether to ask again with grey and with shuffled pictures, which takes three times as long. report:
    called with progress. model: what the assistant was loaded from, for its name and the checksums of its weights.
    Raises DataError for a task without its data.
    """
    identity = identify_model(model)
    questions = question_set(task, data=data, limit_per_family=limit_per_family)
    return measure(
        AssistantAnswerer(assistant),
        questions,
        task=task,
        identity=identity,
        runtime=assistant.runtime.name + ("" if assistant.closer_look is None else ", closer look where unsure"),
        with_baselines=with_baselines,
        report=report,
    )


def question_set(task: Task, *, data: Path | None, limit_per_family: int) -> QuestionSet:
    """Make the questions of a task. Raises DataError for what cannot be asked."""
    if task not in TASKS:
        raise DataError(f"Expected a task of {', '.join(TASKS)}, got {task!r}.")
    if limit_per_family < 1:
        raise DataError(f"Expected at least 1 question for each family, got {limit_per_family}.")
    if task in FOLDER_TASKS:
        if data is None:
            raise DataError(f"Expected the folder of the pictures for the task {task}, got none. Give it with --data.")
        return _questions_of_a_folder(task, data, limit_per_family)
    if data is not None:
        raise DataError(f"Expected no folder for the task {task}, whose pictures are generated. Leave --data out.")
    if task == "documents-rendered" or task in _DOCUMENT_SPLITS:
        split = _DOCUMENT_SPLITS.get(task)
        make = rendered_questions if split is None else partial(document_questions, split)
        return QuestionSet(
            make(limit_per_family=limit_per_family, phrasing="train"),
            make(limit_per_family=limit_per_family, phrasing="held_out"),
            _document_guesses(),
            "the training split",
            generator_version=DOCUMENTS_VERSION,
            has_refusals=True,
            is_read=True,
        )
    scenes: Literal["test", "dev"] = "test" if task == "scenes" else "dev"
    return QuestionSet(
        scene_questions(scenes, limit_per_family=limit_per_family, phrasing="train"),
        scene_questions(scenes, limit_per_family=limit_per_family, phrasing="held_out"),
        _training_guesses(),
        "the training split",
    )


def _questions_of_a_folder(task: Task, data: Path, limit_per_family: int) -> QuestionSet:
    make = FOLDER_TASKS[task]
    asked = make(data, limit_per_family=limit_per_family, phrasing="train")
    unseen = make(data, limit_per_family=limit_per_family, phrasing="held_out")
    # No training data has the frequencies of other people's pictures; no constant guess does better than this.
    guesses, source = most_frequent_answers(asked), "these questions themselves, in hindsight"
    if task == "boxes":
        apart = frozenset({HUMAN_FAMILY})
        return QuestionSet(asked, unseen, guesses, source, apart=apart, overall_name="all from boxes")
    if task == "photographs":
        source = "these questions: whoever always refuses is always right here, but see the false refusals of documents"
        return QuestionSet(asked, unseen, guesses, source, has_baselines=False)
    return QuestionSet(asked, unseen, guesses, source, is_read=True)


def measure(
    answerer: Answerer,
    questions: QuestionSet,
    *,
    task: Task,
    identity: ModelIdentity,
    runtime: str,
    with_baselines: bool,
    report: SuiteProgress = lambda _phase, _done, _total: None,
) -> Report:
    """Ask all questions of a set, with the baselines if wanted, and put the results together."""
    started_s = time.perf_counter()

    def ask(phase: Phase, asked: Sequence[EvaluationQuestion], baseline: Baseline = "none") -> tuple[Outcome, ...]:
        return tuple(
            evaluate(answerer, asked, baseline=baseline, report=lambda done, total: report(phase, done, total))
        )

    with_baselines = with_baselines and questions.has_baselines
    can_shuffle = len(pictures_of(questions.asked)) > 1
    # In one go, so that what is read of a picture serves both phrasings.
    told = ask("answers", [*questions.asked, *questions.unseen])
    found = _Outcomes(
        seen=told[: len(questions.asked)],
        unseen=told[len(questions.asked) :],
        blind=ask("grey pictures", questions.asked, "grey") if with_baselines else (),
        shuffled=ask("shuffled pictures", questions.asked, "shuffled") if with_baselines and can_shuffle else (),
    )
    families = list(dict.fromkeys(question.family for question in questions.asked))
    counted = set(families) - questions.apart
    conditions = Conditions(
        questions_sha256=questions_digest([*questions.asked, *questions.unseen]),
        frozen_set=_frozen_set(questions),
        generator_version=questions.generator_version,
        majority_source=questions.majority_source,
        runtime=runtime,
        machine=describe_machine(),
        versions=installed_versions(),
        seconds=time.perf_counter() - started_s,
        num_asked=len(found.seen) + len(found.unseen) + len(found.blind) + len(found.shuffled),
    )
    return Report(
        task=task,
        model=identity,
        families=tuple(_family_result(family, {family}, questions, found) for family in families),
        overall=_family_result(questions.overall_name, counted, questions, found),
        pictures=_picture_results([outcome for outcome in found.seen if outcome.question.family in counted]),
        mistakes=tuple(mistake for family in families for mistake in _mistakes(family, found.seen)),
        false_refusals=_false_refusals(found.seen) if questions.has_refusals else None,
        coverage=coverage([outcome for outcome in found.seen if outcome.question.family in counted]),
        conditions=conditions,
    )


def _false_refusals(outcomes: Sequence[Outcome]) -> Accuracy:
    """How many of the questions that a picture answers were answered as if it did not."""
    answerable = [outcome for outcome in outcomes if not is_refusal(outcome.question.answer)]
    return Accuracy(sum(is_refusal(outcome.answer) for outcome in answerable), len(answerable))


def coverage(outcomes: Sequence[Outcome]) -> tuple[Coverage, ...]:
    """How right a model is where it is confident, for several limits; those that no answer reaches are left out."""
    points = []
    for limit in CONFIDENCES:
        sure = [outcome for outcome in outcomes if outcome.confidence is not None and outcome.confidence >= limit]
        if sure:
            right = Accuracy(sum(outcome.is_correct for outcome in sure), len(sure))
            points.append(Coverage(limit, len(sure) / len(outcomes), right))
    return tuple(points)


@cache
def _training_guesses() -> Guesses:
    training = scene_questions("train", limit_per_family=_TRAINING_QUESTIONS_PER_FAMILY, phrasing="train")
    return most_frequent_answers(training)


@cache
def _document_guesses() -> Guesses:
    return most_frequent_answers(
        document_questions("train", limit_per_family=_TRAINING_QUESTIONS_PER_FAMILY, phrasing="train")
    )


def _family_result(name: str, families: set[str], questions: QuestionSet, found: _Outcomes) -> FamilyResult:
    own = [outcome for outcome in found.seen if outcome.question.family in families]
    asked = [outcome.question for outcome in own]
    rephrased = families & {outcome.question.family for outcome in found.unseen}
    return FamilyResult(
        family=name,
        accuracy=_accuracy(found.seen, families),
        majority=Accuracy(num_correct_guesses(asked, questions.guesses), len(asked)),
        blind=_accuracy(found.blind, families) if found.blind else None,
        shuffled=_accuracy(found.shuffled, families) if found.shuffled else None,
        unseen=_accuracy(found.unseen, families) if rephrased else None,
        unseen_base=_accuracy(found.seen, rephrased) if rephrased else None,
        similarity=similarity([outcome.answer for outcome in own], [question.answer for question in asked])
        if questions.is_read
        else None,
    )


def _accuracy(outcomes: Sequence[Outcome], families: set[str]) -> Accuracy:
    chosen = [outcome for outcome in outcomes if outcome.question.family in families]
    return Accuracy(sum(outcome.is_correct for outcome in chosen), len(chosen))


def _picture_results(outcomes: Sequence[Outcome]) -> tuple[PictureResult, ...]:
    results = []
    for kind in dict.fromkeys(outcome.question.picture.kind for outcome in outcomes):
        chosen = [outcome for outcome in outcomes if outcome.question.picture.kind == kind]
        results.append(PictureResult(kind, Accuracy(sum(outcome.is_correct for outcome in chosen), len(chosen))))
    return tuple(results)


def _mistakes(family: str, outcomes: Sequence[Outcome]) -> list[Mistake]:
    def rank(outcome: Outcome) -> str:
        return hashlib.sha256(outcome.question.question_id.encode()).hexdigest()

    wrong = [outcome for outcome in outcomes if not outcome.is_correct and outcome.question.family == family]
    return [
        Mistake(entry.question.question_id, entry.question.text, entry.question.answer, entry.answer)
        for entry in sorted(wrong, key=rank)[:_MISTAKES_PER_FAMILY]
    ]


def _frozen_set(questions: QuestionSet) -> str | None:
    found = [_frozen_name(questions_digest(asked)) for asked in (questions.asked, questions.unseen)]
    return " and ".join(name for name in found if name) if all(found) else None


def _frozen_name(digest: str) -> str | None:
    """The name of the frozen set with these words; the same words in other typefaces are other pictures."""
    for manifest in map(read_manifest, MANIFESTS):
        for name, entry in manifest.sets.items():
            if entry.questions_sha256 == digest and manifest.fonts_sha256 in (None, fonts_digest()):
                return name
    return None
