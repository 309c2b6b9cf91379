"""Words that are none of English are put right where that is likely enough."""

from __future__ import annotations

import pytest

from fastvlm.inference.spelling import chosen, respellings


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
