"""Where the objects of a scene lie: never over each other, wholly inside, sometimes touching or stacked."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fastvlm.data.synthetic.scene import Box

Placement = tuple[int, float, float, float]
"""Index of the object, size in pixels, centre x and y in pixels."""

_NUM_ATTEMPTS = 24
_EDGE_PROBABILITY = 0.08


def place(
    rng: random.Random, *, sizes: Sequence[float], min_sizes: Sequence[float], regions: Sequence[Box], style: str
) -> list[Placement]:
    """Give objects of `sizes` pixels a place in `regions`; one that finds none is made smaller, and at last left out.

    style: `free`, `touching` (many lie against another one), `row`, `grid` or `towers` (stacked from the bottom).
    """
    if style == "towers":
        return _place_towers(rng, sizes, max(min_sizes), regions)
    proposals = _proposals(rng, len(sizes), regions, style)
    placed: list[Placement] = []
    for index in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        placement = _place_one(rng, index, sizes[index], regions, placed, proposals, style)
        if placement is None:
            size = max(min_sizes[index], sizes[index] * 0.5)
            placement = _place_one(rng, index, size, regions, placed, {}, "free")
        if placement is None:
            placement = _place_one(rng, index, min_sizes[index], regions, placed, {}, "free")
        if placement is not None:
            placed.append(placement)
    rng.shuffle(placed)
    return placed


def _place_one(
    rng: random.Random,
    index: int,
    size: float,
    regions: Sequence[Box],
    placed: Sequence[Placement],
    proposals: dict[int, tuple[float, float, Box]],
    style: str,
) -> Placement | None:
    gap = 1.0 if style == "touching" else rng.choice((2.0, 4.0, 7.0))
    for attempt in range(_NUM_ATTEMPTS):
        if attempt == 0 and index in proposals:
            x, y, region = proposals[index]
        elif style == "touching" and placed and attempt < 12 and rng.random() < 0.7:
            x, y, region = _beside(rng, size, rng.choice(placed), regions)
        else:
            region = regions[0] if len(regions) == 1 else rng.choice(regions)
            if size > min(region.width, region.height) - 1:
                continue
            x = rng.uniform(region.left + size / 2, region.right - size / 2)
            y = rng.uniform(region.top + size / 2, region.bottom - size / 2)
            if rng.random() < _EDGE_PROBABILITY:
                x, y = _to_edge(rng, x, y, size, region)
        if _is_inside(x, y, size, region) and _is_clear(x, y, size, placed, gap):
            return index, size, x, y
    return None


def _proposals(
    rng: random.Random, num_objects: int, regions: Sequence[Box], style: str
) -> dict[int, tuple[float, float, Box]]:
    """First choices of place: along a line, or on a grid."""
    if style not in ("row", "grid") or num_objects == 0:
        return {}
    places: list[tuple[float, float, Box]] = []
    per_region = -(-num_objects // len(regions))
    jitter = rng.choice((0.0, 0.0, 2.0))
    level = rng.choice((0.5, 0.5, 0.3, 0.7, 0.85))
    for region in regions:
        wide = region.width >= region.height
        if style == "row":
            columns, rows = (per_region, 1) if wide else (1, per_region)
        else:
            columns = max(1, round((per_region * region.width / region.height) ** 0.5))
            rows = -(-per_region // columns)
        for cell in range(columns * rows):
            across = (cell % columns + 0.5) / columns
            down = (cell // columns + 0.5) / rows
            if style == "row":
                across, down = (across, level) if wide else (level, down)
            x = region.left + across * region.width + rng.uniform(-jitter, jitter)
            y = region.top + down * region.height + rng.uniform(-jitter, jitter)
            places.append((x, y, region))
    rng.shuffle(places)
    return dict(enumerate(places[:num_objects]))


def _beside(rng: random.Random, size: float, other: Placement, regions: Sequence[Box]) -> tuple[float, float, Box]:
    _, other_size, other_x, other_y = other
    distance = (size + other_size) / 2 + 1.0 + rng.choice((0.0, 0.0, 1.0))
    slide = rng.uniform(-0.4, 0.4) * other_size
    side = rng.randrange(4)
    x = other_x + (distance if side == 0 else -distance if side == 1 else slide)
    y = other_y + (distance if side == 2 else -distance if side == 3 else slide)
    for region in regions:
        if _is_inside(x, y, size, region):
            return x, y, region
    return x, y, regions[0]


def _to_edge(rng: random.Random, x: float, y: float, size: float, region: Box) -> tuple[float, float]:
    side = rng.randrange(4)
    if side == 0:
        return region.left + size / 2, y
    if side == 1:
        return region.right - size / 2, y
    if side == 2:
        return x, region.top + size / 2
    return x, region.bottom - size / 2


def _is_inside(x: float, y: float, size: float, region: Box) -> bool:
    half = size / 2 - 1e-6
    return region.left <= x - half and x + half <= region.right and region.top <= y - half and y + half <= region.bottom


def _is_clear(x: float, y: float, size: float, placed: Sequence[Placement], gap: float) -> bool:
    for _, other_size, other_x, other_y in placed:
        reach = (size + other_size) / 2 + gap - 1e-6
        if abs(x - other_x) < reach and abs(y - other_y) < reach:
            return False
    return True


def _place_towers(
    rng: random.Random, sizes: Sequence[float], min_size: float, regions: Sequence[Box]
) -> list[Placement]:
    """Stack equal blocks from the bottom of each region upwards, one or two columns in a region."""
    size = max(sizes)
    gap = rng.choice((0.0, 1.0, 1.0, 2.0))
    tallest = min(region.height for region in regions)
    narrowest = min(region.width for region in regions)
    per_region = -(-len(sizes) // len(regions))
    room = max(1, int(narrowest // (size + 12)))
    levels = max(1, -(-per_region // min(room, 4)))
    size = max(min(size, tallest / levels - gap - 0.5, narrowest - 2), min_size)
    columns: list[tuple[Box, float]] = []
    for region in regions:
        num_columns = max(1, min(4, int(region.width // (size + 12))))
        wanted = min(num_columns, max(1, -(-per_region // 4)))
        start = rng.uniform(0.35, 0.65) if wanted == 1 else 0.5
        for column in range(wanted):
            share = start if wanted == 1 else (column + 0.5) / wanted
            x = region.left + share * region.width
            columns.append((region, min(max(x, region.left + size / 2), region.right - size / 2)))
    heights = [0] * len(columns)
    placed: list[Placement] = []
    for index in range(len(sizes)):
        order = rng.sample(range(len(columns)), len(columns))
        for column in order:
            region, x = columns[column]
            y = region.bottom - size / 2 - heights[column] * (size + gap)
            if y - size / 2 >= region.top:
                heights[column] += 1
                placed.append((index, size, x, y))
                break
    return placed
