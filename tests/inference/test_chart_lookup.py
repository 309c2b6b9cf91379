"""Bars are read off their axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastvlm.inference.chart_lookup import find_chart, separate_labels, written
from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.statement_lookup import check_statement
from fastvlm.processing.text_lines import Box

WIDTH, HEIGHT, ZERO = 400, 260, 220
PER_UNIT = 4  # pixels
VALUES = {"Jam": 30, "Tea": 12, "Salt": 45, "Oats": 21}
Colour = tuple[int, int, int]
GREEN, BLUE, GREY = (40, 150, 60), (50, 70, 190), (240, 240, 240)


def line(text: str, centre_x: float, centre_y: float) -> ReadLine:
    """A line of letters 12 px high around a place."""
    half = 4 * len(text)
    box = Box(round(centre_x - half), round(centre_y - 6), round(centre_x + half), round(centre_y + 6))
    return ReadLine(text, box, 0.9)


def upright(
    values: dict[str, tuple[float, ...]],
    colours: tuple[Colour, ...] = (GREEN,),
    *,
    ground: Colour = GREY,
    noise: float = 0.0,
    misread: dict[str, str] | None = None,
) -> Page:
    """Bars on an axis of 0 to 50, several for a category where it has several values."""
    image = Image.new("RGB", (WIDTH, HEIGHT), ground)
    draw = ImageDraw.Draw(image)
    ticks = []
    for number in range(0, 51, 10):
        y = ZERO - PER_UNIT * number
        draw.line((40, y, WIDTH, y), fill=(150, 150, 150))
        said = (misread or {}).get(str(number), str(number))
        ticks.append(ReadLine(said, Box(34 - 8 * len(said), y - 6, 34, y + 6), 0.9))
    labels = []
    for place, (name, heights) in enumerate(values.items()):
        middle = 85 + 90 * place
        labels.append(line((misread or {}).get(name, name), middle, ZERO + 14))
        for number, (height, colour) in enumerate(zip(heights, colours, strict=True)):
            left = middle - 12 * len(heights) + 24 * number
            draw.rectangle((left, ZERO - round(PER_UNIT * height), left + 23, ZERO), fill=colour)
    legend = []
    for number, colour in enumerate(colours if len(colours) > 1 else ()):
        entry = line(("North", "South")[number], 120 + 120 * number, 8)
        draw.rectangle((entry.box.left - 18, 2, entry.box.left - 7, 13), fill=colour)
        legend.append(entry)
    pixels = np.asarray(image).astype(np.float64)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0
    return Page([*ticks, *labels, *legend], np.clip(pixels, 0, 255).astype(np.uint8))


def lying(values: dict[str, float]) -> Page:
    """Bars to the right."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GREY)
    draw = ImageDraw.Draw(image)
    ticks = [line(str(number), 90 + 5 * number, HEIGHT - 12) for number in range(0, 51, 10)]
    labels = []
    for place, (name, length) in enumerate(values.items()):
        middle = 30 + 50 * place
        half = 8 * len(name)
        labels.append(ReadLine(name, Box(80 - half, middle - 6, 80, middle + 6), 0.9))
        draw.rectangle((90, middle - 14, 90 + round(5 * length), middle + 14), fill=BLUE)
    return Page([*ticks, *labels], np.asarray(image))


def single(**options: object) -> Page:
    return upright({name: (value,) for name, value in VALUES.items()}, **options)  # type: ignore[arg-type]


def value(page: Page, question: str) -> float | None:
    found = look_up(question, page)
    return None if found is None else float(found.text)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    "page",
    [
        single(),
        single(ground=(60, 62, 70), colours=((170, 190, 90),)),
        single(noise=12.0),
        single(misread={"20": "70", "0": "QO"}),
        lying({name: float(value) for name, value in VALUES.items()}),
    ],
    ids=["plain", "dark", "noisy", "misread ticks", "to the right"],
)
def test_a_bar_is_measured(page: Page, name: str) -> None:
    assert value(page, f"What is the value of {name}?") == pytest.approx(VALUES[name], rel=0.05)


def test_the_highest_and_the_lowest_bar_are_told() -> None:
    for page in (single(), lying({name: float(value) for name, value in VALUES.items()})):
        for question, expected in (("Which bar is the highest?", "Salt"), ("Which is the smallest?", "Tea")):
            found = look_up(question, page)
            assert found is not None and found.text == expected


def test_categories_are_counted() -> None:
    for page in (single(), lying({name: float(value) for name, value in VALUES.items()})):
        for question in ("How many bars are there?", "How many categories does the chart have?", "Count the bars."):
            assert value(page, question) == len(VALUES)
        assert look_up("How many bars are higher than 20?", page) is None


def test_claims_about_bars_are_checked() -> None:
    for claim, is_so in (
        ("Salt has the highest value", True), ("Jam has the highest value", False), ("the value of Tea is 12", True),
        ("the value of Tea is 45", False), ("Jam is 30.4", True),  # as near as bars are measured
    ):  # fmt: skip
        verdict = check_statement(f"Is it true that {claim}?", single())
        assert verdict is not None and verdict.is_so == is_so, claim
    verdict = check_statement("Is the value of Oats higher than that of Tea?", single())
    assert verdict is not None and verdict.is_so


def test_of_several_series_the_bar_with_the_colour_of_its_entry_is_measured() -> None:
    page = upright({"Jam": (30, 10), "Tea": (12, 40), "Salt": (45, 25)}, (GREEN, BLUE))
    for category, series, expected in (("Jam", "North", 30), ("Jam", "South", 10), ("Tea", "South", 40)):
        assert value(page, f"What is {series} for {category}?") == pytest.approx(expected, rel=0.05)


def test_a_number_over_a_bar_counts_unless_the_bar_says_otherwise() -> None:
    page = single()
    chart = find_chart(page)
    assert chart is not None
    over = {name: line("30.5" if name == "Jam" else "92", 85 + 90 * place, 20) for place, name in enumerate(VALUES)}
    numbered = Page([*page.lines, over["Jam"], over["Tea"]], page.picture)
    assert value(numbered, "What is the value of Jam?") == 30.5  # as written, to the last digit
    assert value(numbered, "What is the value of Tea?") == pytest.approx(12, rel=0.05)  # 92 is misread


def with_drawn_labels(*, gaps: tuple[int, ...]) -> Page:
    """Bars whose labels are drawn, and read as one line; gaps: before each but the first, in pixels."""
    page = single()
    chart = find_chart(page)
    assert chart is not None and page.picture is not None
    image = Image.fromarray(page.picture)
    left, (top, bottom) = 60, (ZERO + 6, ZERO + 20)
    for name, gap in zip(VALUES, (0, *gaps), strict=True):
        left += gap
        for place in range(len(name)):
            ImageDraw.Draw(image).rectangle(
                (left + 8 * place, top + 2, left + 8 * place + 5, bottom - 2), fill=(0, 0, 0)
            )
        left += 8 * len(name)
    joined = ReadLine("Jam Tea Salt Oats", Box(60, top, left, bottom), 0.5)
    return Page([*(one for one in page.lines if one not in chart.labels), joined], np.asarray(image))


def test_labels_that_were_read_as_one_line_are_told_apart_where_they_stand_evenly() -> None:
    ((joined, boxes),) = separate_labels(with_drawn_labels(gaps=(24, 20, 16))).items()
    assert joined.text == "Jam Tea Salt Oats"
    assert [round(box.width / 8) for box in boxes] == [3, 3, 4, 4]
    assert separate_labels(with_drawn_labels(gaps=(20, 90, 16))) == {}  # words of a longer text
    assert separate_labels(single()) == {}
    assert separate_labels(lying({name: float(value) for name, value in VALUES.items()})) == {}


def line_chart(*, slope: float = 0.0, grid: bool = True, numbers: bool = False) -> Page:
    """Points on an axis of 0 to 50, joined by a line. slope: by how much the ground gets darker to the right."""
    page = upright({name: (0,) for name in VALUES})
    image = Image.new("RGB", (WIDTH, HEIGHT), GREY)
    draw = ImageDraw.Draw(image)
    for number in range(0, 51, 10) if grid else ():
        draw.line((40, ZERO - PER_UNIT * number, WIDTH, ZERO - PER_UNIT * number), fill=(150, 150, 150))
    points = [(85 + 90 * place, ZERO - PER_UNIT * value) for place, value in enumerate(VALUES.values())]
    draw.line(points, fill=BLUE, width=2)
    for x, y in points:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=BLUE)
    over = [line(str(value + 1), x, y - 12) for (x, y), value in zip(points, VALUES.values(), strict=True)]
    for one in over if numbers else ():
        draw.rectangle((one.box.left, one.box.top + 2, one.box.right, one.box.bottom - 2), fill=(20, 20, 20))
    shade = slope * np.linspace(0, 1, WIDTH)[None, :, None]
    pixels = np.clip(np.asarray(image) - shade, 0, 255).astype(np.uint8)
    return Page([*page.lines, *(over if numbers else ())], pixels)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    "page",
    [line_chart(), line_chart(grid=False), line_chart(slope=40.0)],
    ids=["with a grid", "without one", "on uneven ground"],
)
def test_a_point_of_a_line_is_measured(page: Page, name: str) -> None:
    assert value(page, f"What is the value of {name}?") == pytest.approx(VALUES[name], rel=0.08)


def test_the_highest_and_the_lowest_point_are_told_and_texts_are_no_points() -> None:
    for page in (line_chart(), line_chart(slope=40.0), line_chart(numbers=True)):
        for question, expected in (("Which has the highest value?", "Salt"), ("Which is the smallest?", "Tea")):
            found = look_up(question, page)
            assert found is not None and found.text == expected


def test_entries_of_a_legend_may_be_numbers_and_titles_are_none() -> None:
    page = upright({"Jam": (30, 10), "Tea": (12, 40)}, (GREEN, BLUE))
    years = [replace(one, text={"North": "2019", "South": "2020"}.get(one.text, one.text)) for one in page.lines]
    assert value(Page(years, page.picture), "What is 2019 for Jam?") == pytest.approx(30, rel=0.05)
    titled = Page([*page.lines, line("Value of exports", 330, 8)], page.picture)
    assert value(titled, "What is North for Tea?") == pytest.approx(12, rel=0.05)
    single_titled = Page([*single().lines, line("Value of exports", 200, 8)], single().picture)
    assert value(single_titled, "What is the value of Salt?") == pytest.approx(45, rel=0.05)


def test_of_a_series_that_is_named_the_highest_bar_is_told() -> None:
    page = upright({"Jam": (30, 10), "Tea": (12, 40), "Salt": (45, 25)}, (GREEN, BLUE))
    for question, expected in (("Which has the highest North?", "Salt"), ("Which has the highest South?", "Tea")):
        found = look_up(question, page)
        assert found is not None and found.text == expected


def test_a_chart_of_neither_bars_nor_points_has_no_values() -> None:
    page = upright({name: (0,) for name in VALUES})
    assert look_up("What is the value of Tea?", page) is None
    assert look_up("Which has the highest value?", page) is None


def test_a_bar_that_cannot_be_measured_has_no_value_and_may_be_the_lowest() -> None:
    page = upright({"Jam": (30,), "Tea": (0,), "Salt": (45,)})
    assert look_up("What is the value of Tea?", page) is None
    assert look_up("Which is the lowest?", page) is None
    found = look_up("Which is the highest?", page)
    assert found is not None and found.text == "Salt"


def test_where_no_bar_begins_nothing_is_measured() -> None:
    page = upright({"Jam": (30,), "Tea": (0,), "Salt": (45,)})
    chart = find_chart(page)
    assert chart is not None
    assert [None if (found := chart.value(label)) is None else round(found) for label in chart.labels] == [30, None, 45]


def test_pages_without_an_axis_are_no_charts() -> None:
    page = single()
    assert find_chart(Page(page.lines)) is None  # without its picture
    assert find_chart(Page([], page.picture)) is None
    table = [line(text, 60 + 100 * column, 30 + 30 * row) for row, texts in enumerate(
        (("Town", "Apples"), ("Oslo", "12"), ("Bergen", "5"), ("Tromso", "40"))
    ) for column, text in enumerate(texts)]  # fmt: skip
    assert find_chart(Page(table, page.picture)) is None


@pytest.mark.parametrize(
    ("number", "expected"), [(30.0, "30"), (12.345, "12.3"), (0.05, "0.05"), (1999.6, "2000"), (0.0, "0")]
)
def test_what_is_measured_is_written_with_three_digits(number: float, expected: str) -> None:
    assert written(number) == expected


def test_a_letter_alone_on_the_axis_is_a_nought() -> None:
    page = upright({name: (value,) for name, value in VALUES.items()}, misread={"0": "O", "20": "26", "40": "46"})
    found = look_up("What is the value of Tea?", page)
    assert found is not None and float(found.text) == pytest.approx(12, rel=0.05)


def test_a_table_with_numbers_that_agree_by_chance_is_no_chart() -> None:
    """Three of six numbers of a column rise as evenly as ticks do, and so do those of one row."""
    columns = {150: ("6894", "4387", "1897", "8772", "1601", "1213"), 250: ("9%", "25%", "41%", "71%", "68%", "43%")}
    lines = [ReadLine(text, Box(x - 8 * len(text), y, x, y + 12), 0.9)
             for x, texts in columns.items() for y, text in zip(range(40, 200, 26), texts, strict=False)]  # fmt: skip
    lines += [line(f"Row{number}", 40, 46 + 26 * number) for number in range(6)]
    blank = np.full((220, 300, 3), 250, np.uint8)
    assert find_chart(Page(lines, blank)) is None
    row = [line(text, 60 + 90 * place, 46) for place, text in enumerate(("9%", "41%", "71%"))]
    rest = [line(text, 60 + 90 * place, 72) for place, text in enumerate(("68%", "21%", "61%"))]
    names = [line("Yellow", 20, 20), line("Bridge", 20, 8)]
    assert find_chart(Page([*row, *rest, *names], blank)) is None


def test_numbers_behind_bars_are_no_entries_of_a_legend() -> None:
    page = sideways()
    chart = find_chart(page)
    assert chart is not None and chart.legend(page) == []


def test_a_category_is_no_title() -> None:
    found = look_up("What is the title?", sideways())
    assert found is None


def sideways() -> Page:
    """Bars to the right, with their numbers behind them."""
    image = Image.new("RGB", (420, 200), GREY)
    draw = ImageDraw.Draw(image)
    lines = [line(str(number), 80 + 6 * number, 180) for number in range(0, 51, 10)]
    for place, (name, value) in enumerate(VALUES.items()):
        y = 30 + 38 * place
        draw.rectangle((80, y - 12, 80 + 6 * value, y + 12), fill=GREEN)
        lines += [line(name, 40, y), line(str(value), 80 + 6 * value + 14, y)]
    return Page(lines, np.asarray(image))


def test_entries_of_a_legend_and_categories_may_have_numbers() -> None:
    page = upright({"Jam": (30, 10), "Tea": (12, 40)}, (GREEN, BLUE))
    quarters = [replace(one, text={"North": "Q1", "South": "Q2"}.get(one.text, one.text)) for one in page.lines]
    assert value(Page(quarters, page.picture), "What is Q2 for Tea?") == pytest.approx(40, rel=0.05)
    numbered = upright({str(number): (height,) for number, height in enumerate((30, 12, 45, 21), start=1)})
    chart = find_chart(numbered)
    assert chart is not None and [label.text for label in chart.labels] == ["1", "2", "3", "4"]


def test_a_number_of_the_page_below_a_chart_makes_it_no_table() -> None:
    bars = sideways()
    below = line("12", 400, 196)
    assert find_chart(Page([*bars.lines, below], bars.picture)) is not None
