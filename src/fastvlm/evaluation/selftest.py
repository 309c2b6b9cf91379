"""Whether the embedded model answers on this machine as it did where it was measured: 200 frozen questions.

Half are about scenes, which are drawn anew, half about documents, whose pictures are kept in the package.

`python -m fastvlm.evaluation.selftest` measures anew, which belongs with new weights only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fastvlm.errors import DataError
from fastvlm.evaluation.kept import kept_documents
from fastvlm.evaluation.manifest import frozen_questions
from fastvlm.evaluation.questions import EvaluationQuestion, questions_digest
from fastvlm.evaluation.runner import Answerer, AssistantAnswerer, evaluate
from fastvlm.evaluation.scores import Accuracy
from fastvlm.files import write_whole

EXPECTED_PATH = Path(__file__).parent / "manifests" / "selftest.json"
NUM_QUESTIONS = 200


@dataclass(frozen=True)
class SelfTest:
    """expected: right answers where the weights were measured. found: here."""

    expected: Accuracy
    found: Accuracy

    @property
    def is_passed(self) -> bool:
        """Whether the share found lies in the 95 % interval of the expected one."""
        interval = self.expected.interval
        return interval.low <= self.found.share <= interval.high


def selftest_questions() -> list[EvaluationQuestion]:
    """The questions, chosen from the frozen sets by the digests of their names."""
    documents = kept_documents()
    scenes = sorted(frozen_questions(25, "train"), key=lambda one: hashlib.sha256(one.question_id.encode()).hexdigest())
    return [*scenes[: NUM_QUESTIONS - len(documents)], *documents]


def run_selftest(answerer: Answerer) -> SelfTest:
    """Ask the questions. Raises DataError where this installation asks others than were measured."""
    stored = json.loads(EXPECTED_PATH.read_text(encoding="utf-8"))
    questions = selftest_questions()
    if questions_digest(questions) != stored["questions_sha256"]:
        raise DataError(
            "Expected the questions that the embedded model was measured on, got others. Install fastvlm again."
        )
    return SelfTest(Accuracy(stored["num_correct"], NUM_QUESTIONS), _accuracy(answerer, questions))


def _accuracy(answerer: Answerer, questions: list[EvaluationQuestion]) -> Accuracy:
    outcomes = evaluate(answerer, questions)
    return Accuracy(sum(outcome.is_correct for outcome in outcomes), len(outcomes))


def main() -> None:
    """Measure the embedded model and write what is expected from then on."""
    from fastvlm.inference.loading import load

    questions = selftest_questions()
    found = _accuracy(AssistantAnswerer(load(None)), questions)
    values = {"num_correct": found.num_correct, "questions_sha256": questions_digest(questions)}
    write_whole(EXPECTED_PATH, json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
