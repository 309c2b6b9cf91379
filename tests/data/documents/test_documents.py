"""Generated documents: what is drawn is what is said to be true of them, in every split, for good."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from fastvlm.data.synthetic.documents import fonts, words
from fastvlm.data.synthetic.documents.document import Setting
from fastvlm.data.synthetic.documents.drawing import Text, text_width_px
from fastvlm.data.synthetic.documents.phrasings import CLAIMS, PHRASINGS
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN, sample_document_questions
from fastvlm.data.synthetic.documents.receipt import HELD_OUT_LAYOUTS, TRAIN_LAYOUTS
from fastvlm.data.synthetic.documents.samples import (
    CANVASES,
    FAMILY_WEIGHTS,
    MAKERS,
    DocumentSample,
    document_sample,
    family_of,
)

FAMILIES = tuple(MAKERS)
WRITTEN = (
    "total", "date", "time", "number", "phone", "address", "shop", "subtotal", "tax", "payment", "change", "price",
    "costs", "dearest", "value", "key", "cell", "largest_row", "smallest_row", "row_of", "axis", "highest", "lowest",
    "line", "after", "last_word",
)  # fmt: skip
"""Intents whose answers stand in the picture, letter by letter."""


def some(family: str, split: str = "train", *, num: int = 12, num_questions: int = 8) -> list[DocumentSample]:
    canvases = CANVASES[family]  # type: ignore[index]
    return [
        document_sample(
            split, index, family, canvases[index % len(canvases)], num_questions=num_questions, phrasing="train"  # type: ignore[arg-type]
        )
        for index in range(num)
    ]  # fmt: skip


@pytest.mark.parametrize(("family", "split"), list(product(FAMILIES, ("train", "unseen"))))
def test_everything_written_is_inside_the_picture(family: str, split: str) -> None:
    for sample in some(family, split):
        drawing = sample.document.drawing
        assert sample.image.shape == (drawing.height_px, drawing.width_px, 3)
        assert drawing.texts
        for text in drawing.texts:
            width_px = text_width_px(text.text, text.face, text.size_px, text.tracking_px)
            assert text.x_px >= -1 and text.x_px + width_px <= drawing.width_px + 1, (family, text)
            assert text.y_px - 0.6 * text.size_px >= 0 and text.y_px <= drawing.height_px, (family, text)


@pytest.mark.parametrize(("family", "split"), list(product(FAMILIES, ("train", "unseen"))))
def test_texts_do_not_run_into_each_other(family: str, split: str) -> None:
    for sample in some(family, split):
        boxes = [_box(text) for text in sample.document.drawing.texts]
        for number, one in enumerate(boxes):
            for other in boxes[number + 1 :]:
                overlap = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
                assert overlap[0] <= 1 or overlap[1] <= 1, (family, one, other)


def _box(text: Text) -> tuple[float, float, float, float, str]:
    width_px = text_width_px(text.text, text.face, text.size_px, text.tracking_px)
    return text.x_px, text.y_px - 0.6 * text.size_px, text.x_px + width_px, text.y_px, text.text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_index_is_the_same_document_for_good(family: str) -> None:
    first, again = some(family, num=3), some(family, num=3)
    other = some(family, "dev", num=3)
    for one, same, another in zip(first, again, other, strict=True):
        assert (one.image == same.image).all() and one.questions == same.questions
        assert one.document.transcript != another.document.transcript
    asked_otherwise = document_sample("train", 0, family, CANVASES[family][0], num_questions=2, phrasing="held_out")  # type: ignore[arg-type, index]
    assert (asked_otherwise.image == first[0].image).all(), "asking otherwise changes no pixel"


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_stand_in_the_picture(family: str) -> None:
    for sample in some(family):
        shown = "\n".join([sample.document.transcript, *(text.text for text in sample.document.drawing.texts)])
        for fact in sample.document.facts:
            if fact.intent in WRITTEN:
                assert fact.answer in shown, (family, fact)
            assert fact.answer not in fact.others


def test_receipts_add_up() -> None:
    for sample in some("receipt", num=40):
        facts = {fact.intent: fact.answer for fact in sample.document.facts if not fact.slots}
        total = next(fact.answer for fact in sample.document.facts if fact.intent == "total")
        prices = [fact.answer for fact in sample.document.facts if fact.intent == "price"]
        cents = sum(_cents(price) for price in prices)
        assert cents + _cents(facts.get("tax", "0.00")) == _cents(total)
        assert len(prices) == int(facts["num_items"])
        if "subtotal" in facts:
            assert _cents(facts["subtotal"]) == cents


def _cents(price: str) -> int:
    whole, part = price.split(".")
    return 100 * int(whole) + int(part)


def test_tables_know_their_extremes() -> None:
    checked = 0
    for sample in some("table", num=30):
        cells = {
            (f.slots["row"], f.slots["column"]): float(f.answer.rstrip("%"))
            for f in sample.document.facts
            if f.intent == "cell"
        }
        for fact in sample.document.facts:
            if fact.intent in ("largest_row", "smallest_row"):
                column = {row: value for (row, name), value in cells.items() if name == fact.slots["column"]}
                best = (max if fact.intent == "largest_row" else min)(column, key=column.__getitem__)
                assert fact.answer == best
                checked += 1
    assert checked > 40


def test_charts_draw_their_values() -> None:
    """A bar's length over the axis' length is its value over the last tick."""
    for sample in some("chart", num=40):
        values = [float(f.answer.rstrip("%")) for f in sample.document.facts if f.intent == "bar_value"]
        highest = [f.answer for f in sample.document.facts if f.intent == "highest"]
        if highest and values:
            by_name = {
                f.slots["name"]: float(f.answer.rstrip("%")) for f in sample.document.facts if f.intent == "bar_value"
            }
            assert max(by_name, key=by_name.__getitem__) == highest[0]


def test_what_is_not_shown_is_not_a_fact() -> None:
    seen = 0
    for family in FAMILIES:
        for sample in some(family, num=20, num_questions=10):
            known = {(fact.intent, tuple(fact.slots.items())) for fact in sample.document.facts}
            for fact in sample.document.missing:
                assert (fact.intent, tuple(fact.slots.items())) not in known
            intents = {fact.intent for fact in sample.document.missing}
            for question in sample.questions:
                if question.intent == "not_shown":
                    assert question.answer == NOT_SHOWN and question.phrasing_id.split("/")[0] in intents
                    seen += 1
    assert seen > 20


def test_statements_are_as_often_true_as_not() -> None:
    answers = Counter(
        question.answer
        for family in FAMILIES
        for sample in some(family, num=120, num_questions=10)
        for question in sample.questions
        if question.intent == "statement"
    )
    assert answers.keys() == {"yes", "no"} and 0.8 < answers["yes"] / answers["no"] < 1.25, answers


def test_families_come_by_their_weights() -> None:
    counts = Counter(family_of("train", index)[0] for index in range(4000))
    for family, weight in FAMILY_WEIGHTS.items():
        assert counts[family] / 4000 == pytest.approx(weight, abs=0.03)
    assert all(width % 64 == 0 and height % 64 == 0 for sizes in CANVASES.values() for width, height in sizes)


def test_unseen_words_numbers_typefaces_and_layouts_are_unseen() -> None:
    for family in FAMILIES:
        for sample in some(family, num=10):
            for text in sample.document.drawing.texts:
                assert not fonts.is_held_out(text.face.typeface.name) or len(fonts.faces_of("train")) == 1
    for word in words.COMMON:
        assert words.is_held_out(word) == words.is_held_out(word.upper())
    rng = random.Random(0)
    for split in ("train", "held_out"):
        assert all(words.is_held_out(words.any_word(rng, split)) == (split == "held_out") for _ in range(200))
    assert not set(TRAIN_LAYOUTS) & set(HELD_OUT_LAYOUTS)
    for sample in some("receipt", "unseen", num=20):
        total = next(fact.answer for fact in sample.document.facts if fact.intent == "total")
        assert float(total) >= 1000
    for sample in some("receipt", num=20):
        assert float(next(fact.answer for fact in sample.document.facts if fact.intent == "total")) < 1000


def test_invented_words_do_not_offend() -> None:
    rng = random.Random(1)
    assert not any("sex" in words.invented_word(rng, "train") for _ in range(3000))


def test_phrasings_are_many_and_held_out_ones_begin_otherwise() -> None:
    assert len(PHRASINGS) >= 40
    for intent, phrasings in PHRASINGS.items():
        assert 7 <= len(phrasings.train) <= 25 and len(phrasings.held_out) >= 2, intent
        heads = {_head(text) for text in phrasings.train}
        assert not heads & {_head(text) for text in phrasings.held_out}, intent
    asked = {fact.intent for family in FAMILIES for sample in some(family, num=40) for fact in sample.document.facts}
    assert asked <= PHRASINGS.keys() and CLAIMS.keys() <= asked


def _head(text: str) -> str:
    return " ".join(re.findall(r"[\w{}]+", text.lower())[:3])


def test_held_out_phrasings_are_used_where_asked() -> None:
    sample = some("form", num=1)[0]
    questions = sample_document_questions(sample.document, random.Random(0), num_questions=8, phrasing="held_out")
    assert len(questions) == 8 and all("/held_out/" in question.phrasing_id for question in questions)


def test_any_machine_has_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_font_folders", lambda: iter(()))
    fonts.installed_faces.cache_clear()
    try:
        (face,) = fonts.installed_faces()
        assert face.path is None and face.typeface.name == fonts.BUILT_IN
        setting = Setting(random.Random(0), 320, 256)
        for family in FAMILIES:
            assert MAKERS[family](setting).drawing.texts
    finally:
        fonts.installed_faces.cache_clear()


def test_degraded_pictures_differ_and_keep_their_shape() -> None:
    clean = document_sample("train", 1, "page", (320, 256), num_questions=0, phrasing="train", is_degraded=False).image
    worsened = [
        document_sample("train", 1, "page", (320, 256), num_questions=0, phrasing="train").image for _ in range(2)
    ]
    assert (worsened[0] == worsened[1]).all() and worsened[0].shape == clean.shape and worsened[0].dtype == np.uint8
