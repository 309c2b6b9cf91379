"""When a model should say that something is not shown, and which of its answers are unsure: measured, and written down.

`python -m fastvlm.evaluation.calibration FOLDER 150` asks the documents of the split `dev`, 150 questions of each
family, and writes what it found into the folder's `config.json`. A third argument, such as "What does the line say?",
is what the model was taught to be asked about a line, so that it can look closer. A fine-tuned model has to be measured
anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.config import CONFIG_FILE, config_from_dict, config_to_dict
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.errors import DataError
from fastvlm.evaluation.questions import EvaluationQuestion
from fastvlm.evaluation.runner import BATCH_SIZE, AssistantAnswerer, Outcome, evaluate
from fastvlm.evaluation.suite import question_set
from fastvlm.files import write_whole
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.loading import load
from fastvlm.inference.reading import is_refusal
from fastvlm.inference.timings import Stopwatch
from fastvlm.messages import ImagePart, user
from fastvlm.processing.calibration import Calibration

MOST_FALSE_REFUSALS = 0.025
"""Of the questions that a picture answers: a little less than the 3 % that are aimed at, since others will be asked."""

_FINEST_BIAS = 0.05
_RANGE_OF_BIASES = 10.0


@dataclass(frozen=True)
class FirstScores:
    """Of N questions: by how much the token that begins a refusal is ahead of the best other one, where an answer
    begins, and whether the question has no answer."""

    margins: Float32Array
    is_unanswerable: Sequence[bool]


def first_scores(assistant: Assistant, questions: Sequence[EvaluationQuestion], token_id: int) -> FirstScores:
    """Ask, and look at the beginning of each answer alone."""
    margins = []
    for start in range(0, len(questions), BATCH_SIZE):
        clock, prompts = Stopwatch(), []
        for question in questions[start : start + BATCH_SIZE]:
            messages = (user(ImagePart(question.picture.load()), question.text),)
            visual_tokens = assistant.encode(assistant.read_images(messages, clock), clock)
            prompts.append(
                assistant.embed(assistant.build_prompt(messages, visual_tokens, clock), visual_tokens, clock)
            )
        logits, _ = assistant.runtime.prefill(prompts)
        others = np.delete(logits, token_id, axis=1).max(1)
        margins.append(logits[:, token_id] - others)
    return FirstScores(np.concatenate(margins), [is_refusal(question.answer) for question in questions])


def chosen_bias(scores: FirstScores) -> float:
    """The largest bias with which no more than `MOST_FALSE_REFUSALS` of the answerable questions are refused."""
    answerable = scores.margins[~np.array(scores.is_unanswerable, bool)]
    if not len(answerable):
        raise DataError("Expected questions that have an answer, got none. Ask more of each family.")
    biases = np.arange(-_RANGE_OF_BIASES, _RANGE_OF_BIASES + _FINEST_BIAS, _FINEST_BIAS)
    allowed = [bias for bias in biases if (answerable + bias > 0).mean() <= MOST_FALSE_REFUSALS]
    return round(float(max(allowed, default=-_RANGE_OF_BIASES)), 2)


def unsure_below(outcomes: Iterable[tuple[float, bool]]) -> float:
    """The highest tenth of confidence in which more answers were wrong than right, 0 where there is none.

    outcomes: confidence and whether the answer is right.
    """
    known = list(outcomes)
    for tenth in range(10, 0, -1):
        inside = [is_right for confidence, is_right in known if (tenth - 1) / 10 <= confidence < tenth / 10]
        if sum(inside) < len(inside) / 2:
            return tenth / 10
    return 0.0


def calibrate(folder: Path, *, limit_per_family: int, line_question: str | None = None) -> Calibration:
    """Measure a model and write what was found into its configuration.

    line_question: what the model was taught to be asked about a line that is cut out; that of an earlier calibration
    where none is given. What is found by a closer look is measured where there is one.
    """
    path = folder / CONFIG_FILE
    config = config_from_dict(json.loads(path.read_text(encoding="utf-8")), where=str(path))

    def write(found: Calibration) -> None:
        write_whole(path, json.dumps(config_to_dict(replace(config, calibration=found)), indent=2) + "\n")

    assistant = load(folder, closer_look=False)
    token_id = assistant.tokenizer.encode(NOT_SHOWN)[0]
    questions = question_set("documents-dev", data=None, limit_per_family=limit_per_family).asked
    bias = chosen_bias(first_scores(assistant, questions, token_id))
    if line_question is None and config.calibration is not None:
        line_question = config.calibration.line_question
    found = Calibration(refusal_token_id=token_id, refusal_bias=bias, line_question=line_question)
    write(found)
    outcomes = evaluate(AssistantAnswerer(load(folder, closer_look=False)), questions)
    found = replace(found, unsure_below=unsure_below(_judged(outcomes)))
    write(found)
    if line_question is not None:
        closer = evaluate(AssistantAnswerer(load(folder)), questions)
        # What was looked up is told by its confidence, which is another one.
        pairs = zip(outcomes, closer, strict=True)
        looked_up = [after for before, after in pairs if before.confidence != after.confidence]
        found = replace(found, found_unsure_below=unsure_below(_judged(looked_up)))
        write(found)
    return found


def _judged(outcomes: Iterable[Outcome]) -> list[tuple[float, bool]]:
    return [(outcome.confidence, outcome.is_correct) for outcome in outcomes if outcome.confidence is not None]


def main(folder: Path, limit_per_family: int, line_question: str | None = None) -> None:
    """Calibrate a model and tell what was found."""
    sys.stdout.write(f"{calibrate(folder, limit_per_family=limit_per_family, line_question=line_question)}\n")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not sys.argv[2].isdigit():
        sys.exit("Expected the folder of a model and a number of questions of each family, got something else.")
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
