"""Words that are none of English are put right where that is likely enough."""

from __future__ import annotations

import pytest

from fastvlm.inference.spelling import are_signs_unusual, chosen, has_sign, respellings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Visit the Caplain", "Visit the Captain"),
        ("TOTAL AMOUNI", "TOTAL AMOUNT"),
        ("BAND WAGON", None),  # both are words
        ("BLOTCH ING", "BLOTCHING"),
        ("thegarden", "the garden"),
        ("captain", None),
        ("abc@caplain.com", None),
        ("AB-Caplain", None),
        ("yelow.com", None),
        ("raport.txt", None),
        ("Vielen Dank fuer Ihren Einkauf", None),  # another language
        ("Caplain's", None),
        ("12.50", None),
    ],
)
def test_words_that_are_none_may_be_others(text: str, expected: str | None) -> None:
    texts = [one.text for one in respellings(text)]
    assert expected in texts if expected else texts == []


def test_each_word_is_chosen_by_itself() -> None:
    text = "Caplain Doclor Yeliow"
    others = [one for one in respellings(text) if one.instead in ("Captain", "Doctor", "Yellow")]
    assert [one.instead for one in others] == ["Captain", "Doctor", "Yellow"]
    assert chosen(text, others, [0.1, 0.1, 1e-6, 0.01]) == "Captain Doclor Yellow"
    assert chosen(text, others, [0.1, 0.0, 0.0, 0.0]) == text
    assert chosen(text, [], [0.1]) == text


def test_of_two_that_stand_in_one_place_the_likelier_one_is_chosen() -> None:
    others = [one for one in respellings("Caplain") if one.instead in ("Captain", "Chaplain")]
    assert len(others) == 2
    likelihoods = [0.1, *(0.3 if one.instead == "Chaplain" else 0.2 for one in others)]
    assert chosen("Caplain", others, likelihoods) == "Chaplain"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Date 22/13/2018 10:18", {"03", "10", "11", "12"}),
        ("39-03-18", {"09", "19", "29", "30", "31"}),
        ("25/14/2018", {"04", "10", "11", "12"}),
        ("2001-13-23", {"03", "10", "11", "12"}),
        ("5/32/2018", {"02", "12", "22", "31", "30"}),
        ("09/13/2018", set()),  # in America
        ("31/02/2018", set()),
        ("99/99/99", set()),
        ("Tel 03-8925-4124", set()),
        ("1.45.300", set()),
    ],
)
def test_dates_that_there_are_not_may_be_others(text: str, expected: set[str]) -> None:
    found = respellings(text)
    assert {one.instead for one in found} == expected
    assert all(one.text == text[: one.start] + one.instead + text[one.stop :] for one in found)


AMOUNTS = ["Tea", "4.10", "12.40", "1,200.00", "3.50", "0.99", "Tel 555 1234"]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (["$5.90"], True),
        (["$5.90", "£1.20", "$3.00", "$3.10", "€7.00"], False),
        ([], True),
    ],
)
def test_signs_are_unusual_where_most_amounts_have_none(others: list[str], expected: bool) -> None:
    assert are_signs_unusual([*AMOUNTS, *others]) is expected
    assert not are_signs_unusual(AMOUNTS[:3])  # too few to tell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$5.90", {"55.90", "15.90", "35.90", "95.90"}),
        ("RM £0.04", {"RM -0.04", "RM 10.04", "RM 30.04", "RM 80.04"}),
        ("5.90", set()),
        ("$5", set()),
        ("US$5.90", set()),
        ("cost $5.901", set()),
    ],
)
def test_a_sign_may_be_a_digit_or_a_minus(text: str, expected: set[str]) -> None:
    assert {one.text for one in respellings(text, has_other_amounts=True)} == expected
    assert respellings(text) == []
    assert has_sign(text) is bool(expected)
