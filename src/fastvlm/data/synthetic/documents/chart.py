"""Charts: bars up or across, bars in groups, lines and pies, with axes whose steps are round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from fastvlm.data.synthetic.documents import strings
from fastvlm.data.synthetic.documents.colors import LEAST_CONTRAST, brightness
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import Disc, Drawing, Mark, Rectangle, Stroke, Text, text_width_px
from fastvlm.data.synthetic.documents.fonts import Face
from fastvlm.data.synthetic.documents.words import any_word
from fastvlm.data.synthetic.palette import RGB

TRAIN_LAYOUTS = ("bars", "bars across", "groups", "line", "pie")
HELD_OUT_LAYOUTS = ("bars", "bars across", "line")
"""What sets the held-out charts apart is how they look: axes, grids and colours (see `_Look`)."""

PALETTES: tuple[tuple[RGB, ...], ...] = (
    ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75)),
    ((60, 110, 200), (220, 90, 80), (90, 170, 90), (240, 180, 60), (120, 90, 170), (90, 180, 190)),
    ((70, 70, 70), (130, 130, 130), (40, 40, 40), (170, 170, 170), (100, 100, 100), (20, 20, 20)),
    ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0)),
)
HELD_OUT_PALETTES: tuple[tuple[RGB, ...], ...] = (
    ((102, 60, 130), (230, 120, 60), (60, 140, 130), (190, 60, 90), (80, 100, 60), (60, 80, 140)),
)

_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000)


@dataclass(frozen=True)
class Chart:
    """What a chart says. series: names, one without a legend; values: by series and category. unit: of the axis."""

    kind: str
    title: str | None
    categories: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    step: float
    unit: str | None


@dataclass(frozen=True)
class _Look:
    face: Face
    size_px: int
    ink: RGB
    colors: tuple[RGB, ...]
    has_grid: bool
    has_labels: bool
    has_frame: bool


@dataclass(frozen=True)
class _Plot:
    """The area between the axes."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float

    @property
    def width_px(self) -> float:
        return self.right_px - self.left_px

    @property
    def height_px(self) -> float:
        return self.bottom_px - self.top_px


def sample_chart(setting: Setting) -> Document:
    """Draw a chart on its canvas."""
    rng = setting.rng
    light = rng.randint(235, 255)
    paper, ink = ((light, light, light), (20, 20, 20)) if rng.random() < 0.9 else ((30, 32, 40), (230, 230, 230))
    kind = setting.layout(TRAIN_LAYOUTS, HELD_OUT_LAYOUTS)
    is_held_out = setting.layouts == "held_out"
    colors = rng.choice(HELD_OUT_PALETTES if is_held_out else PALETTES)
    colors = tuple(color for color in rng.sample(colors, len(colors)) if _differs(color, paper))
    look = _Look(
        face=setting.face("sans", "serif"),
        size_px=rng.randint(16, 20),
        ink=ink,
        colors=colors or (ink,),
        has_grid=rng.random() < (0.9 if is_held_out else 0.4),
        has_labels=rng.random() < 0.35,
        has_frame=rng.random() < (0.8 if is_held_out else 0.2),
    )
    chart = _sample(setting, kind, look)
    marks = _draw(setting, chart, look)
    return Document(
        kind="chart",
        drawing=Drawing(setting.width_px, setting.height_px, paper, tuple(marks)),
        facts=tuple(_facts(chart)),
        transcript="\n".join(mark.text for mark in marks if isinstance(mark, Text)),
        caption=_caption(chart),
        missing=tuple(_missing(setting, chart)),
    )


def _differs(color: RGB, paper: RGB) -> bool:
    return abs(brightness(color) - brightness(paper)) >= LEAST_CONTRAST / 2


def _caption(chart: Chart) -> str:
    names = {
        "bars": "bar chart",
        "bars across": "bar chart",
        "groups": "bar chart",
        "line": "line chart",
        "pie": "pie chart",
    }
    about = f" titled {chart.title}" if chart.title else ""
    return f"A {names[chart.kind]}{about} with {len(chart.categories)} categories."


def _sample(setting: Setting, kind: str, look: _Look) -> Chart:
    rng = setting.rng
    num = rng.randint(3, 7) if kind in ("bars", "bars across", "line") else rng.randint(3, 5)
    num_series = rng.randint(2, 3) if kind == "groups" else 1
    room_px = (setting.width_px - 60) / num if kind in ("bars", "groups", "line") else 0.3 * setting.width_px
    categories = _names(setting, look, num, room_px, allows_years=kind in ("bars", "line"))
    series = _names(setting, look, num_series, 0.25 * setting.width_px, allows_years=False)
    step = float(rng.choice(_STEPS))
    num_steps = rng.randint(4, 6)
    # What no label says has to be readable off the axis: on a tick, or half way between two.
    # A line may pass behind its labels, close to their digits.
    grid = 0.0 if look.has_labels and num_series == 1 and kind != "line" else rng.choice((0.5, 1.0))
    values = tuple(
        tuple(_value(rng.uniform(0.5, num_steps), step, grid=grid) for _ in range(num)) for _ in range(num_series)
    )
    if kind == "pie":
        shares = [rng.uniform(0.6, 3) for _ in range(num)]
        rounded = [max(4, round(100 * share / sum(shares))) for share in shares]
        rounded[0] += 100 - sum(rounded)
        values = (tuple(float(share) for share in rounded),)
    title = setting.text(strings.words).capitalize() if rng.random() < 0.8 else None
    if title is not None and text_width_px(title, look.face, round(1.15 * look.size_px)) > setting.width_px - 12:
        title = title.split()[0]
    unit = (
        rng.choice(("Units", "Count", "Tons", "Price", "Sales", "Hours", "People", "kg"))
        if rng.random() < 0.35
        else None
    )
    return Chart(kind, title, categories, series, values, step, unit if kind != "pie" else None)


def _names(setting: Setting, look: _Look, num: int, width_px: float, *, allows_years: bool) -> tuple[str, ...]:
    rng = setting.rng
    if allows_years and setting.words == "train" and rng.random() < 0.25 and width_px > 2.6 * look.size_px:
        first = rng.randint(1990, 2022)
        return tuple(str(first + number) for number in range(num))
    found: dict[str, None] = {}
    attempts = 0
    while len(found) < num:
        attempts += 1
        word = any_word(rng, setting.words).capitalize()
        word = word if attempts < 200 else word[: max(1, 2 + len(found) // 8)]
        if text_width_px(word, look.face, look.size_px) <= width_px - 4 or attempts > 400:
            found[word] = None
    return tuple(found)


def _value(steps: float, step: float, *, grid: float) -> float:
    """A value of so many steps of the axis, on a grid of so many steps or, where that is 0, anywhere."""
    if grid:
        return max(grid, round(steps / grid) * grid) * step
    return float(round(steps * step)) if step >= 5 else round(steps * step, 1)


def written(value: float) -> str:
    """A value in as few digits as say it."""
    return str(int(value)) if float(value).is_integer() else f"{value:.1f}"


def _draw(setting: Setting, chart: Chart, look: _Look) -> list[Mark]:
    marks: list[Mark] = []
    size_px, top_px = look.size_px, 6.0
    if chart.title is not None:
        title_px = round(1.15 * size_px)
        left_px = (setting.width_px - text_width_px(chart.title, look.face, title_px)) / 2
        marks.append(Text(chart.title, look.face, title_px, max(4, left_px), top_px + 0.8 * title_px, look.ink))
        top_px += 1.4 * title_px
    if len(chart.series) > 1:
        marks += _legend(chart, look, top_px)
        top_px += 1.3 * size_px
    if chart.kind == "pie":
        return marks + _pie(setting, chart, look, top_px)
    if chart.unit is not None:
        marks.append(Text(chart.unit, look.face, size_px, 4, top_px + 0.8 * size_px, look.ink))
        top_px += 1.3 * size_px
    top_px += 0.6 * size_px if look.has_labels else 0.2 * size_px
    if chart.kind == "bars across":
        return marks + _across(setting, chart, look, top_px)
    return marks + _upright(setting, chart, look, top_px)


def _ticks(chart: Chart) -> list[float]:
    highest = max(value for values in chart.values for value in values)
    return [chart.step * number for number in range(math.ceil(highest / chart.step - 1e-9) + 1)]


def _legend(chart: Chart, look: _Look, top_px: float) -> list[Mark]:
    marks: list[Mark] = []
    x_px, side_px = 10.0, 0.7 * look.size_px
    for number, name in enumerate(chart.series):
        color = look.colors[number % len(look.colors)]
        marks.append(Rectangle(x_px, top_px, x_px + side_px, top_px + side_px, color))
        marks.append(Text(name, look.face, look.size_px, x_px + 1.3 * side_px, top_px + 0.9 * side_px, look.ink))
        x_px += 1.3 * side_px + text_width_px(name, look.face, look.size_px) + look.size_px
    return marks


def _upright(setting: Setting, chart: Chart, look: _Look, top_px: float) -> list[Mark]:
    """Bars or a line over categories that stand below them."""
    ticks, size_px = _ticks(chart), look.size_px
    labels_px = max(text_width_px(written(tick), look.face, size_px) for tick in ticks)
    plot = _Plot(labels_px + 12, top_px, setting.width_px - 8, setting.height_px - 1.6 * size_px)
    marks: list[Mark] = []
    for tick in ticks:
        y_px = plot.bottom_px - plot.height_px * tick / ticks[-1]
        width_px = text_width_px(written(tick), look.face, size_px)
        marks.append(
            Text(written(tick), look.face, size_px, plot.left_px - 6 - width_px, y_px + 0.35 * size_px, look.ink)
        )
        end_px = plot.right_px if look.has_grid else plot.left_px
        marks.append(Stroke(((plot.left_px - 4, y_px), (end_px, y_px)), _pale(look), 1))
    marks += _axes(plot, look)
    slot_px = plot.width_px / len(chart.categories)
    points, labels = [], []
    for number, category in enumerate(chart.categories):
        middle_px = plot.left_px + (number + 0.5) * slot_px
        width_px = text_width_px(category, look.face, size_px)
        marks.append(
            Text(category, look.face, size_px, middle_px - width_px / 2, plot.bottom_px + 1.15 * size_px, look.ink)
        )
        bar_px = 0.7 * slot_px / len(chart.series)
        for series, values in enumerate(chart.values):
            y_px = plot.bottom_px - plot.height_px * values[number] / ticks[-1]
            left_px = middle_px - 0.35 * slot_px + series * bar_px
            if chart.kind == "line":
                points.append((middle_px, y_px))
            else:
                color = look.colors[series % len(look.colors)]
                marks.append(Rectangle(left_px, y_px, left_px + bar_px, plot.bottom_px, color))
            if look.has_labels and len(chart.series) == 1:
                text = written(values[number])
                width_px = text_width_px(text, look.face, size_px)
                labels.append(Text(text, look.face, size_px, middle_px - width_px / 2, y_px - 3, look.ink))
    if chart.kind == "line":
        marks.append(Stroke(tuple(points), look.colors[0], 2))
        marks += [Disc(x - 3, y - 3, x + 4, y + 4, look.colors[0]) for x, y in points]
    return [*marks, *labels]


def _across(setting: Setting, chart: Chart, look: _Look, top_px: float) -> list[Mark]:
    """Bars to the right of their categories."""
    ticks, size_px = _ticks(chart), look.size_px
    names_px = max(text_width_px(name, look.face, size_px) for name in chart.categories)
    last_px = text_width_px(written(ticks[-1]), look.face, size_px)
    plot = _Plot(names_px + 12, top_px, setting.width_px - 8 - last_px, setting.height_px - 1.7 * size_px)
    marks: list[Mark] = []
    for tick in ticks:
        x_px = plot.left_px + plot.width_px * tick / ticks[-1]
        width_px = text_width_px(written(tick), look.face, size_px)
        # Where numbers are long, only the first and the last are written.
        if width_px < 0.85 * plot.width_px / (len(ticks) - 1) or tick in (ticks[0], ticks[-1]):
            marks.append(
                Text(written(tick), look.face, size_px, x_px - width_px / 2, plot.bottom_px + 1.15 * size_px, look.ink)
            )
        start_px = plot.top_px if look.has_grid else plot.bottom_px
        marks.append(Stroke(((x_px, start_px), (x_px, plot.bottom_px + 4)), _pale(look), 1))
    marks += _axes(plot, look)
    slot_px = plot.height_px / len(chart.categories)
    for number, (category, value) in enumerate(zip(chart.categories, chart.values[0], strict=True)):
        middle_px = plot.top_px + (number + 0.5) * slot_px
        width_px = text_width_px(category, look.face, size_px)
        marks.append(
            Text(category, look.face, size_px, plot.left_px - 6 - width_px, middle_px + 0.35 * size_px, look.ink)
        )
        right_px = plot.left_px + plot.width_px * value / ticks[-1]
        color = look.colors[0]
        marks.append(Rectangle(plot.left_px, middle_px - 0.35 * slot_px, right_px, middle_px + 0.35 * slot_px, color))
        if look.has_labels:
            marks.append(Text(written(value), look.face, size_px, right_px + 3, middle_px + 0.35 * size_px, look.ink))
    return marks


def _pie(setting: Setting, chart: Chart, look: _Look, top_px: float) -> list[Mark]:
    """Slices with a legend that says their names and shares."""
    marks: list[Mark] = []
    size_px = look.size_px
    side_px = min(setting.height_px - top_px - 8, 0.5 * setting.width_px)
    left_px = 8.0
    start = -90.0
    colors = [look.colors[number % len(look.colors)] for number in range(len(chart.categories))]
    for color, share in zip(colors, chart.values[0], strict=True):
        end = start + 3.6 * share
        marks.append(Disc(left_px, top_px, left_px + side_px, top_px + side_px, color, start, end))
        start = end
    y_px, x_px = top_px + size_px, left_px + side_px + 12
    for color, category, share in zip(colors, chart.categories, chart.values[0], strict=True):
        marks.append(Rectangle(x_px, y_px - 0.65 * size_px, x_px + 0.7 * size_px, y_px + 0.05 * size_px, color))
        text = f"{category} {written(share)}%"
        marks.append(Text(text, look.face, size_px, x_px + size_px, y_px, look.ink))
        y_px += 1.5 * size_px
    return marks


def _axes(plot: _Plot, look: _Look) -> list[Mark]:
    corner = (plot.left_px, plot.bottom_px)
    marks: list[Mark] = [Stroke(((plot.left_px, plot.top_px), corner, (plot.right_px, plot.bottom_px)), look.ink, 1)]
    if look.has_frame:
        points = ((plot.left_px, plot.top_px), (plot.right_px, plot.top_px), (plot.right_px, plot.bottom_px))
        marks.append(Stroke(points, look.ink, 1))
    return marks


def _pale(look: _Look) -> RGB:
    red, green, blue = (round(0.5 * level + 0.5 * 170) for level in look.ink)
    return red, green, blue


def _facts(chart: Chart) -> Iterator[Fact]:
    if chart.title is not None:
        yield Fact("title", chart.title)
    if chart.unit is not None:
        yield Fact("axis", chart.unit)
    counted = {"line": "num_points", "bars": "num_bars", "bars across": "num_bars"}.get(chart.kind, "num_categories")
    yield Fact(counted, str(len(chart.categories)))
    yield Fact("chart_kind", {"line": "line chart", "pie": "pie chart"}.get(chart.kind, "bar chart"))
    for series, values in zip(chart.series, chart.values, strict=True):
        unit = "%" if chart.kind == "pie" else ""
        texts = tuple(dict.fromkeys(written(value) + unit for value in values))
        for category, value in zip(chart.categories, values, strict=True):
            text = written(value) + unit
            others = tuple(other for other in texts if other != text)
            slots = {"name": category} if len(chart.series) == 1 else {"name": category, "series": series}
            yield Fact("bar_value" if len(chart.series) == 1 else "group_value", text, slots, others)
        if len(chart.series) == 1:
            yield from _extremes(chart, values)
    if chart.kind == "line":
        yield from _trend(chart.values[0])
    if len(chart.series) > 1:
        yield Fact("num_series", str(len(chart.series)))


def _trend(values: tuple[float, ...]) -> Iterator[Fact]:
    """Where a line goes, if it goes one way all along but for one step at most."""
    steps = [after - before for before, after in pairwise(values)]
    for answer, sign in (("up", 1), ("down", -1)):
        if sum(sign * step > 0 for step in steps) >= len(steps) - (len(steps) > 3) and sign * sum(steps) > 0:
            yield Fact("trend", answer)


def _extremes(chart: Chart, values: tuple[float, ...]) -> Iterator[Fact]:
    ordered = sorted(range(len(values)), key=lambda place: values[place])
    span = max(values)
    for intent, best, next_best in (("highest", -1, -2), ("lowest", 0, 1)):
        if abs(values[ordered[best]] - values[ordered[next_best]]) > 0.03 * span:
            name = chart.categories[ordered[best]]
            yield Fact(intent, name, {}, tuple(other for other in chart.categories if other != name))
    for first, second in ((0, 1), (1, 2), (len(values) - 1, 0)):
        if abs(values[first] - values[second]) > 0.05 * span:
            answer = "yes" if values[first] > values[second] else "no"
            yield Fact("higher", answer, {"name": chart.categories[first], "other": chart.categories[second]})


def _missing(setting: Setting, chart: Chart) -> Iterator[Fact]:
    word = any_word(setting.rng, setting.words).capitalize()
    if word not in chart.categories and len(chart.series) == 1:
        yield Fact("bar_value", "", {"name": word})
    if chart.title is None:
        yield Fact("title", "")
    if chart.unit is None and chart.kind != "pie":
        yield Fact("axis", "")
