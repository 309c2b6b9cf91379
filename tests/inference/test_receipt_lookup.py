"""What receipts say is found by its labels, by what it looks like, and by what it adds up to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.receipt_lookup import date_of, total_of, written_date
from fastvlm.inference.receipt_rows import amount_of, row_of, written_amount
from read_pages import page

READ_BADLY = page(
    "TQHL                33.92",
    "ROUNOING            0.02",
    "Tatal Roundel       33.90",
    "CASK                50.00",
    "CHAMGE              16.10",
)


def answer(question: str, on: Page) -> str | None:
    found = look_up(question, on)
    return None if found is None else found.text


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


SHOP = page(
    "HILL 8 SONS",
    "17 Mill Road",
    "Tel 020 555 0199",
    "Date 12.03.2021     9:30  PM",
    "2 eggs              4.50",
    "1 long bread        5:20",
    "6 tea               3.00",
    "TOTAL              12.70",
    "Card               12.70",
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the name of the shop?", "HILL & SONS"),
        ("Where was this bought?", "HILL & SONS"),
        ("What is the address of the shop?", "17 Mill Road"),
        ("Where is the shop?", "17 Mill Road"),
        ("What is the phone number?", "020 555 0199"),
        ("What is the time?", "9:30 PM"),
        ("What is the date?", "12.03.2021"),
        ("How many different items were bought?", "3"),
        ("What is the most expensive item?", "long bread"),
        ("Which item costs 3.00?", "tea"),
        ("What does long bread cost?", "5.20"),
        ("How many eggs were bought?", "2"),
        ("What is the total?", "12.70"),
        ("What is the email address?", None),
    ],
)
def test_a_receipt_says_whom_it_is_from_and_what_was_bought(question: str, expected: str | None) -> None:
    assert answer(question, SHOP) == expected


def test_a_receipt_without_address_and_phone_number_has_none() -> None:
    plain = page("SHOP", "12-03-2021", "Bread   5.20", "Milk   1.30", "TOTAL   6.50")
    for question in ("What is the address?", "What is the phone number?"):
        assert answer(question, plain) is None
    assert answer("What is the name of the shop?", page("Apples   1.00", "Pears   2.00", "Plums   3.00")) is None


@pytest.mark.parametrize(
    "question",
    [
        "What is the store number?", "What did I buy at the shop?", "What colour is the logo of the shop?",
        "In which city is the shop?", "What is the web address?", "What is the VAT number of the company?",
        "What is the fax number of the store?", "How many items are cheaper than 5?", "How many items have a discount?",
        "How many items cost 3.00?", "Who paid 3.00?",
    ],
)  # fmt: skip
def test_what_a_receipt_does_not_say_is_not_told(question: str) -> None:
    assert answer(question, SHOP) is None


def test_numbers_and_words_at_the_head_of_a_receipt_are_not_taken_for_others() -> None:
    rows = ("INVOICE", "FOOD 4 LESS", "24 hours open", "Terminal 12345678", "Fax 020 7946 0000", "Bread   5.20")
    receipt = page(*rows, "Milk   1.30", "TOTAL   6.50")
    assert answer("What is the name of the shop?", receipt) == "FOOD 4 LESS"
    assert answer("What is the address?", receipt) is None
    assert answer("What is the phone number?", receipt) is None
    assert answer("When was the receipt issued?", SHOP) == "12.03.2021"


def test_times_are_no_prices() -> None:
    menu = page("CAFE", "Open   8:30", "Tea   2.50", "Coffee   3.50", "Cake   4.20", "Soup   6.90")
    assert answer("Open?", menu) == "8:30"
    assert answer("How many items are there?", menu) == "4"
    assert answer("What is the most expensive item?", menu) == "Soup"
    assert answer("How much did the most expensive item cost?", menu) == "6.90"


@pytest.mark.parametrize("name", ["Cashews", "Gift card", "Total cereal", "Magnet", "Taxi"])
def test_an_item_may_be_called_like_a_sum(name: str) -> None:
    receipt = page("Bread   5.20", f"{name}   7.00", "Milk   1.30", "TOTAL   13.50", "Cash   20.00")
    assert answer("How many items are there?", receipt) == "3"
    assert answer("What is the most expensive item?", receipt) == name
    found = look_up("How many items are there?", receipt)
    assert found is not None and found.confidence == 0.9  # the sum proves it, as far as it was read
    unread = look_up("How many items are there?", page("Bread   5.20", "Mi1k   l.30", "TOTAL   6.50"))
    assert unread is not None and unread.confidence == 0.5


@pytest.mark.parametrize(
    ("rows", "number", "dearest"),
    [
        (("Bread   4.00", "Milk   6.00", "TOTAL   10.00", "Cash   20.00", "Change   10.00"), "2", "Milk"),
        (("Latte   3.50", "Latte   3.50", "Cake   4.00", "Discount   -1.00", "Total   10.00"), "3", "Cake"),
        (("Coffee   3.50", "Tea   3.00", "Cake   9.00", "Tax   1.55", "Total   17.05"), "3", "Cake"),
        (("Tea   2.00", "Jam   3.00", "Oil   5.00", "Total   10.00", "Cash   10.00"), "3", "Oil"),
    ],
)
def test_what_is_added_or_taken_off_or_paid_is_no_item(rows: tuple[str, ...], number: str, dearest: str) -> None:
    assert answer("How many different items are there?", page(*rows)) == number
    assert answer("What is the most expensive item?", page(*rows)) == dearest


def test_pieces_are_not_counted_as_items_where_the_question_does_not_say_so() -> None:
    rows = ("2 x Coffee   7.00", "1 x Tea   3.00", "3 x Muffin   9.00", "Items   6", "Total   19.00")
    assert answer("How many different items were bought?", page(*rows)) == "3"
    assert answer("How many items were bought?", page(*rows)) == "6"
    assert answer("How many items were bought?", page(*rows[:3], rows[4])) is None
    below = page("Coffee", "2 x 3.50   7.00", "Tea", "1 x 3.00   3.00", "Total   10.00")
    assert answer("How many items were bought?", below) is None
    assert answer("How many different items were bought?", below) == "2"


def test_a_total_keeps_its_sign_wherever_it_stands_on_its_line() -> None:
    for total in ("TOTAL   $6.50", "Amount due $6.50"):
        assert answer("What is the total?", page("Bread   5.20", "Milk   1.30", total)) == "$6.50"


def test_items_end_where_their_sum_stands_whatever_it_is_called() -> None:
    rows = ("Card game   12.00", "Changing mat   8.00", "Net   5.00", "Zxqq   25.00", "Kash   30.00", "Back   5.00")
    assert answer("How many different items are there?", page(*rows)) == "3"
    assert answer("What is the most expensive item?", page(*rows)) == "Card game"
    assert answer("How many items were bought?", page("Bread   5.20", "TOTAL   5.20", "Cash   6.00")) == "1"


def test_how_many_there_are_is_no_part_of_a_name() -> None:
    rows = ("Jewel box   12.00", "Blue jamx2   8.00", "Net x 3   5.00", "4 x pots   3.00", "TOTAL   28.00")
    for price, name in (("12.00", "Jewel box"), ("8.00", "Blue jam"), ("5.00", "Net"), ("3.00", "pots")):
        assert answer(f"Which item costs {price}?", page(*rows)) == name


def test_a_misread_digit_of_a_total_is_put_right_by_what_was_read_more_surely() -> None:
    rows = [("Bread   5.20", 0.9), ("Milk   1.30", 0.9), ("Tea   2.00", 0.9), ("TOTAL   3.50", 0.4)]
    lines = [line for number, (row, sure) in enumerate(rows) for line in _below(page(row, sure=sure), number)]
    found = total_of(Page(lines))
    assert found is not None and found.text == "8.50"
    surely = [line for number, (row, _) in enumerate(rows) for line in _below(page(row, sure=0.9), number)]
    found = total_of(Page(surely))
    assert found is not None and found.text == "3.50"  # which of them was misread is not known
    taxed = [("Wxyz   6.50", 0.9), ("Tax   1.30", 0.9), ("TOTAL   7.30", 0.4)]  # the items were not read
    found = total_of(
        Page([line for number, (row, sure) in enumerate(taxed) for line in _below(page(row, sure=sure), number)])
    )
    assert found is not None and found.text == "7.80"
    deducted = [*lines, *_below(page("Coupon   -5.00"), 4)]
    found = total_of(Page(deducted))
    assert found is not None and found.text == "3.50"
    other = [replace(line, text="1.50") if line.text == "3.50" else line for line in lines]
    found = total_of(Page(other))
    assert found is not None and found.text == "1.50"  # an 8 is not read for a 1


def _below(one: Page, number: int) -> list[ReadLine]:
    return [
        replace(line, box=line.box._replace(top=line.box.top + 30 * number, bottom=line.box.bottom + 30 * number))
        for line in one.lines
    ]


def test_a_time_is_no_amount() -> None:
    rows = ("Date 12.03.2021   9:30", "7:15 PM", "10:45", "Bread   5.20", "Milk   1:30", "TOTAL   6.50")
    assert [amount.value for lines in page(*rows).rows for amount in row_of(lines).amounts] == [5.2, 1.3, 6.5]


def test_a_colon_is_a_point_where_other_amounts_have_one() -> None:
    assert written_amount("5:20", SHOP) == "5.20"
    assert written_amount("5:20", page("Opens   8:30", "Lunch   12:15", "Closes   5:20")) == "5:20"
    assert written_amount("PM", SHOP) == "PM"


@pytest.mark.parametrize(
    ("row", "question", "expected"),
    [
        ("Bil no L0948575", "What is the receipt number?", "L0948575"),
        ("Recaipl Q/1942436", "What is the reference?", "Q/1942436"),
        ("Receipt 431782", "What number does the bill have?", "431782"),
        ("No  LPY-627", "Give me the number of the slip.", "LPY-627"),
        ("thanks DU-54277", "Tell me the reference number.", "DU-54277"),
        ("GST Reg No 000123456", "What is the invoice number?", None),
        ("Tel 020 5550199", "What is the receipt number?", None),
        ("Order 12-03-2021", "What is the receipt number?", None),
    ],
)
def test_the_number_of_a_receipt_stands_behind_its_label(row: str, question: str, expected: str | None) -> None:
    assert answer(question, page("SHOP", row, "Bread   5.20", "Milk   1.30", "TOTAL   6.50")) == expected


def test_a_field_of_a_form_is_no_number_of_a_receipt() -> None:
    form = page("Order form", "Order no.   259239", "Account     QCZB-1154", "City        Oslo")
    assert answer("What does it say for Order no.?", form) == "259239"


def test_a_receipt_whose_sum_was_not_read_is_one_all_the_same() -> None:
    receipt = page("Rind Bakery", "Animal   13.00", "Stone   98.00", "Lion   51.51", "Bailance due   $: 52")
    assert answer("What store is this receipt from?", receipt) == "Rind Bakery"


def test_the_tax_is_found_by_its_misread_name_and_whatever_is_said_before() -> None:
    receipt = page("SHOP", "Bread   5.20", "Net   5.20", "6ST   0.42", "TOTAL   5.62")
    assert answer("Good morning, what is the tax?", receipt) == "0.42"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nov 19 2021", "Nov 19, 2021"), ("March 5 2014", "March 5, 2014"), ("Nov 19, 2021", "Nov 19, 2021"),
        ("Room 19 2021", "Room 19 2021"), ("19 Nov 2021", "19 Nov 2021"),
    ],
)  # fmt: skip
def test_a_comma_stands_behind_the_day(text: str, expected: str) -> None:
    assert written_date(text) == expected


def test_pieces_and_price_may_stand_below_a_name() -> None:
    receipt = page("SHOP", "toe", "   1 x 5.00   5.00", "window", "   6  X  6.33   37.98", "TOTAL   42.98")
    assert answer("What does toe cost?", receipt) == "5.00"
    assert answer("How often was window bought?", receipt) == "6"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("VISA   6.50", "VISA"),
        ("Master card   6.50", "Mastercard"),
        ("Cach   10.00", "Cash"),
        ("Card   6.50  EUR", "Card"),
        ("Loyalty points   6.50", None),
        ("VISA", None),
    ],
)
def test_a_receipt_tells_how_it_was_paid(row: str, expected: str | None) -> None:
    receipt = page("SHOP", "Bread   5.20", "Milk   1.30", "TOTAL   6.50", row)
    for question in ("How was it paid?", "What was the method of payment?"):
        assert answer(question, receipt) == expected


def test_of_an_item_without_a_number_there_is_one() -> None:
    receipt = page("SHOP", "Bread   5.20", "2x Milk   1.30", "4 $ APPLE   8.00", "TOTAL   14.50")
    assert answer("How many Bread were bought?", receipt) == "1"
    assert answer("How many Milk were bought?", receipt) == "2"
    assert answer("How many Apple were bought?", receipt) != "1"
    assert answer("How many Bread are there?", page("Bread", "Milk", "Eggs")) is None


def test_the_tax_is_an_amount_and_the_change_is_what_is_called_so() -> None:
    receipt = page(
        "TAX INVOICE", "Bread   5.20", "VAIT 8%   0.42", "Amount   Due   5.62", "Cash   10.00", "Change   4.38"
    )
    assert answer("How much is the tax?", receipt) == "0.42"
    assert answer("How much change was given?", receipt) == "4.38"


def test_dates_and_telephone_numbers_are_no_items() -> None:
    receipt = page(
        "SHOP",
        "Phone 668 265 21.00",
        "2023  01  08  15:38",
        "Soap   11.23",
        "Pasta   5.26",
        "Subtotal   16.49",
        "VISA   16.49",
    )
    assert answer("How many different items were bought?", receipt) == "2"


def test_a_price_may_have_its_currency_behind_it() -> None:
    receipt = page("SHOP", "Bread   5.20  EUR", "Milk   1.30  EUR", "TOTAL   6.50  EUR", "Cash   6.50  EUR")
    assert answer("Which item costs 1.30 EUR?", receipt) == "Milk"
    assert answer("What is the total?", receipt) == "6.50"


@pytest.mark.parametrize(
    ("rows", "question", "expected"),
    [
        (("Receipt No: 4711   Cashier: 123",), "What is the receipt number?", "4711"),
        (("Invoice 4711   PO 9981",), "What is the invoice number?", "4711"),
        (("Invoice No: 1001", "Order No: 2002"), "What is the order number?", "2002"),
        (("Bill to: Anna Smith 12345", "Invoice No: 1001"), "What is the invoice number?", "1001"),
        (("Order 12 desks 1200", "Invoice: INV-20240012"), "What is the invoice number?", "INV-20240012"),
        (("Invoice  Nox  272556",), "What is the invoice number?", "272556"),
        (("Invoice No: 1001", "12-03-2021"), "What is the date of invoice number 1001?", "12-03-2021"),
    ],
)
def test_other_numbers_beside_that_of_a_receipt_are_not_taken_for_it(
    rows: tuple[str, ...], question: str, expected: str
) -> None:
    assert answer(question, page("SHOP", *rows, "Bread   5.20", "Jam   3.00", "TOTAL   8.20")) == expected


def test_shares_of_an_invoice_are_no_pie() -> None:
    invoice = page(
        "Invoice", "Work   20.00", "VAT 20%   4.00", "Discount 5%   1.00", "Service 10%   2.00", "Total   25.00"
    )
    assert answer("How much is the VAT?", invoice) == "4.00"
    assert answer("How much was the service?", invoice) == "2.00"


def test_pieces_above_a_name_are_not_those_of_the_next_one() -> None:
    receipt = page("SHOP", "2 x 1.50", "Tea   3.00", "3 x 2.00", "Cake   6.00", "TOTAL   9.00")
    assert answer("How many Tea were bought?", receipt) != "3"


def test_a_date_is_told_without_the_time_beside_it() -> None:
    rows = ("Bread   5.20", "Milk   1.30", "TOTAL   6.50")
    assert answer("What is the date?", page("SHOP", "Date 22/12/2017 14:03", *rows)) == "22/12/2017"
    assert answer("What is the date?", page("SHOP", "Date: 5 May 2017", *rows)) == "5 May 2017"
    assert answer("What is the time?", page("SHOP", "Date 22/12/2017 14:03", *rows)) == "14:03"


def of_lines(*rows: tuple[str, float]) -> Page:
    """A page of rows that were read with different confidence."""
    read = page(*(text for text, _ in rows))
    return Page(
        [replace(line, confidence=sure) for row, (_, sure) in zip(read.rows, rows, strict=True) for line in row]
    )


def test_a_total_that_was_not_read_is_what_was_paid_less_the_change() -> None:
    receipt = of_lines(
        ("Tea     64.10", 0.3), ("TOTAI     6A.15", 0.2), ("CASH     100.00", 0.9), ("CHANGE     35.85", 0.8)
    )
    found = total_of(receipt)
    assert found is not None and (found.text, found.confidence) == ("64.15", 0.8)
    doubtful = of_lines(
        ("Tea     64.10", 0.3), ("TOTAI     6A.15", 0.2), ("CASH     100.00", 0.9), ("CHANGE     35.85", 0.4)
    )
    found = total_of(doubtful)
    assert found is not None and found.text != "64.15"


def test_three_rows_that_come_out_even_are_total_payment_and_change() -> None:
    receipt = of_lines(
        ("Oil     116.60", 0.9), ("Nut     42.40", 0.9), ("Toud Amt     159.00", 0.6), ("Paid Arount     200.00", 0.98),
        ("Chamgo     41.00", 0.97),
    )  # fmt: skip
    found = total_of(receipt)
    assert found is not None and found.text == "159.00"


def test_a_total_without_and_with_its_tax_are_told_apart() -> None:
    """In the row of a tax stand the sum without it and the tax itself; both and more may come twice."""
    receipt = of_lines(
        ("Oil     68.87", 0.9), ("GST     4.13", 0.9), ("TOPV     73.00", 0.9),
        ("SR 6%     68.87     4.13", 0.95), ("Total qty     1.00", 0.9),
    )  # fmt: skip
    found = total_of(receipt)
    assert found is not None and found.text == "73.00"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("+29-10-2017", "29-10-2017"),
        ("21/02/18 11 19 40278 07", "21/02/18"),
        ("01/02/2021 - 05/02/2021", "01/02/2021 - 05/02/2021"),  # from one to another
        ("Monday 3 May 2021", "Monday 3 May 2021"),
    ],
)
def test_a_date_is_told_without_what_is_part_of_none(written: str, expected: str) -> None:
    assert answer("What is the date?", page("SHOP", f"Date     {written}", "Tea     1.00")) == expected
