"""The time to the first token as whoever asks has it: of a loaded model about new pictures, and of a whole command."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table

from fastvlm.batches import UInt8Array
from fastvlm.benchmarks.commands import timed_ask
from fastvlm.benchmarks.report import FORMAT_VERSION
from fastvlm.benchmarks.runner import Spread
from fastvlm.errors import DataError
from fastvlm.evaluation.kept import kept_documents
from fastvlm.evaluation.provenance import describe_machine, identify_model, installed_versions
from fastvlm.evaluation.report import ModelIdentity
from fastvlm.inference.answers import Answer
from fastvlm.inference.assistant import Assistant
from fastvlm.inference.closer_look import CloserLook
from fastvlm.inference.loading import load

_NUM_WARM_UPS = 3


@dataclass(frozen=True, kw_only=True)
class AnswersReport:
    """Milliseconds, and what they were measured on.

    first_token_ms: from the call, with the picture in memory, to the first token of one look. answer_ms: to the last.
    closer_ms: whole answers where one look did not make a model sure and it looked closer; None where none did.
    command_ms: of `fastvlm ask` from its start to its end, one token long, with compiled graphs kept from before.
    visual_tokens: of the pictures.
    """

    model: ModelIdentity
    runtime: str
    num_threads: int
    first_token_ms: Spread
    answer_ms: Spread
    closer_ms: Spread | None
    command_ms: Spread
    visual_tokens: Spread
    machine: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    def __rich__(self) -> Table:
        """One line for each time."""
        table = Table(
            title=f"{self.model.name}: answers about documents, {self.num_threads} threads",
            caption=f"{self.runtime}; {self.machine}; {self.visual_tokens.median:.0f} visual tokens "
            f"({self.visual_tokens.low:.0f} to {self.visual_tokens.high:.0f})",
        )
        for heading in ("what", "ms", "quarter-points", "n"):
            table.add_column(heading, justify="left" if heading == "what" else "right")
        for name, spread in (
            ("first token, model loaded", self.first_token_ms),
            ("whole answer, model loaded", self.answer_ms),
            ("whole answer with a closer look", self.closer_ms),
            ("the command `ask`, one token", self.command_ms),
        ):
            if spread is None:
                continue
            table.add_row(name, f"{spread.median:.0f}", f"{spread.low:.0f} to {spread.high:.0f}", str(spread.n))
        return table


def measure_answers(
    model: str | None,
    *,
    num_questions: int,
    num_starts: int,
    num_threads: int,
    report: Callable[[str], None] = lambda _: None,
) -> AnswersReport:
    """Ask a model, or the embedded one, about kept documents, each picture once; then start the program so often.

    Raises GenerationError where a started program fails, DataError where fewer documents are kept than are to be asked.
    """
    questions = kept_documents()
    first_of_each = list({question.picture.picture_id: question for question in questions}.values())
    chosen = first_of_each[: num_questions + _NUM_WARM_UPS]
    if len(chosen) < num_questions + _NUM_WARM_UPS:
        most = len(first_of_each) - _NUM_WARM_UPS
        raise DataError(f"Expected at most {most} questions, as many pictures as are kept, got {num_questions}.")
    pictures = [question.picture.load() for question in chosen]
    report("asking")
    asked = [(question.text, picture) for question, picture in zip(chosen, pictures, strict=True)]
    assistant = load(model, num_threads=num_threads, closer_look=False)
    answers = _ask_all(assistant, asked)
    closer_ms: list[float] = []
    if answers and any(answer.is_unsure for answer in answers):
        report("asking with a closer look")
        closely = load(model, num_threads=num_threads)
        _ask_all(closely, asked)  # compiles what lines of all lengths need
        closely.closer_look = CloserLook(closely)  # that has read nothing yet
        closely.image_cache.clear()
        closer_ms = [
            closer.timings.total_ms
            for at_once, closer in zip(answers, _ask_all(closely, asked), strict=True)
            if closer.usage.visual_tokens > at_once.usage.visual_tokens
        ]
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder:
        file = Path(folder) / "picture.png"
        Image.fromarray(np.ascontiguousarray(pictures[0])).save(file)
        arguments = [str(file), chosen[0].text, "--threads", str(num_threads)]
        arguments += [] if model is None else ["--model", model]
        times_ms = []
        for number in range(num_starts + 1):
            report(f"start {number} of {num_starts}")
            times_ms.append(timed_ask(arguments)[1])
    return AnswersReport(
        model=identify_model(model),
        runtime=assistant.runtime.name,
        num_threads=num_threads,
        first_token_ms=Spread.of([answer.timings.first_token_ms for answer in answers]),
        answer_ms=Spread.of([answer.timings.total_ms for answer in answers]),
        closer_ms=Spread.of(closer_ms) if closer_ms else None,
        command_ms=Spread.of(times_ms[1:]),  # the first compiles what later ones find
        visual_tokens=Spread.of([answer.usage.visual_tokens for answer in answers]),
        machine=describe_machine(),
        versions=installed_versions(),
    )


def _ask_all(assistant: Assistant, asked: Sequence[tuple[str, UInt8Array]]) -> list[Answer]:
    """Ask about each picture, and leave the warm-ups out."""
    return [assistant.ask(question, images=picture) for question, picture in asked][_NUM_WARM_UPS:]
