"""Charts of invented numbers, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, Literal

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.errors import require_extra

ChartShape = Literal["vertical", "horizontal", "grouped", "line", "pie"]

SMALLEST_TEXT_SHARE = 18 / 512
"""Text is no smaller than this share of the longer side, so that a model sees 18 pixels of 512."""

_PALETTES = (
    ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2"),
    ("#8dd3c7", "#fdb462", "#bebada", "#fb8072", "#80b1d3"),
    ("#d9a441", "#7a9e7e", "#c8553d", "#84a9c0", "#c9b79c"),
    ("#66aadd", "#ee9988", "#bbcc66", "#cc99cc", "#ffcc66"),
    ("#3d5a80", "#ee6c4d", "#98c1d9", "#e9c46a", "#8ab17d"),
)
_PAPERS = ("white", "white", "white", "#f7f3ea", "#eef3f7", "#f4f4f4")
_FONTS = ("DejaVu Sans", "DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono")


@dataclass(frozen=True)
class Chart:
    """A chart's words and numbers. values: by series, one for each category; step: from one gridline to the next.

    are_printed: each value stands at its bar, point or slice; otherwise all of them lie on gridlines.
    """

    shape: ChartShape
    title: str | None
    axis: str | None
    categories: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    are_printed: bool
    step: int
    absent_category: str

    def printed(self, value: float) -> str:
        """A value as it stands in the chart."""
        if self.shape == "pie":
            return f"{value:.0f}%"
        has_decimals = any(value != int(value) for values in self.values for value in values)
        return f"{value:.1f}" if has_decimals else f"{value:,.0f}"


_BAR_THEMES: tuple[tuple[str, str, str, str], ...] = (
    ("Visitors per day,Museum visitors", "Visitors", "Mon,Tue,Wed,Thu,Fri,Sat,Sun", "Adults,Children"),
    ("Books lent,Library loans", "Books", "Jan,Feb,Mar,Apr,May,Jun,Jul", "Fiction,Travel"),
    ("Power use,Energy by room", "kWh", "Kitchen,Hall,Attic,Cellar,Study,Garage,Porch", "Winter,Summer"),
    ("Trees planted,New trees", "Trees", "Oak,Birch,Pine,Elm,Maple,Larch,Ash", "Park A,Park B"),
    ("Animals counted,Wildlife count", "Animals", "Foxes,Deer,Hares,Owls,Swans,Toads,Mice", "Spring,Autumn"),
    ("Tickets sold,Theatre tickets", "Tickets", "2017,2018,2019,2020,2021,2022,2023", "Stalls,Balcony"),
    ("Team scores,Quiz results", "Points", "Red,Blue,Green,Amber,White,Violet,Pink", "Round 1,Round 2"),
    ("Cups sold,Drinks sold", "Cups", "Tea,Coffee,Cocoa,Juice,Water,Milk,Cola", "Morning,Evening"),
    ("Hours worked,Work time", "Hours", "Ana,Ben,Cleo,Dev,Edie,Finn,Gwen", "Week 1,Week 2"),
    ("Rain per month,Rainfall", "mm", "Jan,Feb,Mar,Apr,May,Jun,Jul", "Coast,Inland"),
)
_PIE_THEMES: tuple[tuple[str, str], ...] = (
    ("Household budget,Spending", "Rent,Food,Travel,Clothes,Savings,Heating"),
    ("Favourite sport,Sports survey", "Tennis,Rowing,Judo,Hockey,Chess,Running"),
    ("Land use,Use of land", "Forest,Meadow,Crops,Water,Roads,Houses"),
    ("Way to work,Travel survey", "Train,Bus,Bike,Car,Walk,Ferry"),
    ("Waste by type,Recycling", "Paper,Glass,Metal,Plastic,Organic,Wood"),
)
_FIRST_OF_SERIAL_NAMES = ("Mon", "Jan", "2017")
_MEASURED = ("kWh", "Hours", "mm")
_SMALLEST_SLICE = 9
_NUM_GRIDLINES = 7


def invent_chart(rng: Random) -> Chart:
    """Bars, lines or slices, with values that are printed or that can be read off gridlines."""
    shapes: tuple[ChartShape, ...] = (
        "vertical", "vertical", "horizontal", "horizontal", "grouped", "line", "line", "pie",
    )  # fmt: skip
    shape = rng.choice(shapes)
    if shape == "pie":
        titles, names = rng.choice(_PIE_THEMES)
        axis, all_series = None, ""
        categories = rng.sample(names.split(","), rng.randint(3, 5))
        are_printed, step, values = rng.random() < 0.75, 0, [_shares(len(categories), rng)]
    else:
        serial = [theme for theme in _BAR_THEMES if theme[2].startswith(_FIRST_OF_SERIAL_NAMES)]
        titles, axis, names, all_series = rng.choice(serial if shape == "line" else _BAR_THEMES)
        # Six names of more letters would touch below upright bars.
        most = 6 if max(map(len, names.split(","))) <= 5 else 5
        categories = _categories(names.split(","), rng.randint(*((2, 4) if shape == "grouped" else (3, most))), rng)
        num_series = 2 if shape == "grouped" or (shape == "line" and rng.random() < 0.25) else 1
        are_printed = rng.random() < 0.5 and (shape, num_series) != ("line", 2)
        step = rng.choice((1, 2, 5, 10, 20, 50, 100))
        is_count = axis not in _MEASURED
        values = _values(num_series, len(categories), step, rng, are_printed=are_printed, is_count=is_count)
        if shape == "line" and rng.random() < 0.6:
            falls = rng.random() < 0.5
            values = [tuple(sorted(series, reverse=falls)) for series in values]
    return Chart(
        shape=shape,
        title=rng.choice(titles.split(",")) if rng.random() < 0.75 else None,
        axis=axis if rng.random() < 0.7 else None,
        categories=tuple(categories),
        series=tuple(rng.sample(all_series.split(","), 2)) if len(values) > 1 else (),
        values=tuple(values),
        are_printed=are_printed,
        step=step,
        absent_category=rng.choice([name for name in names.split(",") if name not in categories]),
    )


def _categories(names: Sequence[str], count: int, rng: Random) -> list[str]:
    if names[0] in _FIRST_OF_SERIAL_NAMES:
        start = rng.randint(0, len(names) - count)
        return list(names[start : start + count])
    return rng.sample(names, count)


def _values(
    num_series: int, count: int, step: int, rng: Random, *, are_printed: bool, is_count: bool
) -> list[tuple[float, ...]]:
    if not are_printed:
        return [tuple(step * value for value in rng.sample(range(1, _NUM_GRIDLINES + 1), count))
                for _ in range(num_series)]  # fmt: skip
    ranges = [(8, 95, 1)] if is_count else [(8, 95, 1), (11, 99, 10)]
    if num_series == 1:
        # On the narrow bars of groups longer numbers would run into each other.
        ranges += [(110, 980, 1), (1010, 4900, 1)]
    low, high, divisor = rng.choice(ranges)
    return [tuple(value / divisor if divisor > 1 else value for value in rng.sample(range(low, high), count))
            for _ in range(num_series)]  # fmt: skip


def _shares(count: int, rng: Random) -> tuple[float, ...]:
    spare = 100 - _SMALLEST_SLICE * count
    edges = [0, *sorted(rng.sample(range(1, spare), count - 1)), spare]
    return tuple(_SMALLEST_SLICE + high - low for low, high in pairwise(edges))


def draw_chart(chart: Chart, rng: Random) -> UInt8Array:
    """A chart as a picture in one of many styles, uint8 H x W x 3."""
    require_extra("matplotlib", "eval")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    long_side = rng.randint(420, 880)
    width, height = long_side, round(long_side * rng.uniform(0.68, 0.9))
    # Upright, there is no room for eight numbers of three digits side by side.
    if chart.shape == "horizontal" and (chart.are_printed or chart.step < 20) and rng.random() < 0.3:
        width, height = height, width
    em = long_side * rng.uniform(SMALLEST_TEXT_SHARE + 0.001, 0.041)
    ink = rng.choice(("#111111", "#222222", "#1f2d3d", "#333333"))
    with matplotlib.rc_context():
        # A person's own matplotlibrc must not change what a model is judged on.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"font.family": rng.choice(_FONTS), "font.size": em, "text.color": ink, "axes.labelcolor": ink,
             "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": ink, "xtick.labelsize": em,
             "ytick.labelsize": em, "legend.fontsize": em, "axes.titlesize": em * rng.uniform(1.05, 1.25),
             "axes.titleweight": rng.choice(("normal", "bold")), "axes.linewidth": em / 16,
             "axes.labelpad": em * 0.5, "xtick.major.pad": em * 0.25, "ytick.major.pad": em * 0.25}
        )  # fmt: skip
        engine = ConstrainedLayoutEngine(w_pad=em / 72 * 0.5, h_pad=em / 72 * 0.5)
        # At 72 dots an inch a point is a pixel.
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=engine, facecolor=rng.choice(_PAPERS))
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if rng.random() < 0.5:
            axes.set_facecolor("none")
        if chart.title is not None:
            axes.set_title(chart.title, pad=em * 0.6)
        {"pie": _draw_pie, "line": _draw_lines}.get(chart.shape, _draw_bars)(axes, chart, em, rng)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _draw_bars(axes: Any, chart: Chart, em: float, rng: Random) -> None:
    is_flat = chart.shape == "horizontal"
    palette = rng.choice(_PALETTES)
    num_series = len(chart.values)
    thickness = rng.uniform(0.5, 0.75) / num_series if num_series == 1 else rng.uniform(0.36, 0.42)
    first_colour = rng.randrange(len(palette))
    is_colourful = num_series == 1 and rng.random() < 0.25
    edge = rng.choice(("none", "none", "#333333"))
    for number, values in enumerate(chart.values):
        places = np.arange(len(values)) + (number - (num_series - 1) / 2) * thickness
        colours = [palette[(first_colour + number + (place if is_colourful else 0)) % len(palette)]
                   for place in range(len(values))]  # fmt: skip
        bars = (axes.barh if is_flat else axes.bar)(
            places, values, thickness, color=colours, edgecolor=edge, linewidth=em / 20,
            label=chart.series[number] if chart.series else None, zorder=2,
        )  # fmt: skip
        if chart.are_printed:
            axes.bar_label(bars, [chart.printed(value) for value in values], padding=em * 0.15)
    names = axes.set_yticks if is_flat else axes.set_xticks
    names(range(len(chart.categories)), chart.categories)
    if is_flat:
        axes.invert_yaxis()
    _draw_value_axis(axes, chart, em, rng, is_flat=is_flat)
    if chart.series:
        _draw_legend(axes, rng)


def _draw_lines(axes: Any, chart: Chart, em: float, rng: Random) -> None:
    palette = rng.choice(_PALETTES)
    for number, values in enumerate(chart.values):
        axes.plot(
            chart.categories, values, color=palette[number], linewidth=em * rng.uniform(0.1, 0.18),
            marker=rng.choice("os^D"), markersize=em * rng.uniform(0.4, 0.55), clip_on=False, zorder=3,
            linestyle=rng.choice(("-", "-", "--")), label=chart.series[number] if chart.series else None,
        )  # fmt: skip
        if chart.are_printed:
            _print_values_of_line(axes, chart, values, em)
    axes.margins(x=0.14)
    _draw_value_axis(axes, chart, em, rng, is_flat=False)
    if chart.series:
        _draw_legend(axes, rng)


def _print_values_of_line(axes: Any, chart: Chart, values: Sequence[float], em: float) -> None:
    paper = {"facecolor": axes.figure.get_facecolor(), "edgecolor": "none", "pad": 0}
    for place, value in enumerate(values):
        before, after = values[max(place - 1, 0)], values[min(place + 1, len(values) - 1)]
        # Where the line bends upwards there is room below the point.
        is_below = before + after > 2 * value > 0.4 * max(values)
        axes.annotate(
            chart.printed(value), (chart.categories[place], value), (0, em * (-0.5 if is_below else 0.5)),
            textcoords="offset points", ha="center", va="top" if is_below else "bottom", bbox=paper, zorder=2.5,
        )  # fmt: skip


def _draw_legend(axes: Any, rng: Random) -> None:
    place = rng.choice(("outside lower center", "outside upper center"))
    axes.figure.legend(loc=place, ncols=2, frameon=rng.random() < 0.4, handlelength=1.2, columnspacing=1.0)


def _draw_value_axis(axes: Any, chart: Chart, em: float, rng: Random, *, is_flat: bool) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    value_axis, limit = (axes.xaxis, axes.set_xlim) if is_flat else (axes.yaxis, axes.set_ylim)
    largest = max(value for values in chart.values for value in values)
    if chart.axis is not None:
        (axes.set_xlabel if is_flat else axes.set_ylabel)(chart.axis)
    if chart.are_printed:
        limit(0, largest * (1.3 if is_flat else 1.2))
        if rng.random() < 0.5:
            value_axis.set_ticks([])
        else:
            value_axis.set_major_locator(MaxNLocator(4))
            value_axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        num_steps = round(largest / chart.step) + 1
        limit(0, chart.step * (num_steps - 0.5))
        value_axis.set_ticks([chart.step * number for number in range(num_steps)])
    if not chart.are_printed or rng.random() < 0.4:
        value_axis.grid(True, color="#b8b8b8", linewidth=em / 20, linestyle=rng.choice(("-", "--", ":")), zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=em * 0.2, width=em / 20)
    if rng.random() < 0.6:
        axes.spines[["top", "right"]].set_visible(False)


def _draw_pie(axes: Any, chart: Chart, em: float, rng: Random) -> None:
    palette = list(rng.choice(_PALETTES[1:4]))
    rng.shuffle(palette)
    axes.pie(
        chart.values[0],
        labels=chart.categories,
        colors=palette,
        autopct="%.0f%%" if chart.are_printed else None,
        pctdistance=0.68,
        labeldistance=1.08,
        startangle=rng.choice((0, 45, 90, 120)),
        counterclock=rng.random() < 0.5,
        wedgeprops={"edgecolor": "white", "linewidth": em / 10, "width": rng.choice((1.0, 1.0, 0.6))},
    )
