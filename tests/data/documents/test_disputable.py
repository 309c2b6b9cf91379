"""What two people would answer differently is not asked."""

from __future__ import annotations

import random
import re

import pytest

from fastvlm.data.synthetic.documents import form, receipt
from fastvlm.data.synthetic.documents.document import Fact, Setting
from fastvlm.data.synthetic.documents.receipt import Item, Receipt
from fastvlm.data.synthetic.documents.samples import CANVASES, MAKERS, document_sample

RECEIPT = Receipt(
    shop="Anna's", date="2024-05-01", time=None, number=None, phone=None, address=None,
    items=(Item("tea", 1, 300), Item("milk", 2, 600), Item("bread", 1, 500)),
    tax_cents=None, payment=None, paid_cents=None, currency="£",
)  # fmt: skip
"""Two of milk at 3.00 are the dearest line, bread is the dearest thing, and tea costs what one milk does."""


def facts_of(layout: str, intent: str) -> list[Fact]:
    return [fact for fact in receipt._facts(RECEIPT, layout) if fact.intent == intent]


def test_prices_where_quantities_are_printed() -> None:
    for layout in sorted({*receipt.TRAIN_LAYOUTS, *receipt.HELD_OUT_LAYOUTS} - {*receipt._WITHOUT_QUANTITY}):
        assert {fact.slots["thing"] for fact in facts_of(layout, "price")} == {"tea", "bread"}, layout
        assert [fact.answer for fact in facts_of(layout, "costs")] == ["bread"], layout
        assert not facts_of(layout, "dearest"), layout
        assert len(facts_of(layout, "quantity")) == 3, layout


def test_prices_where_none_are() -> None:
    for layout in receipt._WITHOUT_QUANTITY:
        sign = "£" if layout == "numbered" else ""
        prices = {fact.slots["thing"]: fact.answer for fact in facts_of(layout, "price")}
        assert prices == {"tea": f"{sign}3.00", "milk": f"{sign}6.00", "bread": f"{sign}5.00"}, layout
        assert [fact.answer for fact in facts_of(layout, "dearest")] == ["milk"], layout
        assert not facts_of(layout, "quantity"), layout


def test_nothing_is_called_missing_where_a_number_could_be_meant() -> None:
    allowed = {"total": 0, "highest": 1, "lowest": 1}
    seen = 0
    for family in ("form", "sign", "page", "line"):
        for index in range(150):
            canvas = CANVASES[family][index % len(CANVASES[family])]  # type: ignore[index]
            sample = document_sample("train", index, family, canvas, num_questions=12, phrasing="train")  # type: ignore[arg-type]
            numbers = re.findall(r"\d+(?:[.,]\d+)*", sample.document.transcript)
            missing = {fact.intent for fact in sample.document.missing}
            for question in sample.questions:
                intent = question.phrasing_id.split("/")[0]
                if question.intent == "not_shown" and intent in allowed and intent not in missing:
                    assert len(numbers) <= allowed[intent], (intent, sample.document.transcript)
                    seen += 1
    assert seen > 20


def test_dates_and_prices_are_not_counted_as_words() -> None:
    seen = 0
    for index in range(200):
        document = MAKERS["line"](Setting(random.Random(index), 256, 64))
        for fact in document.facts:
            if fact.intent in ("num_words", "last_word"):
                assert all(word.isalpha() for word in document.transcript.split())
                seen += 1
    assert seen > 50


def test_a_line_says_no_more_than_its_axis() -> None:
    seen = 0
    for index in range(300):
        document = MAKERS["chart"](Setting(random.Random(index), 384, 256))
        answers = {fact.intent: fact.answer for fact in document.facts if not fact.slots}
        if answers["chart_kind"] == "line chart":
            numbers = [float(text.text) for text in document.drawing.texts if re.fullmatch(r"[\d.]+", text.text)]
            step = numbers[numbers.index(0) + 1]
            values = [float(fact.answer) for fact in document.facts if fact.intent == "bar_value"]
            assert all((2 * value / step) % 1 == pytest.approx(0, abs=1e-6) for value in values)
            seen += bool(values)
    assert seen > 20


@pytest.mark.parametrize(("num_boxes", "told"), [(0, ""), (1, " and 1 box to tick"), (3, " and 3 boxes to tick")])
def test_a_caption_counts_boxes_apart_from_fields(num_boxes: int, told: str) -> None:
    boxes = tuple((f"box {number}", False) for number in range(num_boxes))
    filled = form.Form("Visit", (("Name", "Ada"),), boxes)
    assert form._boxes(filled) == told
    assert any(fact.intent == "num_fields" for fact in form._facts(filled)) == (num_boxes == 0)
