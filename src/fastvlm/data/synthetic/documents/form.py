"""Forms: keys with values in boxes, on lines or in a table, and boxes that are ticked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastvlm.data.synthetic.documents import strings
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import Drawing, Rectangle, Stroke
from fastvlm.data.synthetic.documents.sheet import ASCENT, Align, Sheet
from fastvlm.data.synthetic.documents.words import WordSplit, any_word, name

TRAIN_LAYOUTS = ("colon", "lines", "boxes", "table", "above", "right")
HELD_OUT_LAYOUTS = ("dots", "two columns")

Maker = Callable[[random.Random, WordSplit], str]


def _day(rng: random.Random, split: WordSplit) -> str:
    return strings.date(rng, split)


def _department(rng: random.Random, split: WordSplit) -> str:
    return any_word(rng, split).capitalize()


KEYS: dict[str, Maker] = {
    "Name": strings.full_name, "Date": _day, "Date of birth": _day, "Phone": strings.phone, "Email": strings.email,
    "Address": strings.street, "City": name, "Order no.": strings.code, "Amount": strings.amount,
    "Department": _department, "Reference": strings.code, "First name": name, "Last name": name,
    "Country": name, "Account": strings.number, "Quantity": strings.number, "Start date": _day, "End date": _day,
    "Invoice": strings.code, "Price": strings.price, "Company": name, "Contact": strings.full_name,
    "Age": lambda rng, _: str(rng.randint(1, 99)), "Room": lambda rng, _: str(rng.randint(1, 499)),
    "Postcode": lambda rng, _: str(rng.randint(10_000, 99_999)), "Colour": _department, "Status": _department,
    "Customer": strings.full_name, "Weight": lambda rng, _: f"{rng.randint(1, 99)} kg", "Time": strings.time_of_day,
}  # fmt: skip
"""What forms ask for, and what is entered."""

_TITLES = (
    "Application", "Registration", "Order form", "Booking", "Visitor form", "Member card", "Claim form", "Request",
    "Delivery note", "Enrolment", "Survey", "Work order",
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """What a form says. boxes: options, each with whether it is ticked."""

    title: str
    fields: tuple[tuple[str, str], ...]
    boxes: tuple[tuple[str, bool], ...]


def sample_form(setting: Setting) -> Document:
    """Draw a form that fills its canvas more or less."""
    rng = setting.rng
    paper, ink = setting.paper_and_ink(colored_share=0.06)
    sheet = Sheet(
        setting.width_px, setting.height_px, face=setting.face("sans", "serif"),
        size_px=rng.randint(18, 23), ink=ink,
        margin_px=rng.uniform(8, 0.06 * setting.width_px + 4), leading=rng.uniform(1.25, 1.6),
    )  # fmt: skip
    layout = setting.layout(TRAIN_LAYOUTS, HELD_OUT_LAYOUTS)
    form = _sample(setting, sheet, layout)
    _write(setting, sheet, form, layout)
    return Document(
        kind="form",
        drawing=Drawing(setting.width_px, setting.height_px, paper, tuple(sheet.marks)),
        facts=tuple(_facts(form)),
        transcript="\n".join(sheet.lines),
        caption=f"A form titled {form.title} with {len(form.fields)} fields{_boxes(form)}.",
        missing=tuple(_missing(form, rng)),
    )


def _sample(setting: Setting, sheet: Sheet, layout: str) -> Form:
    rng = setting.rng
    rows = sheet.rows_left - 2
    per_field = 2 if layout == "above" else 1
    num_boxes = rng.choice((0, 0, 2, 3, 4)) if rows >= 6 else 0
    num_fields = max(2, min(12, (rows - num_boxes) // per_field))
    if layout == "two columns":
        num_fields = min(12, 2 * num_fields)
    fields: dict[str, str] = {}
    for key in rng.sample(list(KEYS), len(KEYS)):
        if len(fields) == num_fields:
            break
        value = KEYS[key](rng, setting.words)
        if _has_room(sheet, key, value, layout) and value not in fields.values():
            fields[key] = value
    labels = {strings.word(rng, setting.words).capitalize() for _ in range(num_boxes)}
    boxes = tuple(
        (label, rng.random() < 0.5) for label in sorted(labels) if sheet.width_of(label) < 0.8 * sheet.inner_px
    )
    title = rng.choice(_TITLES)
    return Form(title.upper() if rng.random() < 0.3 else title, tuple(fields.items()), boxes)


def _has_room(sheet: Sheet, key: str, value: str, layout: str) -> bool:
    if layout == "above":
        return sheet.width_of(value) < sheet.inner_px - sheet.size_px
    half_px = sheet.inner_px / 2 - sheet.size_px
    if layout == "two columns":
        return sheet.width_of(f"{key}: {value}") < half_px
    if layout in ("table", "boxes", "right"):
        return sheet.width_of(key) < 0.42 * sheet.inner_px and sheet.width_of(value) < 0.5 * sheet.inner_px
    return sheet.fits(f"{key}:", value, gap=1.0)


def _write(setting: Setting, sheet: Sheet, form: Form, layout: str) -> None:
    rng = setting.rng
    if sheet.width_of(form.title, scale=1.3) < sheet.inner_px:
        sheet.row((form.title, rng.choice(("left", "center"))), scale=1.3)
    else:
        sheet.row((form.title, "left"))
    if rng.random() < 0.4:
        sheet.rule()
    if layout == "two columns":
        _write_pairs(sheet, form)
    else:
        for key, value in form.fields:
            _write_field(sheet, key, value, layout)
    for label, is_ticked in form.boxes:
        _write_box(sheet, label, is_ticked=is_ticked, cross=rng.random() < 0.5)


def _write_pairs(sheet: Sheet, form: Form) -> None:
    for first in range(0, len(form.fields), 2):
        pair = [f"{key}: {value}" for key, value in form.fields[first : first + 2]]
        edges = (sheet.margin_px, sheet.width_px / 2 + sheet.size_px / 2)
        aligns: list[Align] = ["left"] * len(pair)
        sheet.columns(pair, edges[: len(pair)], aligns)


def _write_field(sheet: Sheet, key: str, value: str, layout: str) -> None:
    top_px, size_px = sheet.top_px, sheet.size_px
    left_px, right_px, value_px = sheet.margin_px, sheet.width_px - sheet.margin_px, 0.45 * sheet.width_px
    match layout:
        case "lines":
            start_px = left_px + sheet.width_of(f"{key} ") + 2
            y_px = top_px + ASCENT * size_px + 4
            sheet.marks.append(Stroke(((start_px, y_px), (right_px, y_px)), sheet.ink, 1))
            sheet.columns((key, value), (left_px, start_px + 4), ("left", "left"))
        case "boxes":
            bottom_px = top_px + sheet.leading * size_px - 2
            box = Rectangle(value_px - 5, top_px - 2, right_px, bottom_px, None, sheet.ink, 1)
            sheet.marks.append(box)
            sheet.columns((key, value), (left_px, value_px), ("left", "left"))
        case "table":
            bottom_px = top_px + sheet.leading * size_px
            for start_px, end_px in ((left_px - 4, value_px - 6), (value_px - 6, right_px + 4)):
                sheet.marks.append(Rectangle(start_px, top_px - 3, end_px + 1, bottom_px - 2, None, sheet.ink, 1))
            sheet.columns((key, value), (left_px, value_px), ("left", "left"))
        case "above":
            sheet.row((key, "left"), scale=0.9)
            sheet.row((value, "left"), indent_px=size_px / 2)
            sheet.rule()
        case "right":
            sheet.row((key, "left"), (value, "right"))
        case "dots":
            sheet.leaders(key, value)
        case _:
            sheet.row((f"{key}: {value}", "left"))


def _write_box(sheet: Sheet, label: str, *, is_ticked: bool, cross: bool) -> None:
    side_px = 0.7 * sheet.size_px
    left_px, top_px = sheet.margin_px, sheet.top_px + 0.15 * sheet.size_px
    right_px, bottom_px = left_px + side_px, top_px + side_px
    sheet.marks.append(Rectangle(left_px, top_px, right_px + 1, bottom_px + 1, None, sheet.ink, 1))
    if is_ticked and cross:
        sheet.marks.append(Stroke(((left_px + 2, top_px + 2), (right_px - 2, bottom_px - 2)), sheet.ink, 2))
        sheet.marks.append(Stroke(((left_px + 2, bottom_px - 2), (right_px - 2, top_px + 2)), sheet.ink, 2))
    elif is_ticked:
        middle = (left_px + 0.4 * side_px, bottom_px - 2)
        points = ((left_px + 2, top_px + 0.5 * side_px), middle, (right_px - 1, top_px + 1))
        sheet.marks.append(Stroke(points, sheet.ink, 2))
    sheet.row((label, "left"), indent_px=1.6 * side_px)


def _boxes(form: Form) -> str:
    match len(form.boxes):
        case 0:
            return ""
        case 1:
            return " and 1 box to tick"
        case several:
            return f" and {several} boxes to tick"


def _facts(form: Form) -> Iterator[Fact]:
    values = tuple(value for _, value in form.fields)
    keys = tuple(key for key, _ in form.fields)
    yield Fact("title", form.title)
    if not form.boxes:  # which some would count
        yield Fact("num_fields", str(len(form.fields)))
    for key, value in form.fields:
        others = tuple(other for other in values if other != value)
        yield Fact("value", value, {"key": key}, others)
        yield Fact("key", key, {"value": value}, tuple(other for other in keys if other != key))
    for label, is_ticked in form.boxes:
        yield Fact("ticked", "yes" if is_ticked else "no", {"key": label})
    if form.boxes:
        yield Fact("num_ticked", str(sum(is_ticked for _, is_ticked in form.boxes)))


_ALIKE = (
    {"Name", "First name", "Last name", "Customer", "Contact"},
    {"Amount", "Price"},
    {"Order no.", "Reference", "Invoice", "Account"},
)  # fmt: skip
"""Keys that may mean each other."""


def _may_mean(key: str, other: str) -> bool:
    """Whether somebody who asks for a key may take what stands beside another."""
    one, two = key.lower(), other.lower()
    return one in two or two in one or any({key, other} <= keys for keys in _ALIKE)


def _missing(form: Form, rng: random.Random) -> Iterator[Fact]:
    present = {key for key, _ in form.fields}
    # Nobody can say that there is no date where there is a start date.
    absent = [key for key in KEYS if not any(_may_mean(key, own) for own in present)]
    for key in rng.sample(absent, min(3, len(absent))):
        yield Fact("value", "", {"key": key})
