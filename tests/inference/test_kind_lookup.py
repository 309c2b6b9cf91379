"""What kind of document a page is, is told by what stands on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastvlm
from fastvlm.inference.kind_lookup import look_up_kind
from fastvlm.inference.page import Page
from fastvlm.inference.questions import asks_for_kind
from fastvlm.inference.reading import KIND_QUESTION, read_fields
from read_pages import TABLE, page

RECEIPT = page("CORNER SHOP", "Bread     5.20", "Milk     1.30", "TOTAL     6.50", "Cash     10.00")
FORM = page("Order form", "Name: Ada Lovelace", "Weight: 71 kg", "City: London")
PAGE = page("On a hill", "there stood a house", "and by the house a tree")
NUMBERS = page("Measured", "12.50  13.10  14.00", "11.20  10.00  9.90")


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (RECEIPT, "a receipt"),
        (TABLE, "a table"),
        (FORM, "a form"),
        (PAGE, None),
        (NUMBERS, None),
        (page("Registration", "Age     36", "Phone     12345", "Postcode     1234", "City     Oslo"), "a form"),
        (page("On a hill", "City lights shone", "Time went by", "Title fights came", "and the house stood"), None),
        (Page([]), None),
    ],
)
def test_amounts_headings_and_labels_tell_the_kind(on: Page, expected: str | None) -> None:
    found = look_up_kind(on)
    assert (None if found is None else found.text) == expected


@pytest.mark.parametrize(
    ("question", "is_asked"),
    [
        (KIND_QUESTION, True),
        ("What type of document is it?", True),
        ("What is this?", True),
        ("What is this number?", False),
        ("What kind of coffee is it?", False),
        ("What is the total?", False),
        ("What type of document was presented?", False),
        ("Which type of document is needed?", False),
        ("What kind of paper is it printed on?", False),
        ("What kind of picture is on the sign?", False),
    ],
)
def test_only_the_kind_of_a_document_is_asked_for(question: str, is_asked: bool) -> None:
    assert asks_for_kind(question) is is_asked


def test_scans_of_receipts_are_told_by_their_lines(shared: Path) -> None:
    scans = [shared / "real" / "receipts" / f"{number:03}.jpg" for number in (3, 9, 10, 11)]
    at_once, closely = fastvlm.load(closer_look=False), fastvlm.load()
    assert [at_once.ask(KIND_QUESTION, images=scan).text for scan in scans].count("a form") >= 2
    assert [closely.ask(KIND_QUESTION, images=scan).text for scan in scans] == ["a receipt"] * 4
    assert "total" in read_fields(closely, scans[0]).values
