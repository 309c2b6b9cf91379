"""What a question asks for is found on a page that was read line by line."""

from __future__ import annotations

import pytest

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.reading import CAPTION_QUESTION, KIND_QUESTION, READ_QUESTION
from fastvlm.inference.receipt_lookup import amount_of, date_of, total_of
from fastvlm.processing.text_lines import Box

LETTER_PX = 10


def page(*rows: str, sure: float = 0.9) -> Page:
    """A page whose rows are on lines of their own; a line stands where it does in its row, ten pixels a character.

    Two spaces or more are between lines of one row.
    """
    lines = []
    for number, row in enumerate(rows):
        start = 0
        for part in row.split("  "):
            if part.strip():
                left = start + len(part) - len(part.lstrip())
                box = Box(
                    left * LETTER_PX, 30 * number, (left + len(part.strip())) * LETTER_PX, 30 * number + 2 * LETTER_PX
                )
                lines.append(ReadLine(part.strip(), box, sure))
            start += len(part) + 2
    return Page(lines)


def answer(question: str, on: Page) -> str | None:
    found = look_up(question, on)
    return None if found is None else found.text


FORM = page("Order form", "Name      Ada Lovelace", "Weight      71 kg", "City: London", "Date of birth  10 Dec 1815")
TABLE = page(
    "Sales by town",
    "Town      Apples    Pears",
    "Oslo      12        7",
    "Bergen    5         31",
    "Tromso    40        9",
)
CHART = page("kg", "   52         17         34", "  Jam        Tea        Salt")
RECEIPT = page(
    "CORNER SHOP",
    "Bread x2            5.20",
    "Milk                1.30",
    "Fish",
    "1 x 8.00            8.00",
    "Subtotal           14.50",
    "Tax                 1.45",
    "TOTAL              15.95",
    "Cash               20.00",
    "Change              4.05",
    "12/03/2021  11:02     No AB-3471",
)
READ_BADLY = page(
    "TQHL                33.92",
    "ROUNOING            0.02",
    "Tatal Roundel       33.90",
    "CASK                50.00",
    "CHAMGE              16.10",
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the name?", "Ada Lovelace"),
        ("What does it say for Weight?", "71 kg"),
        ("Weigth?", "71 kg"),  # written wrong by who asks
        ("Which City is entered?", "London"),
        ("What is the date of birth?", "10 Dec 1815"),
        ("In which field is Ada Lovelace?", "Name"),
    ],
)
def test_an_entry_stands_beside_its_label(question: str, expected: str) -> None:
    assert answer(question, FORM) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is Pears of Bergen?", "31"),
        ("What does the table say for Oslo under Apples?", "12"),
        ("Tromso, Pears?", "9"),
        ("Which town has the most apples?", "Tromso"),
        ("Which row has the smallest Pears?", "Oslo"),
        ("Which town has 31 Pears?", "Bergen"),
    ],
)
def test_a_cell_stands_where_its_row_and_its_column_meet(question: str, expected: str) -> None:
    assert answer(question, TABLE) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which row has 31 in Pears?", "Bergen"),
        ("Whose Apples is 40?", "Tromso"),
        ("In what row is 7 under Pears?", "Oslo"),
    ],
)
def test_the_row_of_a_number_is_told_by_its_column(question: str, expected: str | None) -> None:
    found = look_up(question, TABLE)
    assert (None if found is None else found.text) == expected


def test_one_word_of_a_question_is_not_two_labels() -> None:
    quarters = page("Town      Q1    Q2", "Oslo      1     7", "Bergen    5     3", "Tromso    40    9")
    assert answer("Where is Q1 largest?", quarters) == "Tromso"


def test_letters_that_look_alike_are_read_for_each_other_in_labels() -> None:
    misread = page("Order form", "lnvoice      JKQ-540", "Emai1      ada@home.org", "T0wn      London")
    for question, expected in (("Invoice?", "JKQ-540"), ("Email?", "ada@home.org"), ("What is the Town?", "London")):
        assert answer(question, misread) == expected


def test_a_number_below_a_label_counts_before_the_one_above_it() -> None:
    form = page("Phone", "019 06270", "Order no.", "259239")
    assert answer("What does it say for Order no.?", form) == "259239"


def test_a_row_alone_does_not_say_which_cell() -> None:
    assert answer("What is Plums of Bergen?", TABLE) is None
    assert answer("What is the value for Bergen?", TABLE) is None


def test_the_highest_bar_is_the_one_with_the_highest_number() -> None:
    assert answer("Which bar is the highest?", CHART) == "Jam"
    assert answer("Which one is the smallest?", CHART) == "Tea"
    assert answer("Which one is the smallest?", page("  Jam        Tea        Salt")) is None


def test_the_number_over_a_bar_is_its_value() -> None:
    assert [answer(f"What is the value of {name}?", CHART) for name in ("Jam", "Tea", "Salt")] == ["52", "17", "34"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the total?", "15.95"),
        ("How much did everything cost?", "15.95"),
        ("How much is the tax?", "1.45"),
        ("What is the subtotal?", "14.50"),
        ("How much was the change?", "4.05"),
        ("What does Bread cost?", "5.20"),
        ("What is the price of Fish?", "8.00"),
        ("What costs 1.30?", "Milk"),
        ("What was bought for 5.20?", "Bread"),
        ("How much is it before tax?", "14.50"),
        ("How many Bread were bought?", "2"),
        ("What is the most expensive item?", "Fish"),
        ("What is the time?", "11:02"),
        ("When was this receipt printed?", "12/03/2021"),
        ("What is the date?", "12/03/2021"),
        ("What is the receipt number?", "AB-3471"),
    ],
)
def test_a_receipt_is_understood(question: str, expected: str) -> None:
    assert answer(question, RECEIPT) == expected


LONG_LABELS = page(
    "Application",
    "Date of birth       10 Dec 1815",
    "Name of applicant   Ada",
    "Email address       a@b.c",
    "MEN'S: 12.00",
    "Departure 10:30     Arrival 11:45",
    "Customer  CU-1234",
    "Reference RF-9876",
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the date of birth?", "10 Dec 1815"),
        ("What is the name?", "Ada"),
        ("What is the email?", "a@b.c"),
        ("What is the value of MEN'S?", "12.00"),
        ("What is the Reference?", "RF-9876"),
    ],
)
def test_what_stands_behind_the_beginning_of_a_label_is_no_value(question: str, expected: str) -> None:
    assert answer(question, LONG_LABELS) == expected


def test_what_is_no_question_is_not_looked_up() -> None:
    words = page("Weather: sunny", "The next stop", "The picture shows a house", "Document No. 123", "Thank you all")
    for text in (READ_QUESTION, CAPTION_QUESTION, KIND_QUESTION, "Thanks!", "Translate the text."):
        assert answer(text, words) is None, text


def test_words_that_questions_speak_with_are_no_labels_by_likeness() -> None:
    cities = page("kg", "   52         17         34", "  Paris      Tea        Salt")
    assert answer("Which bar is the highest?", cities) == "Paris"
    assert answer("What does the table say?", page("Tablet 12", "Tree 4", "Town 5", "Tower 9")) is None


def test_other_sums_are_not_the_total() -> None:
    for question in ("What is the total discount?", "Who has to pay?", "What is the total weight?"):
        assert answer(question, RECEIPT) is None, question


def test_a_question_for_yes_or_no_is_not_looked_up() -> None:
    for question in (
        "Is the total 15.95?", "Does Bread cost 5.20?", "The total is 15.95. True or false?",
        "Answer yes or no: is the total 15.95?", "The total is 19.95, yes or no?", "The total is 15.95, right?",
    ):  # fmt: skip
        assert answer(question, RECEIPT) is None, question


def test_what_a_page_does_not_name_is_not_found() -> None:
    for question in ("What is the phone number?", "Who is the chairman?", "Is there a red circle?", "?"):
        for one in (FORM, TABLE, CHART, RECEIPT, Page([])):
            assert answer(question, one) is None, question


def test_what_is_paid_less_the_change_tells_the_total_of_a_receipt_that_is_misread() -> None:
    found = total_of(READ_BADLY)
    assert found is not None and found.text == "33.90"
    assert found.line.box == READ_BADLY.rows[2][1].box


def test_a_page_with_hardly_any_amounts_has_no_total() -> None:
    assert total_of(page("Total seats          12.00")) is None
    assert total_of(page("Apples   1.00", "Pears   2.00", "Plums   3.00")) is None  # nothing is like "total"


def test_a_total_of_misread_amounts_is_told_with_less_confidence() -> None:
    rows = ("Bread   5.20", "Milk   1.30", "TOTAL   6.50", "Cash   6.50")
    sure, unsure = total_of(page(*rows, sure=0.95)), total_of(page(*rows, sure=0.05))
    assert sure is not None and unsure is not None
    assert sure.text == unsure.text == "6.50"
    assert 1 >= sure.confidence > unsure.confidence >= 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.90", 4.9), ("RM 33.90", 33.9), ("$1,234.50", 1234.5), ("12:30", 12.3), ("8.OO", 8.0), ("£0.02", 0.02),
        ("3 items", None), ("12", None), ("1.5", None), ("TOTAL", None), ("25/12/2018", None), ("", None),
    ],
)  # fmt: skip
def test_amounts_have_two_decimals(text: str, expected: float | None) -> None:
    assert amount_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Date: 25/12/2018 8:13 PM", "25/12/2018"),
        ("12-28-2017", "12-28-2017"),
        ("2018-03-23", "2018-03-23"),
        ("05 MAR 2018", "05 MAR 2018"),
        ("Jan 1, 2009", "Jan 1, 2009"),
        ("3.4.19", "3.4.19"),
        ("99/13/2018", None),
        ("31/02/2018", None),
        ("TEL 03-04-0606123", None),
        ("12:31:00", None),
    ],
)
def test_dates_are_those_that_there_are(text: str, expected: str | None) -> None:
    found = date_of(page(text))
    assert (None if found is None else found.text) == expected


def test_the_text_of_a_page_goes_by_rows() -> None:
    assert CHART.text == "kg\n52 17 34\nJam Tea Salt"
