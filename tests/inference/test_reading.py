"""Fields of a document, asked one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from fastvlm.data.synthetic.documents.form import KEYS
from fastvlm.data.synthetic.documents.phrasings import PHRASINGS
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.inference import reading
from fastvlm.inference.reading import FIELD_QUESTIONS, KIND_QUESTION, Fields, read_fields, read_text
from fastvlm.recipes.document_settings import NO_PICTURE_ANSWER, OUTSIDE_ANSWER


@dataclass
class Knowing:
    """Answers from a table, and remembers what it was asked."""

    answers: dict[str, str]
    asked: list[str] = field(default_factory=list)
    unsure: str = ""
    cut: str = ""

    def ask(self, question: str, *, images: object, max_new_tokens: int) -> Any:
        assert images == "picture" and max_new_tokens > 0
        self.asked.append(question)
        return SimpleNamespace(
            text=self.answers.get(question, "It is not shown."),
            is_unsure=self.answers.get(question) == self.unsure,
            finish_reason="length" if self.answers.get(question) == self.cut else "stop",
        )


def test_the_kind_of_document_decides_what_is_asked() -> None:
    receipt = FIELD_QUESTIONS["receipt"]
    assistant = Knowing({KIND_QUESTION: "a receipt", receipt["total"]: "12.50 ", receipt["date"]: "1 May 2020"})
    found = read_fields(assistant, "picture").values
    assert found == {"kind": "a receipt", **dict.fromkeys(receipt), "total": "12.50", "date": "1 May 2020"}
    assert assistant.asked == [KIND_QUESTION, *receipt.values()]


def test_other_kinds_have_no_fields_of_their_own() -> None:
    assert read_fields(Knowing({KIND_QUESTION: "a cat."}), "picture").values == {"kind": "a cat"}


def test_a_picture_of_no_known_kind_has_none() -> None:
    assistant = Knowing({KIND_QUESTION: OUTSIDE_ANSWER})
    assert read_fields(assistant, "picture") == Fields({"kind": None})
    assert assistant.asked == [KIND_QUESTION]


def test_an_unsure_kind_decides_nothing() -> None:
    assistant = Knowing({KIND_QUESTION: "a receipt"}, unsure="a receipt")
    assert read_fields(assistant, "picture") == Fields({"kind": None}, unsure=("kind",))
    assert assistant.asked == [KIND_QUESTION]


def test_own_questions_are_asked_instead() -> None:
    assistant = Knowing({"Who?": "Ada"})
    found = read_fields(assistant, "picture", {"who": "Who?", "when": "When?"})
    assert found == Fields({"who": "Ada", "when": None})
    assert assistant.asked == ["Who?", "When?"]


def test_what_a_model_is_unsure_of_is_left_out() -> None:
    assistant = Knowing({"Who?": "Ada", "When?": "1815"}, unsure="1815")
    found = read_fields(assistant, "picture", {"who": "Who?", "when": "When?"})
    assert found == Fields({"who": "Ada", "when": None}, unsure=("when",))


def test_one_value_that_is_cut_short_is_told_of_the_whole() -> None:
    questions = {"who": "Who?", "when": "When?"}
    assistant = Knowing({"Who?": "Ada Love", "When?": "1815"}, cut="Ada Love")
    found = read_fields(assistant, "picture", questions)
    assert found == Fields({"who": "Ada Love", "when": "1815"}, finish_reason="length")
    assert read_fields(Knowing(assistant.answers), "picture", questions).finish_reason == "stop"


def test_what_is_asked_is_what_models_are_trained_to_answer() -> None:
    """The words are written twice, since answering knows no generator; here they meet."""
    assert reading.READ_QUESTION in PHRASINGS["read"].train
    assert reading.CAPTION_QUESTION in PHRASINGS["caption"].train
    assert KIND_QUESTION in PHRASINGS["kind"].train
    for refusal in (NOT_SHOWN, OUTSIDE_ANSWER):
        assert refusal.lower().startswith(reading.REFUSALS)
    receipt = {
        phrasing.format(doc="receipt")
        for one in PHRASINGS.values()
        if "{thing}" not in str(one)
        for phrasing in one.train
        if phrasing.count("{") == phrasing.count("{doc}")
    }
    assert set(FIELD_QUESTIONS["receipt"].values()) <= receipt
    form = {"What is the title?"} | {f"What is the {key}?" for key in KEYS}
    assert set(FIELD_QUESTIONS["form"].values()) <= form


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Cafe Luna", "Cafe Luna"),
        (NO_PICTURE_ANSWER, ""),
        (OUTSIDE_ANSWER, ""),
        ("It is not shown.", ""),
        ("I see no reason to go", "I see no reason to go"),
    ],
)
def test_what_a_model_says_instead_of_text_is_none(said: str, text: str) -> None:
    answer = SimpleNamespace(text=said, confidence=0.9, is_unsure=False, finish_reason="stop", resolution=None)
    assistant: Any = SimpleNamespace(ask=lambda *_, **__: answer)
    assert read_text(assistant, "picture", None, max_new_tokens=8).text == text
