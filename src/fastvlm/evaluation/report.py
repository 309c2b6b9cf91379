"""What an evaluation found, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvlm.errors import DataError
from fastvlm.evaluation.scores import Accuracy, Interval, Similarity
from fastvlm.files import write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

REPORT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FamilyResult:
    """One family of questions; None where something was not measured.

    accuracy: the model on the pictures. majority: always the most frequent answer to the kind of question. blind: the
    model on grey pictures. shuffled: the model on pictures of other scenes. unseen: the model on the pictures, with
    phrasings that it was not trained on. unseen_base: the model on the same questions in phrasings that it knows.
    similarity: how near its answers come, where they are read letter by letter.
    """

    family: str
    accuracy: Accuracy
    majority: Accuracy
    blind: Accuracy | None = None
    shuffled: Accuracy | None = None
    unseen: Accuracy | None = None
    unseen_base: Accuracy | None = None
    similarity: Similarity | None = None

    @property
    def unseen_difference(self) -> float | None:
        """What unseen phrasings change, as a share: negative where they cost."""
        if self.unseen is None or self.unseen_base is None:
            return None
        return self.unseen.share - self.unseen_base.share


@dataclass(frozen=True)
class PictureResult:
    """The accuracy on one sort of pictures: those in the model's own grid, or those that had to be resized."""

    kind: str
    accuracy: Accuracy


CONFIDENCES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Limits from which on answers count as confident."""

_SURE = CONFIDENCES[5]
"""The one that is told of."""


@dataclass(frozen=True)
class Coverage:
    """confidence: at least so much. share: of the answers with it. accuracy: of these answers."""

    confidence: float
    share: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, to look at."""

    question_id: str
    text: str
    expected: str
    answered: str


@dataclass(frozen=True)
class WeightFile:
    """A file of weights and the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class ModelIdentity:
    """Which model was asked. name: as it was given. weights: every file of weights, in the order of their names."""

    name: str
    weights: tuple[WeightFile, ...]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """On what the numbers were found, so that somebody else can find them again.

    questions_sha256: digest of all questions that were asked, both phrasings. frozen_set: the name of the committed
    manifest that they are, None where they are in none. majority_source: which answers were counted.
    """

    questions_sha256: str
    frozen_set: str | None
    generator_version: int
    majority_source: str
    runtime: str
    machine: str
    versions: Mapping[str, str]
    seconds: float
    num_asked: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole evaluation. mistakes: some of each family, chosen by the hash of their ids and not by hand.

    false_refusals: questions that a picture answers, answered as if it did not; None where no question has that answer.
    coverage: how right the answers are that the model is confident of, by rising limits.
    """

    task: str
    model: ModelIdentity
    families: tuple[FamilyResult, ...]
    overall: FamilyResult
    pictures: tuple[PictureResult, ...]
    mistakes: tuple[Mistake, ...]
    conditions: Conditions
    false_refusals: Accuracy | None = None
    coverage: tuple[Coverage, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The report as plain values; shares are from 0 to 1."""
        conditions = self.conditions
        return {
            "report_version": REPORT_VERSION,
            "task": self.task,
            "model": {
                "name": self.model.name,
                "weights": [{"file": file.name, "sha256": file.sha256} for file in self.model.weights],
            },
            "families": [_family_json(result) for result in self.families],
            "overall": _family_json(self.overall),
            "pictures": [{"kind": result.kind} | _accuracy_json(result.accuracy) for result in self.pictures],
            "mistakes": [
                {
                    "question_id": mistake.question_id,
                    "question": mistake.text,
                    "expected": mistake.expected,
                    "answered": mistake.answered,
                }
                for mistake in self.mistakes
            ],
            "false_refusals": None if self.false_refusals is None else _accuracy_json(self.false_refusals),
            "coverage": [
                {"confidence": point.confidence, "share": round(point.share, 6)} | _accuracy_json(point.accuracy)
                for point in self.coverage
            ],
            "questions": {
                "sha256": conditions.questions_sha256,
                "frozen_set": conditions.frozen_set,
                "generator_version": conditions.generator_version,
                "majority_source": conditions.majority_source,
            },
            "runtime": conditions.runtime,
            "machine": conditions.machine,
            "versions": dict(conditions.versions),
            "seconds": round(conditions.seconds, 3),
            "ms_per_question": round(1000 * conditions.seconds / max(conditions.num_asked, 1), 3),
        }

    def __rich__(self) -> RenderableType:
        """The report for `rich.print`: a table, and below it what the numbers stand on."""
        from rich.console import Group
        from rich.text import Text

        return Group(_table(self), *(Text(line, style="dim") for line in _notes(self)))


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON, complete or not at all. Raises DataError where that cannot be.

    A folder or a device in its place stays what it is.
    """
    try:
        write_whole(path, json.dumps(report.to_json(), indent=2) + "\n")
    except OSError as error:
        raise DataError(f"Cannot write the report {path}: {error.strerror}. Choose another place.") from error


def _family_json(result: FamilyResult) -> dict[str, object]:
    values: dict[str, object] = {"family": result.family} | _accuracy_json(result.accuracy)
    others = {
        "majority": result.majority,
        "blind": result.blind,
        "shuffled": result.shuffled,
        "unseen_phrasings": result.unseen,
    }
    for name, accuracy in others.items():
        values[name] = None if accuracy is None else _accuracy_json(accuracy)
    difference = result.unseen_difference
    values["unseen_difference"] = None if difference is None else round(difference, 6)
    if (near := result.similarity) is not None:
        values["anls"] = round(near.anls, 6)
        values["anls_interval_95"] = _interval_json(near.anls_interval)
        values["character_error_rate"] = round(near.character_error_rate, 6)
        values["character_error_rate_interval_95"] = _interval_json(near.error_interval)
    return values


def _interval_json(interval: Interval) -> list[float]:
    return [round(interval.low, 6), round(interval.high, 6)]


def _accuracy_json(accuracy: Accuracy) -> dict[str, object]:
    interval = accuracy.interval
    return {
        "n": accuracy.num_questions,
        "correct": accuracy.num_correct,
        "accuracy": round(accuracy.share, 6),
        "interval_95": _interval_json(interval),
    }


def _table(report: Report) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"{report.task}: {report.model.name}",
        box=SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("family")
    reads = any(result.similarity is not None for result in report.families)
    similarities = ("ANLS", "CER %") if reads else ()
    for heading in ("n", "right %", "95 %", "majority", "blind", "shuffled", "unseen", "+-", *similarities):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.families:
        table.add_row(*_cells(result), *_similarity_cells(result, is_wanted=reads))
    table.add_section()
    table.add_row(*_cells(report.overall), *_similarity_cells(report.overall, is_wanted=reads), style="bold")
    return table


def _similarity_cells(result: FamilyResult, *, is_wanted: bool) -> tuple[str, ...]:
    if not is_wanted:
        return ()
    near = result.similarity
    return ("", "") if near is None else (f"{near.anls:.3f}", f"{100 * near.character_error_rate:.1f}")


def _cells(result: FamilyResult) -> tuple[str, ...]:
    interval = result.accuracy.interval
    difference = result.unseen_difference
    return (
        result.family,
        str(result.accuracy.num_questions),
        _percent(result.accuracy),
        f"{100 * interval.low:.1f}-{100 * interval.high:.1f}",
        _percent(result.majority),
        _percent(result.blind),
        _percent(result.shuffled),
        _percent(result.unseen),
        "" if difference is None else f"{100 * difference:+.1f}",
    )


def _percent(accuracy: Accuracy | None) -> str:
    return "" if accuracy is None else f"{100 * accuracy.share:.1f}"


def _confident(point: Coverage) -> str:
    return f"{100 * point.share:.0f} % of the answers, {_percent(point.accuracy)} % of them right"


_COLUMNS = {
    "blind": "the same model sees grey",
    "shuffled": "it sees another picture",
    "unseen": "phrasings kept from training",
}
"""What columns mean that are not always measured."""


def _notes(report: Report) -> list[str]:
    conditions = report.conditions
    pictures = ", ".join(
        f"{result.kind} {_percent(result.accuracy)} % (n {result.accuracy.num_questions})" for result in report.pictures
    )
    versions = ", ".join(f"{name} {version}" for name, version in conditions.versions.items())
    per_question_ms = 1000 * conditions.seconds / max(conditions.num_asked, 1)
    refusals = report.false_refusals
    refused = [] if refusals is None else [f"false refusals: {_percent(refusals)} % of {refusals.num_questions}"]
    sure = next((point for point in report.coverage if point.confidence == _SURE), None)
    measured = [
        f"{name}: {meaning}"
        for name, meaning in _COLUMNS.items()
        if any(getattr(result, name) is not None for result in report.families)
    ]
    confident = [] if sure is None else [f"confident ({_SURE:g} or more): {_confident(sure)}"]
    return [
        *refused,
        *confident,
        "majority: always the most frequent answer to a kind of question, counted in " + conditions.majority_source,
        *(["; ".join(measured)] if measured else []),
        f"right by sort of picture: {pictures}",
        f"questions: {conditions.frozen_set or 'not a frozen set'}, sha256 {conditions.questions_sha256[:16]}, "
        f"generator version {conditions.generator_version}",
        "weights: " + (", ".join(f"{file.name} sha256 {file.sha256[:16]}" for file in report.model.weights) or "none"),
        f"{conditions.runtime}, {conditions.machine}, {versions}",
        f"{conditions.num_asked} answers in {conditions.seconds:.0f} s, {per_question_ms:.1f} ms each",
    ]
