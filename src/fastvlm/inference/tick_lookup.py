"""Answers which boxes of a form are ticked, and how many, by the ink in their frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from fastvlm.inference.mentions import mentions_of
from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.questions import ASIDES
from fastvlm.processing.text_lines import Box
from fastvlm.processing.tick_boxes import find_tick_boxes

_TICKED = r"(?:un)?(?:ticked|checked|marked|selected|chosen|crossed)"
_TICK_QUESTION = re.compile(rf"\b{_TICKED}\b", re.I)
_EMPTY = re.compile(r"\bun(?:ticked|checked|marked|selected)\b|\b(?:not|n't|empty)\b", re.I)
_COUNT = re.compile(rf"\b(?:how many|number of|count)\b|^\W*{_TICKED}(?: boxes| options)?\W*$", re.I)
_WHICH = re.compile(r"\b(?:which|what|list|name)\b", re.I)

_COUNTED = """
are boxes box checkboxes choices chosen count crossed checked did do does document empty form how in list many marked n
name not number of off options option people picture selected sheet t there they ticked unchecked unmarked unselected
unticked were what which
"""
_COUNTED_WORDS = frozenset(_COUNTED.split()) | ASIDES
"""All that a question for all of the boxes says; another word is a name, or a condition of which nothing is known."""

_BESIDE = 3.0
"""A name stands behind its box at most so many sides of the box apart."""

_SURE = 0.85
"""How often it is seen right whether a box is ticked, by about."""


class _Option(NamedTuple):
    """What a box stands for, and whether it is ticked."""

    name: ReadLine
    is_ticked: bool


def look_up_ticks(question: str, page: Page) -> Found | None:
    """Answer how many boxes are ticked, which ones, or yes or no for the one that is named; None for other questions.

    What asks for the ones that are not ticked is told of these.
    """
    if page.picture is None or not _TICK_QUESTION.search(question):
        return None
    options = _options(page)
    if not options:
        return None
    meant = [one for one in options if one.is_ticked != bool(_EMPTY.search(question))]
    if set(re.findall("[a-z]+", question.lower())) <= _COUNTED_WORDS:
        line = (meant or options)[0].name
        if _COUNT.search(question):
            return Found(str(len(meant)), line, _SURE)
        if _WHICH.search(question):
            return Found(", ".join(one.name.text for one in meant) or "none", line, _SURE)
        return None
    named = mentions_of(question, [one.name for one in options])
    if not named or _COUNT.search(question):
        return None
    return Found("yes" if named[0].line in [one.name for one in meant] else "no", named[0].line, _SURE)


def _options(page: Page) -> list[_Option]:
    """The boxes of a page, from top to bottom, each with the line behind it. A letter stands inside of a line."""
    assert page.picture is not None
    options = []
    for box, is_ticked in find_tick_boxes(page.picture):
        beside = [line for line in page.lines if _is_beside(line.box, box)]
        if all(line.box.left >= box.left - box.width / 2 or line.box.right <= box.left for line in beside):
            behind = [line for line in beside if -1.5 * box.width < line.box.left - box.right < _BESIDE * box.width]
            options += [_Option(_without_box(behind, box), is_ticked)] if behind else []
    return options


def _is_beside(line: Box, box: Box) -> bool:
    middle = (box.top + box.bottom) / 2
    return line.top < middle < line.bottom


def _without_box(behind: Sequence[ReadLine], box: Box) -> ReadLine:
    """The line behind a box; of one that was read together with it, without the sign that it was read as."""
    line = min(behind, key=lambda one: one.box.left)
    if line.box.left >= box.right - box.width / 2:
        return line
    return replace(line, text=line.text.partition(" ")[2] or line.text)
