"""What a question asks for is found on a page that was read line by line."""

from __future__ import annotations

import pytest

from fastvlm.inference.form_lookup import values_below
from fastvlm.inference.line_lookup import look_up, names_what_is_missing
from fastvlm.inference.page import Page
from fastvlm.inference.reading import CAPTION_QUESTION, KIND_QUESTION, READ_QUESTION
from read_pages import CHART, TABLE, page


def answer(question: str, on: Page) -> str | None:
    found = look_up(question, on)
    return None if found is None else found.text


FORM = page("Order form", "Name      Ada Lovelace", "Weight      71 kg", "City: London", "Date of birth  10 Dec 1815")
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


def test_a_word_that_questions_speak_with_is_a_label_where_it_has_a_capital() -> None:
    table = page("Row  Size", "Give  192", "Have  7", "Lamp  5")
    assert answer("What is the Size of Give?", table) == "192"
    assert answer("What Size does Have have?", table) == "7"
    assert answer("Give me the Size of Lamp", table) == "5"
    assert answer("What Size do you have?", table) != "7"


def test_a_number_that_stands_there_is_none_of_those_that_are_like_it() -> None:
    table = page("Row     Man     Bit", "Hurn    18.26   0.05", "Great   0.08    0.04", "Autumn  7.13    0.03")
    assert answer("For which row is Bit 0.05?", table) == "Hurn"
    assert answer("Which row has a Bit of 0.04?", table) == "Great"


def test_the_lowest_of_a_column_that_cannot_be_told_is_not_the_number_below_its_heading() -> None:
    assert answer("What has the lowest Bit?", page("Row    Bit", "Hurn   0.05", "Great  0.0x4")) is None


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


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which field says 71 kg?", "Weight"),
        ("What field has the value London?", "City"),  # on a line with its label
        ("In which field is 10 Dec 1815?", "Date of birth"),
        ("What is Lyon?", "Town"),
        ("Where is London entered?", "City"),
        ("Which field says Paris?", None),
        ("What is City?", "London"),  # a label, whatever stands above it
    ],
)
def test_the_field_of_a_value_is_the_label_before_it(question: str, expected: str | None) -> None:
    assert (
        answer(question, FORM if "Lyon" not in question else page("Card", "Country   Peru", "Town      Lyon"))
        == expected
    )


def test_a_label_above_its_value_is_found_and_a_misread_usual_one_is_put_right() -> None:
    rows = ("Lnvoice", "AB-3471", "Couniry  Peru", "Glarb  77012", "Height  180 cm")
    hardly = page(*rows, sure=0.5)
    for value, label in (("AB-3471", "Invoice"), ("Peru", "Country"), ("77012", "Glarb"), ("180 cm", "Height")):
        assert answer(f"Which field is {value}?", hardly) == label
    assert answer("Which field is Peru?", page(*rows, sure=0.95)) == "Couniry"


@pytest.mark.parametrize(
    ("question", "on", "expected"),
    [
        ("How many rows are there below the header?", TABLE, "3"),
        ("How many entries are in each column?", TABLE, "3"),
        ("How many columns of numbers are there?", TABLE, "2"),
        ("How many values are in each row?", TABLE, "2"),
        ("How many lines of text are there?", FORM, "5"),
        ("How many fields are there?", FORM, "4"),
        ("How many entries are on the form?", FORM, "4"),
        ("Fields?", FORM, "4"),
        ("How many fields are there?", RECEIPT, None),
        ("How many fields are there?", TABLE, None),
        ("How many fields are empty?", FORM, None),
        ("How many lines does the table have below the header?", TABLE, "3"),
        ("How many rows does the table have?", FORM, None),
        ("How many apples were sold in Bergen?", TABLE, "5"),  # which is no count
        ("How many rows have more than 10 Apples?", TABLE, None),
        ("How many rows are empty?", TABLE, None),
    ],
)
def test_lines_rows_and_columns_are_counted(question: str, on: Page, expected: str | None) -> None:
    assert answer(question, on) == expected


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("What is the Phone?", True),
        ("What is given as Order no.?", False),  # it is an order form
        ("What is the Wieght?", False),  # written wrong, or read wrong
        ("Phone?", True),
        ("Name?", False),
        ("What is the highest value?", False),  # names nothing
        ("Tell me the value of Trousers.", True),
        ("Good morning. What is written here?", False),  # where a sentence begins
        ("Hello, Claude, what is this?", False),
        ("WHAT COLOUR IS THE CAR?", False),
        ("Is there a Phone?", False),  # which is yes or no
        ("Why?", False),
        ("phone?", False),
        ("What is the Given name?", False),  # as another word is called
    ],
)
def test_what_a_question_names_and_a_page_has_nothing_like_is_missing(question: str, *, missing: bool) -> None:
    assert names_what_is_missing(question, FORM) == missing
    assert not names_what_is_missing(question, Page([]))


def test_years_over_the_columns_of_a_table_are_no_row() -> None:
    years = page("          2001      2002", "Oslo      12        7", "Bergen    5         31", "Tromso    40        9")
    assert answer("How many rows are there?", years) == "3"
    assert answer("How many columns of numbers are there?", years) == "2"


def test_receipts_and_forms_are_no_tables() -> None:
    for one in (RECEIPT, FORM):
        for question in ("How many rows are there?", "How many columns are there?"):
            assert answer(question, one) is None


def test_a_heading_is_no_value_and_a_year_may_be_a_date() -> None:
    towns = page("Name      City", "Ada       London", "Bob       Paris")
    assert answer("What is City?", towns) == "London"
    form = page("Firm", "Founded      1985", "Town      Oslo", "Age       35", "Post      SW1A 1AA", "Status  active")
    assert answer("When was it Founded?", form) == "1985"
    assert answer("What is the Post?", form) == "SW1A 1AA"  # whatever number stands far above


def test_a_date_that_cannot_be_understood_is_the_answer_all_the_same() -> None:
    form = page("Order form", "Date      June 2019", "Born      10 Dec 1985", "City      London")
    assert answer("What is the Date?", form) == "June 2019"
    timed = page("Order form", "Date      11:45", "Born      10 Dec 1985", "City      London")
    assert answer("What is the date?", timed) == "10 Dec 1985"


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


def test_the_text_of_a_page_goes_by_rows() -> None:
    assert CHART.text == "kg\n52 17 34\nJam Tea Salt"


ABOVE = page("Visitor form", "", "First name       Status", "Island           Silver", "", "Price            Quantity",
             "70.68            225", "", "Order m0", "FN-72600")  # fmt: skip


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the First name?", "Island"),
        ("What is the Status?", "Silver"),
        ("What is the Price?", "70.68"),
        ("What is the Quantity?", "225"),
        ("What is the Order no.?", "FN-72600"),
        ("Which field says Silver?", "Status"),
    ],
)
def test_labels_may_stand_above_their_values_in_columns(question: str, expected: str) -> None:
    assert answer(question, ABOVE) == expected


def test_rows_that_stand_equally_far_apart_are_no_labels_and_values() -> None:
    assert values_below(page("Name  Ann", "City  Oslo", "Age  40", "Room  7")) == {}


def test_the_row_of_a_number_that_stands_there_twice_is_told_by_its_column() -> None:
    table = page("Row      Orange   Silver", "Monday   31%      65%", "Planet   34%      31%", "Doctor   17%      4%")
    assert answer("Which row has 31% in Orange?", table) == "Monday"
    assert answer("What is the Orange of Planet?", table) == "34%"


def test_what_begins_with_something_else_has_no_title() -> None:
    legend = page("Plan 21%", "Bais 16%", "Shuka 19%")
    assert answer("What is the title?", legend) is None
    assert names_what_is_missing("What is the title?", legend)
    # A title may have been read in two parts, as may the head of a table: nothing is said of these.
    assert not names_what_is_missing("Give me the heading.", page("Row   Size", "Give   192", "Have   7"))
    assert answer("What is the title?", page("Sales rose by 12%", "Row   Size", "Give   192")) == "Sales rose by 12%"
    assert not names_what_is_missing("What is the title?", page("Sales", "Row   Size", "Give   192"))


@pytest.mark.parametrize(
    ("question", "expected"),
    [("What is the name?", "Anna"), ("What is the phone?", "555"), ("Which field is Oslo?", "City")],
)
def test_labels_beside_their_values_stay_so_where_rows_stand_in_groups(question: str, expected: str) -> None:
    assert answer(question, page("Name   Anna", "City   Oslo", "", "Phone  555", "Fax    556")) == expected


def test_a_label_may_speak_of_a_minimum_or_a_maximum() -> None:
    loan = page("Loan", "Minimum payment   35.00", "Maximum load: 630 kg", "City   Oslo")
    assert answer("What is the minimum payment?", loan) == "35.00"
    assert answer("What is the maximum load?", loan) == "630 kg"


def test_a_number_that_is_a_part_of_a_name_is_no_cell() -> None:
    prices = page("Item        Price   Stock", "Windows 10  99      4", "Ruler       10      7")
    assert answer("What is the price of Windows 10?", prices) == "99"
    points = page("Name   Points   Age", "Carl   40       12", "Bert   5        13")
    assert answer("What are the Points of Carl in Class 5?", points) == "40"


def test_who_asks_is_no_name() -> None:
    assert answer("When can I see the doctor?", page("Our doctors", "J. Brown", "A. Green", "B. White")) is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("Booking", "Phone", "0123 456", "Colour", "Blue", "City", "Oslo"), "3"),  # labels above their values
        (("Booking", "Departmnet  Sales", "Name  Ada", "lnvoice  776634", "Weight 71 kg"), "4"),  # misread
        (("Survey", "Shoe size: 42", "Pets: none", "Diet: vegan"), "3"),  # that hardly any form has
        (("Survey", "Shoe size   42", "Pets   none", "Diet   vegan"), "3"),
        (("Name: Ada      City: Oslo", "Age: 36      Phone: 123 45"), "4"),  # in two columns
        (("On a hill", "there stood a house", "and by the house a tree"), None),
        (("Minutes", "Time to go", "The city was dark", "A name was called", "Total silence reigned"), None),
        (("Order", "Quantity: 2", "Colour: Blue", "Reference: 7", "Size: Large"), "4"),
    ],
)
def test_fields_of_a_form_are_counted(rows: tuple[str, ...], expected: str | None) -> None:
    assert answer("How many fields does the form have?", page(*rows)) == expected


def test_fields_that_are_filled_in_have_a_value() -> None:
    form = page("Order form", "Name: Ada", "City:", "Phone:", "Email: ada@x.org")
    assert answer("How many fields are there?", form) == "4"
    assert answer("How many fields are filled in?", form) == "2"
    assert answer("How many fields have numbers?", form) is None
