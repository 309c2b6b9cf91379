"""What a question claims of a page is checked against what stands there."""

from __future__ import annotations

import pytest

from fastvlm.inference.line_lookup import look_up, names_what_is_missing
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.questions import is_yes_or_no
from fastvlm.inference.statement_lookup import check_statement
from fastvlm.processing.text_lines import Box
from read_pages import CHART, TABLE, page

FORM = page("Order form", "Name      Ada Lovelace", "Weight      71 kg", "City: London", "Account     40012")
RECEIPT = page(
    "CORNER SHOP", "Bread x2            5.20", "Milk                1.30", "Fish                8.00",
    "TOTAL              14.50", "Cash               20.00",
)  # fmt: skip
PROSE = page("the morning boat left early and", "nobody saw the captain wave", "while gulls cried above us")


@pytest.mark.parametrize(
    ("claim", "on", "is_so"),
    [
        ("the total is 14.50", RECEIPT, True),
        ("the receipt comes to 15.40", RECEIPT, False),
        ("Milk costs 1.30", RECEIPT, True),
        ("the price of Fish is 5.20", RECEIPT, False),
        ("the item for 1.30 is Milk", RECEIPT, True),
        ("the most expensive item is Bread", RECEIPT, False),
        ("the most expensive item is Fish", RECEIPT, True),
        ("the Weight is 71 kg", FORM, True),
        ("Name says Charles Babbage", FORM, False),
        ("the field with London is City", FORM, True),
        ("the field with London is Name", FORM, False),
        ("the Pears of Bergen is 31", TABLE, True),
        ("Oslo has a Apples of 12", TABLE, True),
        ("Bergen has the highest Apples", TABLE, False),
        ("Tromso has the highest Apples", TABLE, True),
        ("the row with a Pears of 9 is Tromso", TABLE, True),
        ("Apples is 5 for Bergen", TABLE, True),
        ("the value of Jam is 52", CHART, True),
        ("Tea is 34", CHART, False),
    ],
)
@pytest.mark.parametrize(
    "frame",
    [
        "True or false: {}.", "Is this true: {}?", "Is it right that {}?", "Check this: {}.", "{}, true?",
        "Does the picture show that {}?", "Can it be true that {}?", "Verify that {}.", "Answer yes or no: {}?",
        "{}. True or false?", "{}, right?",
    ],
)  # fmt: skip
def test_a_claim_is_checked_whatever_frames_it(claim: str, on: Page, frame: str, *, is_so: bool) -> None:
    question = frame.format(claim)
    found = check_statement(question, on)
    assert is_yes_or_no(question)
    assert found is not None and found.is_so == is_so


@pytest.mark.parametrize(
    ("question", "on", "expected"),
    [
        ("Is the total 14.50?", RECEIPT, "yes"),
        ("Is the total $41.50?", RECEIPT, "no"),
        ("Does Bread cost 5.20?", RECEIPT, "yes"),
        ("Did Fish cost 1.30?", RECEIPT, "no"),
        ("Does the receipt come to 14.50?", RECEIPT, "yes"),
        ("Is the total more than 10?", RECEIPT, "yes"),
        ("Is the total less than 10.00?", RECEIPT, "no"),
        ("Is the value of Jam higher than that of Tea?", CHART, "yes"),
        ("Does Tea have a higher value than Salt?", CHART, "no"),
        ("Is there a larger value for Tea than for Jam?", CHART, "no"),
        ("Has Salt a smaller value than Jam?", CHART, "yes"),
        ("Salt: a higher value than Tea?", CHART, "yes"),
        ("Does the text contain captain?", PROSE, "yes"),
        ("Is the word lighthouse in the text?", PROSE, "no"),
        ("Does it say gulls anywhere?", PROSE, "yes"),
        # What stands nowhere on a page is not told by it.
        ("Is it true?", RECEIPT, None),
        ("Is there a red circle?", RECEIPT, None),
        ("Is this a receipt?", RECEIPT, None),
        ("Is the box Name ticked?", FORM, None),
        ("Is the Weight red?", FORM, None),
        ("Is Oslo more than Rome?", TABLE, None),
        ("Is it the case that?", Page([]), None),
        ("Does the text contain captain?", Page([]), None),
        # Values of several words, and words around them.
        ("Is the Name Ada Lovelace?", FORM, "yes"),
        ("Is the Name Charles Babbage?", FORM, "no"),
        ("Is the Weight 71 kg?", FORM, "yes"),
        ("Is the Weight 72 kg?", FORM, "no"),
        ("Is the City Paris?", FORM, "no"),
        ("Is the Account 40021?", FORM, "no"),
        ("Account is 40012, right?", FORM, "yes"),
        ("City is London, right?", FORM, "yes"),
        ("Tea is 17, true?", CHART, "yes"),
        ("Is the total 14.50? Please answer with yes or no.", RECEIPT, "yes"),
        ("Is the total 14.50 on this receipt?", RECEIPT, "yes"),
        ("Is the total 14.50\ndollars?", RECEIPT, "yes"),
        ("The total is 14.50, isn't it?", RECEIPT, "yes"),
        ("Is 14.50 the total?", RECEIPT, "yes"),
        ("Is Fish the most expensive item?", RECEIPT, "yes"),
        ("Is Milk the most expensive item?", RECEIPT, "no"),
        ("Is Tea the highest?", CHART, "no"),
        ("Does Jam have the highest value?", CHART, "yes"),
        ("Does Oslo have the highest Apples?", TABLE, "no"),
        ("Does Tromso have the highest Apples?", TABLE, "yes"),
        ("Is the total over 10?", RECEIPT, "yes"),
        ("Is the total under 10?", RECEIPT, "no"),
        # What is denied, or said of several things, or in words that a page does not have, is not told.
        ("Is the total not 14.50?", RECEIPT, None),
        ("Isn't the total 14.50?", RECEIPT, None),
        ("Milk doesn't cost 1.30, right?", RECEIPT, None),
        ("Is it false that the City is London?", FORM, None),
        ("Is the total no more than 20?", RECEIPT, None),
        ("Is Fish 8.00 and Milk 1.30?", RECEIPT, None),
        ("Did Fish and Bread cost more than Milk?", RECEIPT, None),
        ("Is the total 10 more than the price of Fish?", RECEIPT, None),
        ("Is the total about 14?", RECEIPT, None),
        ("Is the total at least 14?", RECEIPT, None),
        ("Was milk bought?", RECEIPT, None),
        ("Is the TOTAL bold?", RECEIPT, None),
        ("Is the City lond?", FORM, None),
        ("Does the text contain people?", PROSE, None),
        ("Does it say oat anywhere?", PROSE, None),  # but for a letter of boat
        ("Is the total different from 14.50?", RECEIPT, None),
        ("Is the total roughly 14?", RECEIPT, None),
        ("Is the total for Milk 1.30?", RECEIPT, None),
        ("Was the total paid by Visa?", RECEIPT, None),
        ("Is the city in England?", FORM, None),
        ("Is the Account AB-12?", FORM, None),  # a number is no code
        ("Is the total 10%?", RECEIPT, None),  # and no share
        ("Is the Weight 71 lb?", FORM, None),
        ("Is Milk above Fish?", RECEIPT, None),  # where things stand
        ("Does the page contain prices?", RECEIPT, None),
        ("Does the text contain the word gulls?", PROSE, "yes"),
        ("Is the word 'captain' in the text?", PROSE, "yes"),
        ("Is the word 'zebras' in the text?", PROSE, "no"),
    ],
)
def test_questions_for_yes_or_no(question: str, on: Page, expected: str | None) -> None:
    found = check_statement(question, on)
    assert is_yes_or_no(question)
    assert (None if found is None else ("no", "yes")[found.is_so]) == expected


@pytest.mark.parametrize(
    "question", ["What is the total?", "Which is more than 10?", "How much more is Jam than Tea?", "Read the text."]
)
def test_other_questions_are_none_for_yes_or_no(question: str) -> None:
    assert not is_yes_or_no(question)


def test_a_digit_that_was_hardly_read_may_be_the_claimed_one() -> None:
    for sure, expected in ((0.9, "no"), (0.2, "yes")):
        misread = [ReadLine("1.80", line.box, sure) if line.text == "1.30" else line for line in RECEIPT.lines]
        found = check_statement("Does Milk cost 1.30?", Page(misread))
        assert found is not None and ("no", "yes")[found.is_so] == expected


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        ("12/03/2021", True), ("12/08/2021", False), ("03/12/2021", False), ("12 March 2021", True),
        ("Dec 3, 2021", True), ("14 March 2021", False), ("AB-3471", None), ("soon", None),
    ],
)  # fmt: skip
def test_a_date_is_compared_as_a_date(claimed: str, *, expected: bool | None) -> None:
    dated = page("Order form", "Date      12/03/2021", "City      London")
    verdict = check_statement(f"True or false: the Date is {claimed}.", dated)
    assert (None if verdict is None else verdict.is_so) is expected


def test_what_is_nearly_the_same_is_another_thing_where_it_was_read_surely() -> None:
    for sure, expected in ((0.95, False), (0.6, True)):
        verdict = check_statement("Is the Name Maria Garcia?", page("Card", "Name  Mario Garcia", "Age  41", sure=sure))
        assert verdict is not None and verdict.is_so == expected


@pytest.mark.timeout(10)
def test_long_lines_and_questions_take_no_time() -> None:
    for text in ("1" * 500 + "A", "a" * 500, "more " * 100, "has a " * 80 + "of", "((((1" * 100, "the word " * 60):
        long = Page([*RECEIPT.lines, *(ReadLine(text, Box(0, 400, 900, 420), 0.5) for _ in range(3))])
        for question in ("Is the total 14.50?", "What is the phone number?", "How many items are there?", text):
            check_statement(question, long)
            look_up(question, long)
            names_what_is_missing(question, long)


def test_numbers_are_compared_as_they_are_written() -> None:
    bill = page(
        "Bill", "Bread     5:20", "Tea       3.00", "Rent   1,224.80", "Total due   1,233.00", "Phone  020 7946 0958",
        "Receipt  No AB-3471", "Time   11:02 AM", "Address   12 High Street",
    )  # fmt: skip
    for claim, expected in (
        ("the total is 1,233.00", True), ("the total is 1233.00", True), ("the total is 1,250.00", False),
        ("the price of Bread is 5.20", True), ("the price of Bread is 5.40", False),
        ("the Phone is 020-7946-0958", True), ("the Receipt is AB-3471", True),
        ("the Receipt is AB-3417", False),
        ("the Address is 12 High St", None),
        ("the Time is 11:02 AM", True), ("the Time is 11:02 PM", False),
    ):  # fmt: skip
        verdict = check_statement(f"True or false: {claim}.", bill)
        assert (None if verdict is None else verdict.is_so) is expected, claim
