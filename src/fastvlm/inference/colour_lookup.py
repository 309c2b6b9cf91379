"""Tells the colour of a short text and of what it is written on, by the pixels in and around its lines."""

from __future__ import annotations

import re

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.inference.page import Found, Page
from fastvlm.inference.text_lookup import MOST_ROWS_OF_A_SHORT_TEXT
from fastvlm.processing.colour_names import colour_of
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
    return Found(colour_of(colour.tolist(), is_lit_evenly=False), page.lines[0], _SURE)


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
