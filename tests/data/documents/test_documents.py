"""Generated documents: what is drawn is what is said to be true of them, in every split, for good."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fastvlm.data.synthetic.documents import fonts, form, page, receipt, table, words
from fastvlm.data.synthetic.documents.chart import HELD_OUT_PALETTES, PALETTES
from fastvlm.data.synthetic.documents.degrade import degrade
from fastvlm.data.synthetic.documents.document import Document, Setting
from fastvlm.data.synthetic.documents.drawing import Drawing, Rectangle, Text, is_legible
from fastvlm.data.synthetic.documents.phrasings import CLAIMS, PHRASINGS
from fastvlm.data.synthetic.documents.questions import FOREIGN, LONGEST_TRANSCRIPT, NOT_SHOWN, sample_document_questions
from fastvlm.data.synthetic.documents.samples import (
    CANVASES,
    COMBINED_CANVASES,
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


def drawn(family: str, split: str, *, num: int) -> list[Document]:
    """Documents without their pixels."""
    canvases = CANVASES[family]  # type: ignore[index]
    held_out = "held_out" if split == "unseen" else "train"
    return [
        MAKERS[family](Setting(random.Random(index), *canvases[index % len(canvases)], held_out, held_out, held_out))  # type: ignore[index, arg-type]
        for index in range(num)
    ]


@pytest.mark.parametrize(("family", "split"), list(product(FAMILIES, ("train", "unseen"))))
def test_everything_written_is_inside_the_picture_and_beside_the_rest(family: str, split: str) -> None:
    """What is not is drawn again, which is seldom needed."""
    documents = drawn(family, split, num=300)
    assert sum(is_legible(document.drawing) for document in documents) > 270
    for sample in some(family, split, num=30):
        drawing = sample.document.drawing
        assert sample.image.shape == (drawing.height_px, drawing.width_px, 3)
        assert is_legible(drawing)


def test_what_is_cut_off_or_written_over_is_not_legible() -> None:
    face = fonts.installed_faces()[0]
    text = Text("Total", face, 20, 10, 40)
    assert is_legible(Drawing(100, 60, (255, 255, 255), (text,)))
    for other in (
        replace(text, x_px=70), replace(text, y_px=8), replace(text, y_px=61), replace(text, x_px=-4),
    ):  # fmt: skip
        assert not is_legible(Drawing(100, 60, (255, 255, 255), (other,))), other
    assert not is_legible(Drawing(100, 60, (255, 255, 255), (text, replace(text, text="9.00", x_px=30, y_px=44))))
    assert not is_legible(Drawing(100, 60, (255, 255, 255)))


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
    checked = 0
    for document in drawn("receipt", "train", num=200):
        facts = {fact.intent: fact.answer for fact in document.facts if not fact.slots}
        prices = [fact.answer for fact in document.facts if fact.intent == "price"]
        if len(prices) != int(facts["num_items"]):
            continue  # an item whose price is not asked for
        assert sum(map(_cents, prices)) + _cents(facts.get("tax", "0.00")) == _cents(facts["total"].lstrip("$£€"))
        if "subtotal" in facts:
            assert _cents(facts["subtotal"]) == sum(map(_cents, prices))
        checked += 1
    assert checked > 60


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
    """Bars are as long, beside each other, as their values, and the highest is called so."""
    checked = 0
    for document in drawn("chart", "train", num=200):
        values = {
            fact.slots["name"]: float(fact.answer)
            for fact in document.facts
            if fact.intent == "bar_value" and "%" not in fact.answer
        }
        kind = next(fact.answer for fact in document.facts if fact.intent == "chart_kind")
        if kind != "bar chart" or not values:
            continue
        bars = [mark for mark in document.drawing.marks if isinstance(mark, Rectangle)]
        assert len(bars) == len(values) == int(next(f.answer for f in document.facts if f.intent == "num_bars"))
        is_upright = len({bar.bottom_px for bar in bars}) == 1
        lengths = [bar.bottom_px - bar.top_px if is_upright else bar.right_px - bar.left_px for bar in bars]
        for length, value in zip(lengths, values.values(), strict=True):
            assert length / lengths[0] == pytest.approx(value / next(iter(values.values())), rel=1e-6)
        for fact in document.facts:
            if fact.intent == "highest":
                assert values[fact.answer] == max(values.values())
                checked += 1
    assert checked > 30


def test_what_no_label_says_is_readable_off_the_axis() -> None:
    for document in drawn("chart", "train", num=100):
        values = {fact.answer for fact in document.facts if fact.intent == "group_value"}
        ticks = sorted({float(text.text) for text in document.drawing.texts if re.fullmatch(r"[\d.]+", text.text)})
        if values and len(ticks) > 2:
            half = (ticks[1] - ticks[0]) / 2
            assert all(float(value) % half == pytest.approx(0, abs=1e-6) for value in values)


def test_counts_are_of_what_is_asked() -> None:
    for document in drawn("chart", "train", num=100):
        kind = next(fact.answer for fact in document.facts if fact.intent == "chart_kind")
        counted = {fact.intent for fact in document.facts if fact.intent.startswith("num_")} - {"num_series"}
        has_series = any(fact.intent == "num_series" for fact in document.facts)
        expected = {"line chart": "num_points", "pie chart": "num_categories"}.get(kind, "num_bars")
        assert counted == {"num_categories" if has_series else expected}
    for document in drawn("page", "train", num=60):
        has_heading = any(fact.intent == "title" for fact in document.facts)
        assert has_heading != any(fact.intent == "num_lines" for fact in document.facts)


def test_where_two_amounts_are_shown_nobody_asks_for_the_price() -> None:
    for document in drawn("receipt", "train", num=200):
        if any(re.fullmatch(r"[2-9] x \d+\.\d\d", text.text) for text in document.drawing.texts):
            shown = {fact.slots["thing"]: fact.answer for fact in document.facts if fact.intent == "quantity"}
            asked = {fact.slots["thing"] for fact in document.facts if fact.intent == "price"}
            assert not asked & {thing for thing, quantity in shown.items() if quantity != "1"}


def test_what_is_not_shown_is_not_a_fact() -> None:
    """Neither what such documents may have and this one has not, nor what documents of other kinds have."""
    seen = seen_foreign = 0
    for family in FAMILIES:
        for sample in some(family, num=20, num_questions=10):
            known = {(fact.intent, tuple(fact.slots.items())) for fact in sample.document.facts}
            for fact in sample.document.missing:
                assert (fact.intent, tuple(fact.slots.items())) not in known
            intents = {fact.intent for fact in sample.document.missing}
            foreign = {intent for intent, kinds in FOREIGN.items() if family in kinds}
            assert not foreign & {fact.intent for fact in sample.document.facts}
            for question in sample.questions:
                if question.intent == "not_shown":
                    intent = question.phrasing_id.split("/")[0]
                    assert question.answer == NOT_SHOWN and intent in intents | foreign
                    seen += 1
                    seen_foreign += intent not in intents
    assert seen - seen_foreign > 20 and seen_foreign > 20


def test_statements_are_as_often_true_as_not() -> None:
    answers = Counter(
        question.answer
        for family in FAMILIES
        for sample in some(family, num=120, num_questions=10)
        for question in sample.questions
        if question.intent == "statement"
    )
    assert answers.keys() == {"yes", "no"} and 0.8 < answers["yes"] / answers["no"] < 1.25, answers


def test_a_statement_names_what_it_claims_behind_what_it_is_about() -> None:
    num_seen = 0
    for family in FAMILIES:
        for sample in some(family, num=40, num_questions=10):
            printed = {mark.text for mark in sample.document.drawing.texts}
            for question in sample.questions:
                if question.intent == "statement":
                    assert question.named and all(name.lower() in question.text.lower() for name in question.named), (
                        question
                    )
                    num_seen += question.answer == "yes" and question.named[-1] in printed
    assert num_seen > 40


def test_families_come_by_their_weights() -> None:
    counts = Counter(family_of("train", index)[0] for index in range(4000))
    for family, weight in FAMILY_WEIGHTS.items():
        assert counts[family] / 4000 == pytest.approx(weight, abs=0.03)
    assert all(width % 64 == 0 and height % 64 == 0 for sizes in CANVASES.values() for width, height in sizes)


def test_unseen_designs_words_numbers_and_layouts_are_unseen() -> None:
    for family in FAMILIES:
        for split in ("train", "unseen"):
            designs = {
                text.face.typeface.design
                for document in drawn(family, split, num=40)
                for text in document.drawing.texts
            }
            if {face.typeface.design for face in fonts.installed_faces()} > fonts.HELD_OUT_DESIGNS:
                assert designs & fonts.HELD_OUT_DESIGNS == (designs if split == "unseen" else set())
    known = {face.design for face in fonts.TYPEFACES}
    assert known >= fonts.HELD_OUT_DESIGNS
    for word in words.COMMON:
        assert words.is_held_out(word) == words.is_held_out(word.upper())
    rng = random.Random(0)
    for split in ("train", "held_out"):
        assert all(words.is_held_out(words.any_word(rng, split)) == (split == "held_out") for _ in range(200))
    for train, held_out in (
        (receipt.TRAIN_LAYOUTS, receipt.HELD_OUT_LAYOUTS), (form.TRAIN_LAYOUTS, form.HELD_OUT_LAYOUTS),
        (table.TRAIN_LAYOUTS, table.HELD_OUT_LAYOUTS), (page.PAGE_LAYOUTS, page.HELD_OUT_PAGE_LAYOUTS),
        (page.SIGN_LAYOUTS, page.HELD_OUT_SIGN_LAYOUTS), (PALETTES, HELD_OUT_PALETTES),
    ):  # fmt: skip
        assert not set(train) & set(held_out)
    for split, is_unseen in (("train", False), ("unseen", True)):
        for document in drawn("receipt", split, num=40):
            total = next(fact.answer for fact in document.facts if fact.intent == "total")
            assert (float(total.lstrip("$£€")) >= 1000) == is_unseen


def test_no_kind_is_combined_with_a_format_of_its_own() -> None:
    for family, canvases in COMBINED_CANVASES.items():
        for width_px, height_px in canvases:
            assert width_px % 64 == height_px % 64 == 0
            assert all(not _holds(canvas, width_px, height_px) for canvas in CANVASES[family]), family


def _holds(canvas: tuple[int, int], width_px: int, height_px: int) -> bool:
    """Whether training may show this size, up to a cell less than a canvas on each side."""
    return 0 <= canvas[0] - width_px < 64 and 0 <= canvas[1] - height_px < 64


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


def test_the_phrasing_changes_words_and_nothing_else() -> None:
    for family in FAMILIES:
        for index, document in enumerate(drawn(family, "train", num=20)):
            seen, unseen = (
                sample_document_questions(document, random.Random(index), num_questions=8, phrasing=phrasing)  # type: ignore[arg-type]
                for phrasing in ("train", "held_out")
            )
            assert [(one.intent, one.answer) for one in seen] == [(one.intent, one.answer) for one in unseen]
            assert not {one.text for one in seen} & {one.text for one in unseen}


def test_long_texts_are_not_asked_for_at_once() -> None:
    asked = [
        question
        for sample in some("receipt", num=60, num_questions=12)
        for question in sample.questions
        if question.intent == "read"
    ]
    assert asked and all(len(question.answer) <= LONGEST_TRANSCRIPT for question in asked)
    assert not any("...." in question.answer for question in asked), "leaders are no words"


def test_colours_that_are_asked_for_do_not_fade() -> None:
    picture = np.full((40, 8, 8, 3), (255, 165, 0), np.uint8)
    kept = degrade(picture, np.random.default_rng(0), keeps_colors=[True] * 40).reshape(40, -1, 3).mean(1)
    faded = degrade(picture, np.random.default_rng(0)).reshape(40, -1, 3).mean(1)
    assert (kept[:, 0] - kept[:, 2] > 150).all() and (faded[:, 0] - faded[:, 2] < 150).any()


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
