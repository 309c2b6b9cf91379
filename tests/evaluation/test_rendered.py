"""Documents of the second renderer: the same each time, of every kind, and true to what their facts say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from fastvlm.cli import eval as eval_command
from fastvlm.data.synthetic.documents.questions import NOT_SHOWN
from fastvlm.errors import DataError
from fastvlm.evaluation import suite
from fastvlm.evaluation.rendered.charts import SMALLEST_TEXT_SHARE, Chart, invent_chart
from fastvlm.evaluation.rendered.content import (
    MAX_PAGE_LINES,
    MAX_RECEIPT_LINES,
    Form,
    Page,
    Table,
    invent_form,
    invent_page,
    invent_receipt,
    invent_table,
)
from fastvlm.evaluation.rendered.documents import (
    KINDS,
    RenderedDocument,
    RenderedFact,
    chart_facts,
    form_facts,
    page_facts,
    receipt_facts,
    rendered_document,
    table_facts,
)
from fastvlm.evaluation.tasks.documents import NOT_SHOWN_FAMILY, RELAXED_FAMILY
from fastvlm.evaluation.tasks.rendered import RENDERED_FAMILIES, rendered_questions

for library in ("reportlab", "pypdfium2", "matplotlib"):
    pytest.importorskip(library)

INTENTS = {
    "receipt": "total date time number phone address shop num_items subtotal tax payment change price quantity costs "
    "dearest",
    "form": "title num_fields value key ticked num_ticked",
    "table": "title num_rows num_columns cell largest_row smallest_row row_of",
    "chart": "title axis num_bars num_categories num_points chart_kind bar_value group_value highest lowest higher "
    "trend num_series",
    "page": "title num_lines line after has_word",
}
SLOTS = {
    "price": {"thing"}, "quantity": {"thing"}, "costs": {"value"}, "value": {"key"}, "key": {"value"},
    "ticked": {"key"}, "cell": {"column", "row"}, "largest_row": {"column"}, "smallest_row": {"column"},
    "row_of": {"column", "value"}, "bar_value": {"name"}, "group_value": {"name", "series"},
    "higher": {"name", "other"}, "line": {"nth"}, "after": {"word"}, "has_word": {"word"},
}  # fmt: skip
NUM_INVENTED = 300


def question_of(fact: RenderedFact) -> tuple[str, frozenset[tuple[str, str]]]:
    return fact.intent, frozenset(fact.slots.items())


def answers_of(facts: list[RenderedFact], intent: str) -> list[str]:
    return [fact.answer for fact in facts if fact.intent == intent]


def cents_of(amount: str) -> int:
    return int(re.sub(r"\D", "", amount))


@pytest.fixture(scope="module")
def documents() -> list[RenderedDocument]:
    return [rendered_document(index) for index in range(40)]


def test_same_index_gives_same_document(documents: list[RenderedDocument]) -> None:
    for index in range(len(KINDS)):
        again = rendered_document(index)
        assert np.array_equal(again.image, documents[index].image)
        assert (again.kind, again.facts, again.missing) == (
            documents[index].kind, documents[index].facts, documents[index].missing,
        )  # fmt: skip


def test_kinds_take_turns_and_documents_differ(documents: list[RenderedDocument]) -> None:
    assert [document.kind for document in documents] == list(KINDS) * 8
    assert len({document.image.tobytes() for document in documents}) == len(documents)


def test_pictures_are_bytes_of_a_fitting_size_with_dark_and_light(documents: list[RenderedDocument]) -> None:
    for document in documents:
        height, width, channels = document.image.shape
        assert document.image.dtype == np.uint8
        assert channels == 3
        assert 320 <= max(height, width) <= 900
        assert min(height, width) >= 80
        assert document.image.min() < 110
        assert document.image.max() > 220


def test_facts_have_answers_known_intents_and_their_slots(documents: list[RenderedDocument]) -> None:
    for document in documents:
        assert document.facts
        for fact in document.facts + document.missing:
            assert fact.intent in INTENTS[document.kind].split()
            assert set(fact.slots) == SLOTS.get(fact.intent, set())
            assert all(fact.slots.values())
        assert all(fact.answer.strip() == fact.answer != "" for fact in document.facts)
        assert all(fact.answer == "" for fact in document.missing)


def test_no_question_has_two_answers(documents: list[RenderedDocument]) -> None:
    for document in documents:
        questions = [question_of(fact) for fact in document.facts + document.missing]
        assert len(set(questions)) == len(questions)


def test_amounts_of_receipts_add_up() -> None:
    num_costs = 0
    for number in range(NUM_INVENTED):
        receipt = invent_receipt(Random(f"receipt {number}"))
        facts = receipt_facts(receipt)
        num_costs += len(answers_of(facts, "costs"))
        prices = [item.cents for item in receipt.items]
        asked = [item for item in receipt.items if item.quantity == 1 or not receipt.shows_quantities]
        (total,), (subtotal,), (tax,) = (answers_of(facts, intent) for intent in ("total", "subtotal", "tax"))
        assert [cents_of(price) for price in answers_of(facts, "price")] == [item.cents for item in asked]
        assert {*answers_of(facts, "costs")} <= {item.thing for item in asked}
        if subtotal:
            assert cents_of(subtotal) == sum(prices)
            assert cents_of(total) == sum(prices) + cents_of(tax)
        else:
            assert cents_of(total) == sum(prices)
        if receipt.change and receipt.tendered:
            assert cents_of(receipt.tendered) - cents_of(total) == cents_of(receipt.change) > 0
        for dearest in answers_of(facts, "dearest"):
            assert max(receipt.items, key=lambda item: item.cents).thing == dearest
        parts = (receipt.address, receipt.phone, receipt.date or receipt.time, receipt.number, receipt.payment,
                 receipt.change, receipt.thanks)  # fmt: skip
        assert 2 + len(receipt.items) + len(receipt.sums) + sum(map(bool, parts)) <= MAX_RECEIPT_LINES
    assert num_costs > NUM_INVENTED


def test_form_knows_blank_fields_and_repeated_values() -> None:
    form = Form(
        title=None,
        fields=(("Town", "Wexbury"), ("Room no.", ""), ("Nights", "3"), ("Guests", "3")),
        ticks=(("Parking", True), ("Breakfast", False)),
        absent_keys=("Phone",),
    )
    facts = form_facts(form)
    assert [fact.slots["key"] for fact in facts if fact.intent == "value" and not fact.answer] == ["Room no.", "Phone"]
    assert answers_of(facts, "key") == ["Town"]
    assert answers_of(facts, "ticked") == ["yes", "no"]
    assert answers_of(facts, "num_ticked") == ["1"]
    assert answers_of(facts, "num_fields") == []


def test_forms_have_at_most_eight_fields() -> None:
    forms = [invent_form(Random(f"form {number}")) for number in range(NUM_INVENTED)]
    assert all(len(form.fields) >= 3 and len(form.fields) + len(form.ticks) <= 8 for form in forms)


def test_table_leaves_out_ties() -> None:
    table = Table(
        title="Stock",
        corner="Item",
        columns=("Sold",),
        rows=("Nails", "Bolts", "Hinges"),
        cells=(("1,200",), ("1,200",), ("900",)),
        numbers=((1200,), (1200,), (900,)),
        absent_row="Dowels",
    )
    facts = table_facts(table)
    assert answers_of(facts, "largest_row") == []
    assert answers_of(facts, "smallest_row") == ["Hinges"]
    assert [dict(fact.slots) for fact in facts if fact.intent == "row_of"] == [{"column": "Sold", "value": "900"}]
    assert answers_of(facts, "cell") == ["1,200", "1,200", "900", ""]


def test_tables_have_at_most_six_rows_and_four_columns() -> None:
    tables = [invent_table(Random(f"table {number}")) for number in range(NUM_INVENTED)]
    assert {len(table.rows) for table in tables} == {2, 3, 4, 5, 6}
    assert max(len(table.columns) for table in tables) == 4


def line_chart(*values: float) -> Chart:
    names = ("Mon", "Tue", "Wed", "Thu")[: len(values)]
    return Chart("line", None, "Visitors", names, (), (values,), are_printed=True, step=1, absent_category="Sun")


def test_line_has_a_trend_only_where_it_never_turns() -> None:
    assert answers_of(chart_facts(line_chart(1200, 2300, 3100)), "trend") == ["up"]
    assert answers_of(chart_facts(line_chart(9.5, 4.0, 1.5)), "trend") == ["down"]
    assert answers_of(chart_facts(line_chart(10, 30, 20)), "trend") == []
    assert answers_of(chart_facts(line_chart(1200, 2300, 3100)), "bar_value") == ["1,200", "2,300", "3,100", ""]


def test_chart_compares_only_what_can_be_told_apart() -> None:
    facts = chart_facts(line_chart(100, 99, 20))
    assert answers_of(facts, "highest") == []
    assert answers_of(facts, "lowest") == ["Wed"]
    compared = {(fact.slots["name"], fact.slots["other"]): fact.answer for fact in facts if fact.intent == "higher"}
    assert compared == {("Mon", "Wed"): "yes", ("Tue", "Wed"): "yes", ("Wed", "Mon"): "no", ("Wed", "Tue"): "no"}


def test_values_that_are_not_printed_lie_on_gridlines() -> None:
    charts = [invent_chart(Random(f"chart {number}")) for number in range(NUM_INVENTED)]
    assert {chart.shape for chart in charts} == {"vertical", "horizontal", "grouped", "line", "pie"}
    for chart in charts:
        assert {len(values) for values in chart.values} == {len(chart.categories)}
        if chart.shape == "pie":
            assert sum(chart.values[0]) == 100
        elif not chart.are_printed:
            assert all(value % chart.step == 0 for values in chart.values for value in values)


def test_page_with_a_heading_numbers_no_lines() -> None:
    lines = ("Tea is served at four", "Leave the tea outside")
    plain = page_facts(Page(None, lines, 2, is_list=True, absent_words=("piano", "goose")))
    headed = page_facts(Page("House Rules", lines, 2, is_list=True, absent_words=("piano", "goose")))
    assert answers_of(plain, "num_lines") == ["2"]
    assert answers_of(headed, "num_lines") == []
    assert answers_of(plain, "line") == [lines[1], *lines, "", "", "", ""]
    assert answers_of(headed, "line") == [lines[1]]
    after = {fact.slots["word"]: fact.answer for fact in plain if fact.intent == "after"}
    assert after == {"served": "at", "Leave": "the", "the": "tea"}
    assert answers_of(plain, "has_word") == ["yes", "yes", "no", "no"]


def test_pages_have_at_most_six_lines_and_lack_what_they_are_said_to_lack() -> None:
    for number in range(NUM_INVENTED):
        page = invent_page(Random(f"page {number}"))
        text = " ".join([page.heading or "", *page.lines]).lower()
        assert 3 <= len(page.lines) <= MAX_PAGE_LINES
        assert not any(word.lower() in text for word in page.absent_words)


@pytest.mark.parametrize("kind", ["receipt", "form", "table", "page"])
def test_sheets_never_need_smaller_text(kind: str) -> None:
    from fastvlm.evaluation.rendered import content, pdf

    invent: Callable[[Random], object] = getattr(content, f"invent_{kind}")
    draw: Callable[[object, Random], np.ndarray] = getattr(pdf, f"draw_{kind}")
    for number in range(60):
        rng = Random(f"small {number}")
        draw(invent(rng), rng)


def test_sheet_that_would_need_smaller_text_is_refused() -> None:
    from fastvlm.evaluation.rendered.pdf import draw_page

    line = "word " * round(2 / SMALLEST_TEXT_SHARE)
    with pytest.raises(DataError, match="too small"):
        draw_page(Page(None, (line, line), 2, is_list=False, absent_words=()), Random(0))


def test_questions_are_asked_in_the_words_of_the_other_tasks() -> None:
    pytest.importorskip("reportlab")
    pytest.importorskip("pypdfium2")
    pytest.importorskip("matplotlib")
    questions = rendered_questions(limit_per_family=2, phrasing="train")
    assert Counter(question.family for question in questions) == dict.fromkeys(RENDERED_FAMILIES, 2)
    assert {"receipt total, date, number", "chart value", "not shown", "kind of document"} <= set(RENDERED_FAMILIES)
    for question in questions:
        assert (question.answer == NOT_SHOWN) == (question.family == NOT_SHOWN_FAMILY)
        assert (question.score == "relaxed") == (question.family == RELAXED_FAMILY)
        assert "{" not in question.text and question.answer
    unseen = rendered_questions(limit_per_family=2, phrasing="held_out")
    assert [one.answer for one in unseen] == [one.answer for one in questions]
    assert not {one.text for one in unseen} & {one.text for one in questions}


def test_the_command_knows_every_task() -> None:
    assert set(eval_command.TASKS) == set(suite.TASKS)
    assert set(eval_command.FOLDER_TASKS) == set(suite.FOLDER_TASKS)
