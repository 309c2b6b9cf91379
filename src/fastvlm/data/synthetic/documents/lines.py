"""Lines of text on plain paper: what reading begins with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from fastvlm.data.synthetic.documents.colors import paper_and_ink
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import Drawing, Rectangle, Stroke, Text, text_width_px
from fastvlm.data.synthetic.documents.fonts import Face, faces_of
from fastvlm.data.synthetic.documents.strings import any_string
from fastvlm.data.synthetic.documents.words import WordSplit

SMALLEST_PX, LARGEST_PX = 16, 44
"""Sizes of the em square."""

_CLUTTER_PROBABILITY = 0.25


@dataclass(frozen=True)
class Lines:
    """Strings from top to bottom, with the drawing that shows them."""

    texts: tuple[str, ...]
    drawing: Drawing


def sample_lines(
    rng: random.Random,
    faces: Sequence[Face],
    *,
    width_px: int,
    height_px: int,
    split: WordSplit,
    max_lines: int = 8,
    smallest_px: int = SMALLEST_PX,
    num_characters: tuple[int, int] | None = None,
) -> Lines:
    """Fill a canvas with lines of one typeface and several sizes, as many as there is room for; at least one.

    num_characters: the fewest and the most of a line, None for any.
    """
    paper, ink = paper_and_ink(rng)
    face = rng.choice(faces)
    largest_px = min(LARGEST_PX, height_px - 8)
    marks: list[Text] = []
    degrees = rng.uniform(-2, 2) if rng.random() < 0.2 else 0.0
    # What is turned keeps away from the edges, as far as its ends move.
    slack_px = abs(math.sin(math.radians(degrees))) * max(width_px, height_px) / 2
    top_px = rng.uniform(1, 10) + slack_px
    while len(marks) < max_lines:
        size_px = min(largest_px, round(smallest_px * (LARGEST_PX / smallest_px) ** (rng.random() ** 1.3)))
        if marks and rng.random() < 0.5:
            size_px = marks[-1].size_px
        if top_px + size_px > height_px - 1 - slack_px and marks:
            break
        fitting = _fitting(rng, face, size_px=size_px, width_px=width_px - 6 - 2 * slack_px, split=split)
        if fitting is None or not _has_length(fitting[0], num_characters):
            continue
        text, tracking_px, text_px = fitting
        left_px = 3 + slack_px + rng.random() * (width_px - 6 - 2 * slack_px - text_px)
        baseline_px = min(top_px + 0.85 * size_px, height_px - 1 - slack_px - 0.2 * size_px)
        marks.append(Text(text, face, size_px, left_px, baseline_px, ink, tracking_px))
        top_px += size_px * rng.uniform(1.1, 1.8)
    clutter = _clutter(rng, marks, width_px, ink) if rng.random() < _CLUTTER_PROBABILITY else ()
    drawing = Drawing(width_px, height_px, paper, (*clutter, *marks), degrees)
    return Lines(tuple(mark.text for mark in marks), drawing)


def sample_line(setting: Setting) -> Document:
    """Draw one line of text of 18 px or more, anywhere on its canvas."""
    lines = sample_lines(
        setting.rng,
        faces_of(setting.fonts),
        width_px=setting.width_px,
        height_px=setting.height_px,
        split=setting.words,
        max_lines=1,
        smallest_px=18,
    )
    (text,) = lines.texts
    words = text.split()
    facts = [Fact("says", text)]
    is_of_words = all(word.isalpha() for word in words)  # who counts a date or a price as words?
    if is_of_words:
        facts.append(Fact("num_words", str(len(words))))
    digits = sum(character.isdigit() for character in text)
    facts.append(Fact("num_digits", str(digits)))
    if is_of_words and len(words) > 1:
        facts.append(Fact("last_word", words[-1]))
    return Document("line", lines.drawing, tuple(facts), text, f"A line of text that says {text}.")


_ATTEMPTS = 12


def _has_length(text: str, wanted: tuple[int, int] | None) -> bool:
    return wanted is None or wanted[0] <= len(text) <= wanted[1]


def _fitting(
    rng: random.Random, face: Face, *, size_px: int, width_px: float, split: WordSplit
) -> tuple[str, float, float] | None:
    """A string that is no wider, with its tracking and its width; None where none was found."""
    for _ in range(_ATTEMPTS):
        text = any_string(rng, split)
        tracking_px = rng.uniform(0, 0.12) * size_px if rng.random() < 0.12 else 0.0
        text_px = text_width_px(text, face, size_px, tracking_px)
        if text_px <= width_px:
            return text, tracking_px, text_px
    return None


def _clutter(
    rng: random.Random, marks: Sequence[Text], width_px: int, ink: tuple[int, int, int]
) -> tuple[Rectangle | Stroke, ...]:
    """Rules and boxes around lines, as forms and tables have them."""
    found: list[Rectangle | Stroke] = []
    for mark in marks:
        kind = rng.randrange(4)
        below_px = mark.y_px + 0.3 * mark.size_px
        if kind == 0:
            found.append(Stroke(((0, below_px), (width_px, below_px)), ink, 1))
        elif kind == 1:
            right_px = mark.x_px + text_width_px(mark.text, mark.face, mark.size_px, mark.tracking_px) + 4
            top_px = mark.y_px - 0.95 * mark.size_px
            found.append(Rectangle(mark.x_px - 4, top_px, right_px, below_px, None, ink, 1))
    return tuple(found)
