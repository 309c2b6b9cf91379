"""Tells the colour of a short text and of what it is written on, by the pixels in and around its lines."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.inference.page import Found, Page
from fastvlm.inference.text_lookup import MOST_ROWS_OF_A_SHORT_TEXT
from fastvlm.processing.text_lines import Box

_INK_QUESTION = re.compile(
    r"\bcolou?r (?:is|are|of|do|does|has) (?:the )?(?:text|letters?|writing|words?)\b|"
    r"\bin (?:which|what) colou?r is it written\b",
    re.I,
)
_GROUND_QUESTION = re.compile(
    r"\bcolou?r (?:is|of|does|has) (?:the )?(?:sign|plate|label|board|background)\b|"
    r"\bon (?:which|what) colou?r is it\b",
    re.I,
)

_INK_SHARE = 0.08
"""Of the pixels of a line that differ most from the ground, which are ink through and through."""

_SURE = 0.9
"""How often a colour is named as people name it, by about."""

_LEAST_CHROMA, _LEAST_SATURATION = 0.13, 0.15
_DARKEST_GREY, _BRIGHTEST_GREY = 0.35, 0.75
"""Brightness of black and white, up to which and from which on."""

_HUES = ((15, "red"), (42, "orange"), (70, "yellow"), (170, "green"), (255, "blue"), (300, "purple"), (345, "pink"))
"""Up to which hue, in degrees, a colour has a name; above the last it is red again."""


def asks_for_colour(question: str) -> bool:
    """Whether a question asks for the colour of a text, or of what it is written on."""
    return bool(_INK_QUESTION.search(question) or _GROUND_QUESTION.search(question))


def look_up_colour(question: str, page: Page) -> Found | None:
    """Answer a question for the colour of a short text or of what it is written on; None for others."""
    if not asks_for_colour(question) or page.picture is None or not 0 < len(page.rows) <= MOST_ROWS_OF_A_SHORT_TEXT:
        return None
    colours = [_ground_and_ink(page.picture, line.box) for line in page.lines]
    number = 1 if _INK_QUESTION.search(question) else 0
    colour = np.median([each[number] for each in colours], axis=0)
    return Found(name_of(colour.tolist()), page.lines[0], _SURE)


def _ground_and_ink(picture: UInt8Array, box: Box) -> tuple[Float32Array, Float32Array]:
    """The colour just above and below a line, and of those of its pixels that differ most from it."""
    margin = max(2, box.height // 5)
    rows = slice(max(0, box.top - margin), box.bottom + margin)
    columns = slice(max(0, box.left - margin), box.right + margin)
    part = picture[rows, columns].astype(np.float32)
    edge = margin // 2 + 1
    ground = np.median(np.concatenate([part[:edge], part[-edge:]]).reshape(-1, 3), axis=0)
    distance = np.abs(part - ground).sum(2)
    return ground, np.median(part[distance >= np.quantile(distance, 1 - _INK_SHARE)], axis=0)


def name_of(colour: Sequence[float]) -> str:
    """The name of a colour of red, green and blue from 0 to 255."""
    red, green, blue = (value / 255 for value in colour)
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    chroma = max(red, green, blue) - min(red, green, blue)
    if chroma < _LEAST_CHROMA or saturation < _LEAST_SATURATION:
        return "black" if value < _DARKEST_GREY else "white" if value > _BRIGHTEST_GREY else "grey"
    name = next((name for most, name in _HUES if 360 * hue < most), "red")
    light = (max(red, green, blue) + min(red, green, blue)) / 2
    return _shade(name, saturation, value, light)


def _shade(name: str, saturation: float, value: float, light: float) -> str:
    """What a colour is called that is dark or pale: brown is a dark orange, pink a pale red."""
    if name == "red":
        return "pink" if light > 0.72 and saturation < 0.6 else "brown" if value < 0.45 else name
    if name == "orange":
        return "brown" if value < 0.62 or (saturation < 0.65 and value < 0.75) else name
    if name == "yellow":
        return name if value > 0.6 else "brown"
    if name == "pink":
        return name if light > 0.55 else "purple"
    return name
