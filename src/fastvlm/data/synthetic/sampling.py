"""Scenes drawn at random: first what is in them, so that counts from 0 to 9 come equally often, then where it is."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from fastvlm.data.synthetic.layout import place
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS, COLORS, RGB, color_distance, sample_rgb, sample_tint
from fastvlm.data.synthetic.scene import Background, Box, Panel, Scene, SceneObject, SizeName
from fastvlm.data.synthetic.shapes import MIN_SIZE_PX, SHAPES, sample_form

MAX_COUNT = 9
"""The largest number in an answer, and the most objects of a picture without panels."""

MAX_OBJECTS_IN_PANELS = 16

MIN_CONTRAST = 130.0
"""Smallest `color_distance` between an object and what it lies on."""

_SAMPLE_SIZE_SHARES: dict[SizeName, tuple[float, float]] = {
    "small": (0.075, 0.14),
    "medium": (0.18, 0.25),
    "large": (0.3, 0.42),
}
_PADDING_COLORS: tuple[RGB, ...] = ((0, 0, 0), (128, 128, 128), (124, 116, 104))
_COLOR_WEIGHTS = {"white": 3.5, "yellow": 0.8, "blue": 0.8, "black": 0.85}
_BLOCK_SHAPES = ("circle", "square", "triangle")
_BLOCK_COLORS = ("yellow", "black", "blue")


@dataclass(frozen=True)
class _Kind:
    """What an object is before it has a place."""

    shape: str
    color: str


@dataclass(frozen=True)
class _Palette:
    """The shapes and colours that a scene chooses from."""

    shapes: tuple[str, ...]
    colors: tuple[str, ...]


def sample_scene(rng: random.Random, *, width_px: int, height_px: int) -> Scene:
    """Draw a scene of 0 to 9 objects, or up to 16 in panels, for a canvas of width x height pixels.

    Objects do not overlap, lie wholly inside the picture and never have the colour of what they lie on.
    """
    frame, padding_rgb = _sample_frame(rng, width_px, height_px)
    background, panels = _sample_ground(rng, frame)
    palette = _sample_palette(rng, background, panels)
    kinds = _sample_kinds(rng, palette, MAX_OBJECTS_IN_PANELS if panels else MAX_COUNT)
    regions = [panel.box for panel in panels] or [frame]
    short_side = min(frame.width, frame.height)
    sizes = _sample_sizes(rng, kinds, short_side, regions)
    style = _sample_style(rng, panels, kinds)
    if style == "towers":
        sizes = [max(max(sizes, default=0.0), max(MIN_SIZE_PX[kind.shape] for kind in kinds)) for _ in kinds]
    placements = place(
        rng, sizes=sizes, min_sizes=[MIN_SIZE_PX[kind.shape] for kind in kinds], regions=regions, style=style
    )
    scene = Scene(width_px, height_px, background, (), tuple(panels), frame, padding_rgb)
    return replace(scene, objects=_finish(rng, kinds, placements, background, panels))


def sample_single(rng: random.Random, *, shape: str, color: str, side_px: int) -> Scene:
    """Draw a square scene of one large object, anywhere, on a plain ground on which it can be seen."""
    kind = _Kind(shape, color)
    grounds = [name for name in BACKGROUND_COLORS if name != color]
    while True:
        name = rng.choice(grounds)
        rgb = sample_rgb(rng, color=name)
        if _is_visible(rng, color, [rgb]):
            break
    background = Background(name, rgb, rgb)
    size_px = max(MIN_SIZE_PX[shape], side_px * rng.uniform(0.45, 0.85))
    center = [rng.uniform(size_px / 2, side_px - size_px / 2) for _ in range(2)]
    objects = _finish(rng, [kind], [(0, size_px, center[0], center[1])], background, [])
    return Scene(side_px, side_px, background, objects)


def _sample_frame(rng: random.Random, width_px: int, height_px: int) -> tuple[Box, RGB]:
    """Choose the part of the canvas that the picture fills: a picture whose aspect fits no grid of cells is padded."""
    if rng.random() < 0.75:
        return Box(0, 0, width_px, height_px), _PADDING_COLORS[0]
    share = rng.uniform(0.72, 0.99)
    start = rng.choice((0.0, 0.5, 0.5))
    if rng.random() < 0.5:
        width = round(width_px * share)
        left = int((width_px - width) * start)
        frame = Box(left, 0, left + width, height_px)
    else:
        height = round(height_px * share)
        top = int((height_px - height) * start)
        frame = Box(0, top, width_px, top + height)
    return frame, rng.choice(_PADDING_COLORS)


def _sample_ground(rng: random.Random, frame: Box) -> tuple[Background, list[Panel]]:
    aspect = max(frame.width, frame.height) / min(frame.width, frame.height)
    if rng.random() < (0.3 if aspect > 2 else 0.13):
        return _sample_panels(rng, frame)
    kind = rng.random()
    color: str | None
    if kind < 0.3:
        color, rgb = "white", sample_rgb(rng, color="white")
    elif kind < 0.4:
        color, rgb = "grey", sample_tint(rng, color="grey")
    elif kind < 0.55:
        color = rng.choice(BACKGROUND_COLORS)
        rgb = sample_tint(rng, color=color)
    elif kind < 0.62:
        level = rng.randint(228, 250)
        color, rgb = None, (level, level - rng.randint(0, 14), level - rng.randint(0, 26))
    else:
        color = rng.choice(BACKGROUND_COLORS)
        rgb = sample_rgb(rng, color=color)
    background = Background(color, rgb, rgb, noise=rng.uniform(1.5, 5.0) if rng.random() < 0.06 else 0.0)
    if rng.random() < 0.08:
        shift = rng.choice((-1, 1)) * rng.randint(6, 18)
        end = tuple(min(255, max(0, level + shift)) for level in rgb)
        background = replace(background, end_rgb=(end[0], end[1], end[2]), direction=rng.choice(("across", "down")))
    return background, []


def _sample_panels(rng: random.Random, frame: Box) -> tuple[Background, list[Panel]]:
    levels = rng.choice(
        ((211, 128), (211, 128), (225, 255), (236, 200), (255, 215), (255, 170), (245, 150), (255, 255))
    )
    jitter = rng.randint(-6, 0)
    panel_rgb, wall_rgb = ((level + jitter, level + jitter, level + jitter) for level in levels)
    across = frame.width > frame.height * 1.2 or (frame.height < frame.width * 1.2 and rng.random() < 0.5)
    along = frame.width if across else frame.height
    num_panels = rng.choice((2, 3, 3, 4) if along > 300 else (2, 2, 3))
    gap = rng.uniform(0.04, 0.125) * along
    margin = 0.0 if rng.random() < 0.5 else min(gap * 0.6, 12.0)
    side = 0.0 if margin == 0.0 else rng.uniform(3.0, 9.0)
    length = (along - 2 * margin - gap * (num_panels - 1)) / num_panels
    border = (90, 90, 90) if levels[0] == levels[1] or rng.random() < 0.2 else None
    panels = []
    for index in range(num_panels):
        start = margin + index * (length + gap)
        if across:
            box = Box(frame.left + start, frame.top + side, frame.left + start + length, frame.bottom - side)
        else:
            box = Box(frame.left + side, frame.top + start, frame.right - side, frame.top + start + length)
        panels.append(Panel(box, panel_rgb, border))
    name = "grey" if max(levels) < 225 else None  # near white boxes on a wall are not one background
    return Background(name, wall_rgb, wall_rgb), panels


def _grounds(background: Background, panels: list[Panel]) -> list[RGB]:
    return [panel.rgb for panel in panels] or [background.rgb, background.end_rgb]


def _sample_palette(rng: random.Random, background: Background, panels: list[Panel]) -> _Palette:
    grounds = _grounds(background, panels)
    if panels and rng.random() < 0.35:
        return _Palette(_BLOCK_SHAPES, _BLOCK_COLORS)
    forbidden = set() if panels else {background.color}
    allowed = [color for color in COLORS if color not in forbidden and _is_visible(rng, color, grounds)]
    num_colors = rng.choice((1, 2, 2, 3, 3, 4, 5, len(allowed)))
    num_shapes = rng.choice((1, 2, 2, 3, 3, 4, 5, len(SHAPES)))
    colors = _sample_colors(rng, allowed, min(num_colors, len(allowed)))
    return _Palette(tuple(rng.sample(SHAPES, num_shapes)), colors)


def _sample_colors(rng: random.Random, allowed: list[str], number: int) -> tuple[str, ...]:
    """Choose different colours; white is preferred where it can be seen, since it seldom can."""
    pool = list(allowed)
    chosen = []
    for _ in range(number):
        color = rng.choices(pool, [_COLOR_WEIGHTS.get(name, 1.0) for name in pool])[0]
        pool.remove(color)
        chosen.append(color)
    return tuple(chosen)


def _is_visible(rng: random.Random, color: str, grounds: list[RGB]) -> bool:
    sample = sample_rgb(rng, color=color)
    return all(color_distance(sample, ground) >= MIN_CONTRAST for ground in grounds)


def _sample_kinds(rng: random.Random, palette: _Palette, max_objects: int) -> list[_Kind]:
    plan = rng.random()
    if plan < 0.4:
        return [_any_kind(rng, palette) for _ in range(rng.randint(0, MAX_COUNT))]
    if plan < 0.55 and max_objects > MAX_COUNT:
        return [_any_kind(rng, palette) for _ in range(rng.randint(MAX_COUNT + 1, max_objects))]
    return _sample_focus(rng, palette, max_objects)


def _any_kind(rng: random.Random, palette: _Palette) -> _Kind:
    return _Kind(rng.choice(palette.shapes), rng.choice(palette.colors))


def _sample_focus(rng: random.Random, palette: _Palette, max_objects: int) -> list[_Kind]:
    """Draw a group of an even number 0 to 9 of like objects and some that differ from it in one way or in both."""
    focus = _any_kind(rng, palette)
    num_members = rng.randint(0, MAX_COUNT)
    num_others = rng.randint(0, min(6, max_objects - num_members))
    group = rng.choice(("shape", "color", "pair"))
    kinds = []
    for _ in range(num_members):
        shape = rng.choice(palette.shapes) if group == "color" else focus.shape
        color = rng.choice(palette.colors) if group == "shape" else focus.color
        kinds.append(_Kind(shape, color))
    for _ in range(num_others):
        kind = _any_kind(rng, palette)
        if group == "pair" and rng.random() < 0.6:
            kind = replace(kind, **({"shape": focus.shape} if rng.random() < 0.5 else {"color": focus.color}))
        kinds.append(kind)
    rng.shuffle(kinds)
    return kinds


def _sample_sizes(rng: random.Random, kinds: list[_Kind], short_side: float, regions: list[Box]) -> list[float]:
    """Choose sizes in pixels that leave room: the more objects, the fewer large ones."""
    room = 0.42 * sum(region.width * region.height for region in regions)
    limit = 0.85 * min(min(region.width, region.height) for region in regions)
    names: list[SizeName] = list(_SAMPLE_SIZE_SHARES)
    if rng.random() < 0.3:
        names = [rng.choice(names)]
    sizes: list[float] = []
    for kind in kinds:
        low, high = _SAMPLE_SIZE_SHARES[rng.choice(names)]
        if len(kinds) <= 2 and low >= 0.3:
            high = 0.6
        sizes.append(min(limit, max(MIN_SIZE_PX[kind.shape], short_side * rng.uniform(low, high))))
    if len(names) == 1 and sizes and rng.random() < 0.5:
        sizes = [sum(sizes) / len(sizes)] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    for index in order:
        if sum((size + 4) ** 2 for size in sizes) <= room:
            break
        low, high = _SAMPLE_SIZE_SHARES[rng.choice(("small", "small", "medium"))]
        if sizes[index] > high * short_side:
            sizes[index] = max(MIN_SIZE_PX[kinds[index].shape], short_side * rng.uniform(low, high))
    return [max(size, MIN_SIZE_PX[kind.shape]) for size, kind in zip(sizes, kinds, strict=True)]


def _sample_style(rng: random.Random, panels: list[Panel], kinds: list[_Kind]) -> str:
    if kinds and rng.random() < (0.3 if panels else 0.05):
        return "towers"
    return rng.choices(("free", "touching", "row", "grid"), (60, 14, 13, 13))[0]


def _finish(
    rng: random.Random,
    kinds: list[_Kind],
    placements: list[tuple[int, float, float, float]],
    background: Background,
    panels: list[Panel],
) -> tuple[SceneObject, ...]:
    grounds = _grounds(background, panels)
    shared_rgb: dict[str, RGB] = {}
    one_shade = rng.random() < 0.7
    rotated = rng.random() < 0.4
    outlined = rng.random() < 0.12
    dark = rng.choice(((0, 0, 0), (40, 40, 40)))
    objects = []
    for index, size, center_x, center_y in placements:
        kind = kinds[index]
        rgb = shared_rgb.get(kind.color) if one_shade else None
        if rgb is None:
            rgb = _visible_rgb(rng, kind.color, grounds)
            shared_rgb[kind.color] = rgb
        outline_rgb = dark if outlined and size >= 22 and color_distance(rgb, dark) > 200 else None
        form = sample_form(rng, shape=kind.shape, rotated=rotated)
        objects.append(
            SceneObject(
                kind.shape, kind.color, round(size, 2), round(center_x, 2), round(center_y, 2), rgb, form, outline_rgb
            )
        )
    return tuple(objects)


def _visible_rgb(rng: random.Random, color: str, grounds: list[RGB]) -> RGB:
    best, best_distance = (0, 0, 0), -1.0
    for _ in range(6):
        rgb = sample_rgb(rng, color=color)
        distance = min(color_distance(rgb, ground) for ground in grounds)
        if distance >= MIN_CONTRAST:
            return rgb
        if distance > best_distance:
            best, best_distance = rgb, distance
    return best
