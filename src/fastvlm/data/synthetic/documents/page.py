"""Pages and signs: words that are read for their own sake."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from fastvlm.data.synthetic.documents import strings
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import (
    Drawing,
    Mark,
    Polygon,
    Rectangle,
    Text,
    fitting_size_px,
    text_width_px,
)
from fastvlm.data.synthetic.documents.fonts import Face
from fastvlm.data.synthetic.documents.sheet import Align, Sheet
from fastvlm.data.synthetic.documents.words import any_word
from fastvlm.data.synthetic.palette import COLORS, RGB, sample_rgb
from fastvlm.data.synthetic.wording import capitalised, with_article

PAGE_LAYOUTS, HELD_OUT_PAGE_LAYOUTS = ("left", "indented", "centered"), ("right", "narrow")
SIGN_LAYOUTS, HELD_OUT_SIGN_LAYOUTS = ("plate", "border", "plain"), ("band",)

_DIRECTIONS = ("left", "right", "up", "down")


def sample_page(setting: Setting) -> Document:
    """Draw a page of running words, perhaps with a heading."""
    rng = setting.rng
    paper, ink = setting.paper_and_ink(colored_share=0.08)
    layout = setting.layout(PAGE_LAYOUTS, HELD_OUT_PAGE_LAYOUTS)
    sheet = Sheet(
        setting.width_px, setting.height_px, face=setting.face("sans", "serif", "mono"),
        size_px=rng.randint(18, 24), ink=ink,
        margin_px=(0.14 if layout == "narrow" else rng.uniform(0.02, 0.06)) * setting.width_px + 4,
        leading=rng.uniform(1.2, 1.5),
    )  # fmt: skip
    heading = _heading(setting, sheet)
    align: Align = "center" if layout == "centered" else "right" if layout == "right" else "left"
    lines: list[str] = []
    most = rng.randint(2, max(2, sheet.rows_left))
    while sheet.rows_left > 0 and len(lines) < most:
        line = _line(setting, sheet)
        indent_px = sheet.size_px if layout == "indented" and not lines else 0.0
        line = line if sheet.width_of(line) + indent_px <= sheet.inner_px else line.rsplit(" ", 1)[0]
        sheet.row((line, align), indent_px=indent_px)
        lines.append(line)
    return Document(
        kind="page",
        drawing=Drawing(setting.width_px, setting.height_px, paper, tuple(sheet.marks)),
        facts=tuple(_page_facts(setting, heading, lines)),
        transcript="\n".join(sheet.lines),
        caption=f"A page of text titled {heading}." if heading else f"A page of text with {len(lines)} lines.",
        missing=() if heading else (Fact("title", ""),),
    )


def _heading(setting: Setting, sheet: Sheet) -> str | None:
    if setting.rng.random() < 0.4 or sheet.rows_left < 3:
        return None
    heading = setting.text(strings.words).title()
    if sheet.width_of(heading, scale=1.35) > sheet.inner_px:
        heading = heading.split()[0]
    if sheet.width_of(heading, scale=1.35) > sheet.inner_px:
        return None
    sheet.row((heading, setting.rng.choice(("left", "center"))), scale=1.35)
    sheet.space(0.3)
    return heading


def _line(setting: Setting, sheet: Sheet) -> str:
    """Words, and now and then a number, that fill a row."""
    rng = setting.rng
    line = any_word(rng, setting.words)
    while True:
        word = any_word(rng, setting.words) if rng.random() < 0.9 else setting.text(strings.number)
        longer = f"{line} {word}"
        if sheet.width_of(longer) > sheet.inner_px - 1.2 * sheet.size_px or len(longer) > 48:
            return line
        line = longer


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def _page_facts(setting: Setting, heading: str | None, lines: list[str]) -> Iterator[Fact]:
    if heading is not None:
        yield Fact("title", heading)
    else:  # whether a heading is a line, people could dispute
        yield Fact("num_lines", str(len(lines)))
        for number, line in enumerate(lines[: len(_ORDINALS)]):
            yield Fact("line", line, {"nth": _ORDINALS[number]})
    if len(lines) > 2:
        yield Fact("line", lines[-1], {"nth": "last"})
    words = [word for line in lines for word in line.split()]
    for line in lines:
        pairs = line.split()
        for first, second in pairwise(pairs):
            if words.count(first) == 1:
                yield Fact("after", second, {"word": first})
    chosen = setting.rng.choice(words)
    yield Fact("has_word", "yes", {"word": chosen})
    other = any_word(setting.rng, setting.words)
    yield Fact("has_word", "yes" if other in words else "no", {"word": other})


def sample_sign(setting: Setting) -> Document:
    """Draw a plate with one to three large lines, perhaps with an arrow."""
    rng = setting.rng
    plate_name = rng.choice(COLORS)
    plate = sample_rgb(rng, color=plate_name)
    ink_name, ink = "white", (250, 250, 250)
    if sum(plate) > 3 * 128:
        ink_name, ink = "black", (15, 15, 15)
    layout = setting.layout(SIGN_LAYOUTS, HELD_OUT_SIGN_LAYOUTS)
    width_px, height_px = setting.width_px, setting.height_px
    level = rng.randint(60, 220)
    surroundings = (level, level, level) if layout != "plain" else plate
    inset_px = rng.uniform(4, 0.08 * min(width_px, height_px) + 4)
    marks: list[Mark] = []
    if layout != "plain":
        box = (inset_px, inset_px, width_px - inset_px, height_px - inset_px)
        marks.append(Rectangle(*box, plate, ink if layout == "border" else None, 3, radius_px=rng.choice((0.0, 8.0))))
    if layout == "band":
        marks.append(Rectangle(inset_px, inset_px, width_px - inset_px, inset_px + 6, ink))
    arrow = rng.choice(_DIRECTIONS) if rng.random() < 0.4 and height_px >= 128 else None
    arrow_px = 0.3 * height_px if arrow is not None else 0.0
    face = setting.face("sans", "display", "serif")
    texts: list[str] = []
    room_px = height_px - 2 * inset_px - 12 - arrow_px
    num_lines = max(1, min(rng.choice((1, 1, 2, 2, 3)), int(room_px // 26)))
    for number in range(num_lines):
        line_px = room_px / num_lines
        text, size_px = _fitting(setting, face, width_px - 2 * inset_px - 16, min(64, int(0.75 * line_px)))
        left_px = (width_px - text_width_px(text, face, size_px)) / 2
        baseline_px = inset_px + 6 + (number + 0.5) * line_px + 0.35 * size_px
        marks.append(Text(text, face, size_px, left_px, baseline_px, ink))
        texts.append(text)
    if arrow is not None:
        marks.append(_arrow(arrow, width_px / 2, height_px - inset_px - 6 - arrow_px / 2, 0.42 * arrow_px, ink))
    facts = list(_sign_facts(texts, arrow, ink_name, plate_name))
    return Document(
        kind="sign",
        drawing=Drawing(width_px, height_px, surroundings, tuple(marks)),
        facts=tuple(facts),
        transcript="\n".join(texts),
        caption=capitalised(f"{with_article(f'{plate_name} sign')} that says {' '.join(texts)}."),
        missing=() if arrow is not None else (Fact("arrow", ""),),
    )


def _fitting(setting: Setting, face: Face, width_px: float, largest_px: int) -> tuple[str, int]:
    """A short text with the size at which it fills the width, no smaller than 18 px."""
    for _ in range(40):
        text = setting.text(
            setting.rng.choice((strings.word, strings.words, strings.word, strings.price, strings.number))
        )
        size_px = fitting_size_px(text, face, width_px=width_px, largest_px=max(18, largest_px), smallest_px=18)
        if size_px is not None:
            return text, size_px
    return str(setting.rng.randrange(10, 100)), 18


def _arrow(direction: str, x_px: float, y_px: float, radius_px: float, ink: RGB) -> Polygon:
    """An arrow around a centre: a head of twice the shaft's width."""
    right = ((1, 0), (0.1, 0.75), (0.1, 0.3), (-1, 0.3), (-1, -0.3), (0.1, -0.3), (0.1, -0.75))
    turns = {"right": 0, "down": 1, "left": 2, "up": 3}[direction]
    points = []
    for across, down in right:
        for _ in range(turns):
            across, down = -down, across
        points.append((x_px + radius_px * across, y_px + radius_px * down))
    return Polygon(tuple(points), ink)


def _sign_facts(texts: list[str], arrow: str | None, ink: str, plate: str) -> Iterator[Fact]:
    yield Fact("says", " ".join(texts))
    if len(texts) > 1:
        for number, text in enumerate(texts):
            yield Fact("line", text, {"nth": _ORDINALS[number]})
    if arrow is not None:
        yield Fact("arrow", arrow, others=tuple(other for other in _DIRECTIONS if other != arrow))
    yield Fact("text_color", ink)
    yield Fact("sign_color", plate)
