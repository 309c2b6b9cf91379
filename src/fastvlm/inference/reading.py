"""What is asked of a document as a whole: its text, a caption, and the fields that such documents have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from fastvlm.batches import FinishReason
from fastvlm.inference.answers import Answer
from fastvlm.inference.latency import ChosenResolution
from fastvlm.inference.page import Page, ReadLine
from fastvlm.processing.images import read_image

READ_QUESTION = "Read the text."
LEAST_LINES_READ_CLOSELY = 6
"""A picture with fewer lines is read at one look, which knows of longer lines and of slanted ones."""

_LEAST_CONFIDENCE = 0.01

CAPTION_QUESTION = "Describe the picture."
KIND_QUESTION = "What kind of document is this?"
NOT_SHOWN = "It is not shown."
REFUSALS = ("it is not shown", "i can't tell")
"""How the embedded model begins to say that a document has no such field, or that it knows none."""

_SEES_NOTHING = "i see no picture"

FIELD_QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "receipt": {
        "shop": "What is the name of the shop?", "date": "What is the date?", "time": "What is the time?",
        "number": "What is the receipt number?", "total": "What is the total?", "tax": "How much is the tax?",
        "payment": "How was it paid?", "phone": "What is the phone number?", "address": "What is the address?",
    },
    "form": {
        "title": "What is the title?", "name": "What is the Name?", "date": "What is the Date?",
        "phone": "What is the Phone?", "email": "What is the Email?", "address": "What is the Address?",
        "city": "What is the City?", "amount": "What is the Amount?", "reference": "What is the Reference?",
    },
}  # fmt: skip
"""By kind of document, the question for each field."""


def is_refusal(answer: str) -> bool:
    """Whether an answer says that there is none."""
    return answer.strip().lower().startswith(REFUSALS)


def is_text(answer: str) -> bool:
    """Whether an answer is what a line says, and not that there is none."""
    return bool(answer.strip()) and not is_refusal(answer) and not answer.lower().startswith(_SEES_NOTHING)


@dataclass(frozen=True)
class Fields:
    """Fields of a document by name. values: None for what it does not show, or what the model is unsure of.

    unsure: the names of the latter, in the order they were asked. finish_reason: `length` where the answer to one or
    more of the questions was cut short.
    """

    values: Mapping[str, str | None]
    unsure: tuple[str, ...] = ()
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True)
class ReadText:
    """The text of a picture, a row of it a line.

    confidence: of the whole where it was read at one look, of the median line where it was read line by line. lines:
    those lines, none where it was read at one look. finish_reason: `length` where the text was cut short. resolution:
    of the picture where a time to first token was to be kept.
    """

    text: str
    confidence: float
    is_unsure: bool
    finish_reason: FinishReason
    lines: tuple[ReadLine, ...] = ()
    resolution: ChosenResolution | None = None


class ReadsLines(Protocol):
    """Whoever reads pictures line by line: the closer look of an assistant."""

    def read(self, source: object) -> Page:
        """Read all lines of a picture."""

    def how_sure_of_no_text(self, source: object) -> float | None:
        """Tell how sure it is that a picture shows no text; None where it may have some."""

    def is_unsure(self, confidence: float) -> bool:
        """Whether what is read with so much confidence is more often wrong than right."""


class Asks(Protocol):
    """Whoever answers a question about pictures: an assistant."""

    def ask(self, question: str, *, images: object, max_new_tokens: int) -> Answer:
        """Answer a question about one picture in so many tokens at most."""


def read_text(assistant: Asks, image: object, closer_look: ReadsLines | None, *, max_new_tokens: int) -> ReadText:
    """Read the text of a picture: line by line where it has many and the model can, at one look otherwise.

    Of drawn shapes, an empty page, or where the model says that it sees nothing to read, it is empty.
    """
    if closer_look is not None:
        image = read_image(image)  # once: it may come by a pipe
        sure_of_none = closer_look.how_sure_of_no_text(image)
        if sure_of_none is not None:
            return ReadText("", sure_of_none, is_unsure=False, finish_reason="stop")
        page = closer_look.read(image)
        if len(page.lines) >= LEAST_LINES_READ_CLOSELY:
            confidence = median(line.confidence for line in page.lines)
            # What cannot be read at all is written down on and on; only a line that means something was cut short.
            is_cut = any(line.is_cut and line.confidence >= _LEAST_CONFIDENCE for line in page.lines)
            finish_reason: FinishReason = "length" if is_cut else "stop"
            is_unsure = closer_look.is_unsure(confidence)
            return ReadText(page.text, confidence, is_unsure, finish_reason, tuple(page.lines))
    answer = assistant.ask(READ_QUESTION, images=image, max_new_tokens=max_new_tokens)
    text = answer.text if is_text(answer.text) else ""
    return ReadText(text, answer.confidence, answer.is_unsure, answer.finish_reason, resolution=answer.resolution)


def read_fields(
    assistant: Asks, image: object, questions: Mapping[str, str] | None = None, *, max_new_tokens: int = 64
) -> Fields:
    """Ask for the fields of a document, one by one.

    questions: by name of the field. Without them the kind of document decides, which is asked first and is the field
    `kind`; a kind without fields of its own, or that is not known, has no other. The picture is encoded once.
    """

    found: dict[str, str | None] = {}
    unsure: list[str] = []
    finish_reason: FinishReason = "stop"

    def value_of(name: str, question: str) -> str | None:
        nonlocal finish_reason
        answer = assistant.ask(question, images=image, max_new_tokens=max_new_tokens)
        if answer.finish_reason == "length":
            finish_reason = "length"
        if answer.is_unsure:
            unsure.append(name)
        return None if is_refusal(answer.text) or answer.is_unsure else answer.text.strip()

    if questions is None:
        value = value_of("kind", KIND_QUESTION)
        found["kind"] = kind = None if value is None else value.rstrip(".")
        known = next((name for name in FIELD_QUESTIONS if name in (kind or "").lower().split()), None)
        questions = FIELD_QUESTIONS[known] if known is not None else {}
    for name, question in questions.items():
        found[name] = value_of(name, question)
    return Fields(found, tuple(unsure), finish_reason)
