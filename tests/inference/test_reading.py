"""Fields of a document, asked one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fastvlm.inference.reading import FIELD_QUESTIONS, KIND_QUESTION, read_fields


@dataclass
class Knowing:
    """Answers from a table, and remembers what it was asked."""

    answers: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def ask(self, question: str, *, images: object) -> Any:
        assert images == "picture"
        self.asked.append(question)
        return SimpleNamespace(text=self.answers.get(question, "It is not shown."))


def test_the_kind_of_document_decides_what_is_asked() -> None:
    receipt = FIELD_QUESTIONS["receipt"]
    assistant = Knowing({KIND_QUESTION: "a receipt", receipt["total"]: "12.50 ", receipt["date"]: "1 May 2020"})
    found = read_fields(assistant, "picture")
    assert found == {"kind": "a receipt", **dict.fromkeys(receipt), "total": "12.50", "date": "1 May 2020"}
    assert assistant.asked == [KIND_QUESTION, *receipt.values()]


def test_other_kinds_have_no_fields_of_their_own() -> None:
    assert read_fields(Knowing({KIND_QUESTION: "a cat."}), "picture") == {"kind": "a cat"}


def test_own_questions_are_asked_instead() -> None:
    assistant = Knowing({"Who?": "Ada"})
    assert read_fields(assistant, "picture", {"who": "Who?", "when": "When?"}) == {"who": "Ada", "when": None}
    assert assistant.asked == ["Who?", "When?"]
