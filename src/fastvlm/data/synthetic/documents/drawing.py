"""A document as marks on paper: strings, lines, boxes, discs. Pixels and the places of characters follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.data.synthetic.documents.fonts import Face
from fastvlm.data.synthetic.documents.strings import CHARACTERS
from fastvlm.data.synthetic.palette import RGB

CHARACTER_NUMBERS = {character: number for number, character in enumerate(CHARACTERS, start=1)}
"""Classes of characters; 0 stands for none."""

NUM_CHARACTER_CLASSES = len(CHARACTERS) + 1


@dataclass(frozen=True)
class Text:
    """A string. x_px, y_px: the left end of its baseline. size_px: of the em square. tracking_px: after each letter."""

    text: str
    face: Face
    size_px: int
    x_px: float
    y_px: float
    ink: RGB = (0, 0, 0)
    tracking_px: float = 0.0


@dataclass(frozen=True)
class Rectangle:
    """A box, its right and bottom not included; outline_px wide lines inside its border."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float
    fill: RGB | None = None
    outline: RGB | None = None
    outline_px: int = 1
    radius_px: float = 0.0


@dataclass(frozen=True)
class Stroke:
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    ink: RGB
    width_px: int = 1


@dataclass(frozen=True)
class Polygon:
    """A filled area."""

    points: tuple[tuple[float, float], ...]
    fill: RGB


@dataclass(frozen=True)
class Disc:
    """A filled ellipse, or a slice of it from start to end in degrees, clockwise from the right."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float
    fill: RGB
    start: float = 0.0
    end: float = 360.0


Mark = Text | Rectangle | Stroke | Polygon | Disc


@dataclass(frozen=True)
class Drawing:
    """Marks on paper, the later ones above. degrees: by which all of it is turned around its centre."""

    width_px: int
    height_px: int
    paper: RGB
    marks: tuple[Mark, ...] = field(default=())
    degrees: float = 0.0

    @property
    def texts(self) -> tuple[Text, ...]:
        """The strings, in their order."""
        return tuple(mark for mark in self.marks if isinstance(mark, Text))

    @property
    def is_grey(self) -> bool:
        """Whether no mark has a colour."""
        inks = [self.paper]
        for mark in self.marks:
            inks += [ink for name in ("ink", "fill", "outline") if (ink := getattr(mark, name, None)) is not None]
        return all(ink[0] == ink[1] == ink[2] for ink in inks)


@dataclass(frozen=True)
class PlacedCharacters:
    """Where characters stand. classes: N numbers of CHARACTER_NUMBERS. centers_px: N x 2, across and down."""

    classes: tuple[int, ...]
    centers_px: Float32Array


def text_width_px(text: str, face: Face, size_px: int, tracking_px: float = 0.0) -> float:
    """How wide a string is."""
    return sum(_advances(text, face.at(size_px))) + tracking_px * len(text)


def fitting_size_px(text: str, face: Face, *, width_px: float, largest_px: int, smallest_px: int = 1) -> int | None:
    """The largest size at which a string is no wider, or None where it would have to be smaller than wanted."""
    width_at_100 = text_width_px(text, face, 100)
    size_px = min(largest_px, math.floor(100 * width_px / max(1.0, width_at_100)))
    return size_px if size_px >= smallest_px else None


@lru_cache(maxsize=65536)
def _advance(character: str, font: ImageFont.FreeTypeFont) -> float:
    return font.getlength(character)


def _advances(text: str, font: ImageFont.FreeTypeFont) -> list[float]:
    return [_advance(character, font) for character in text]


def render(drawing: Drawing) -> UInt8Array:
    """Draw as uint8 [height, width, 3]."""
    is_grey = drawing.is_grey
    size = (drawing.width_px, drawing.height_px)
    image = Image.new("L", size, drawing.paper[0]) if is_grey else Image.new("RGB", size, drawing.paper)
    pen = ImageDraw.Draw(image)
    for mark in drawing.marks:
        _draw(pen, mark, is_grey=is_grey)
    if drawing.degrees:
        paper = drawing.paper[0] if is_grey else drawing.paper
        image = image.rotate(drawing.degrees, Image.Resampling.BILINEAR, fillcolor=paper)
    pixels = np.asarray(image, dtype=np.uint8)
    return np.repeat(pixels[:, :, None], 3, axis=2) if is_grey else pixels


def _draw(pen: ImageDraw.ImageDraw, mark: Mark, *, is_grey: bool) -> None:
    def shade(ink: RGB | None) -> int | RGB | None:
        return ink if ink is None or not is_grey else ink[0]

    match mark:
        case Text():
            _write(pen, mark, shade(mark.ink))
        case Rectangle():
            box = (mark.left_px, mark.top_px, mark.right_px - 1, mark.bottom_px - 1)
            fill, outline = shade(mark.fill), shade(mark.outline)
            pen.rounded_rectangle(box, mark.radius_px, fill=fill, outline=outline, width=mark.outline_px)
        case Stroke():
            pen.line(mark.points, fill=shade(mark.ink), width=mark.width_px)
        case Polygon():
            pen.polygon(mark.points, fill=shade(mark.fill))
        case Disc():
            box = (mark.left_px, mark.top_px, mark.right_px - 1, mark.bottom_px - 1)
            if mark.end - mark.start >= 360:
                pen.ellipse(box, fill=shade(mark.fill))
            else:
                pen.pieslice(box, mark.start, mark.end, fill=shade(mark.fill))


def _write(pen: ImageDraw.ImageDraw, mark: Text, ink: int | RGB | None) -> None:
    font = mark.face.at(mark.size_px)
    if not mark.tracking_px:
        pen.text((mark.x_px, mark.y_px), mark.text, fill=ink, font=font, anchor="ls")
        return
    x_px = mark.x_px
    for character, advance in zip(mark.text, _advances(mark.text, font), strict=True):
        pen.text((x_px, mark.y_px), character, fill=ink, font=font, anchor="ls")
        x_px += advance + mark.tracking_px


def characters(drawing: Drawing) -> PlacedCharacters:
    """Every character of a drawing that can be named, with its centre, as it stands after turning."""
    classes: list[int] = []
    centers: list[Float32Array] = []
    for mark, places in zip(drawing.texts, character_places(drawing), strict=True):
        for character, place in zip(mark.text, places, strict=True):
            if character in CHARACTER_NUMBERS:
                classes.append(CHARACTER_NUMBERS[character])
                centers.append(place)
    return PlacedCharacters(tuple(classes), np.array(centers, np.float32).reshape(-1, 2))


def character_places(drawing: Drawing) -> list[Float32Array]:
    """The centres of the characters of each string, spaces too, across and down, as they stand after turning."""
    found = []
    for mark in drawing.texts:
        advances = np.array(_advances(mark.text, mark.face.at(mark.size_px)), np.float32)
        ends = np.cumsum(advances + np.float32(mark.tracking_px))
        middles = mark.x_px + ends - mark.tracking_px - advances / 2
        heights = np.full_like(middles, mark.y_px - 0.35 * mark.size_px)
        found.append(_turned(np.stack([middles, heights], axis=1).astype(np.float32), drawing))
    return found


def _turned(places: Float32Array, drawing: Drawing) -> Float32Array:
    if not drawing.degrees:
        return places
    angle = math.radians(drawing.degrees)
    middle = np.array([drawing.width_px / 2, drawing.height_px / 2], np.float32)
    across, down = (places - middle).T
    turned = np.stack(
        [math.cos(angle) * across + math.sin(angle) * down, -math.sin(angle) * across + math.cos(angle) * down], axis=1
    )
    return (turned + middle).astype(np.float32)


_X_HEIGHT = 0.6
"""Of the em square: what a string covers above its baseline at least."""


def is_legible(drawing: Drawing) -> bool:
    """Whether every string is on the paper as a whole, and none is written over another."""
    if not drawing.texts:
        return False
    boxes = np.array([_box(text) for text in drawing.texts])
    left, top, right, bottom = boxes.T
    if left.min() < -1 or top.min() < 0 or right.max() > drawing.width_px + 1 or bottom.max() > drawing.height_px:
        return False
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    down = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    overlaps = (across > 1) & (down > 1)
    np.fill_diagonal(overlaps, val=False)
    return not overlaps.any()


def _box(text: Text) -> tuple[float, float, float, float]:
    """What a string covers: left, top, right, and its baseline."""
    width_px = text_width_px(text.text, text.face, text.size_px, text.tracking_px)
    return text.x_px, text.y_px - _X_HEIGHT * text.size_px, text.x_px + width_px, text.y_px
