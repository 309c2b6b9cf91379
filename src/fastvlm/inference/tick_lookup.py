"""Answers which boxes of a form are ticked, and how many, by the ink in their frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from fastvlm.inference.mentions import Mention, mentions_of, words_of
from fastvlm.inference.page import Found, Page, ReadLine, likeness
from fastvlm.inference.questions import ASIDES
from fastvlm.processing.text_lines import Box, rows_of
from fastvlm.processing.tick_boxes import TickBox

_TICKED = ("ticked", "checked", "marked", "selected", "chosen", "crossed")
_EMPTY = {"not", "un", "isn't", "aren't", "wasn't", "weren't", "hasn't", *(f"un{word}" for word in _TICKED)}
_TICK_QUESTION = re.compile(rf"\b(?:un)?(?:{'|'.join(_TICKED)})\b(?! (?:in|out)\b)", re.I)
_OR_NOT = re.compile(r"\bor (?:not|un\w+)\b", re.I)
_COUNT = re.compile(
    rf"\b(?:how many|number of|count)\b|^\W*(?:un)?(?:{'|'.join(_TICKED)})(?: boxes| options)?\W*$", re.I
)
_WHICH = re.compile(r"\b(?:which|what|list|name)\b", re.I)

_BOX = """
a an are at be been box boxes checkbox checkboxes choice choices did do does document for form has have is item of on
option options sheet the there they was were
"""
_COUNT_OR_LIST = "all count how in list many name number off picture which"
_BOX_WORDS = frozenset((*_BOX.split(), *_TICKED, *_EMPTY))
"""What is said of boxes; another word is a condition, of which nothing is known."""

_COUNTED_WORDS = _BOX_WORDS | ASIDES | frozenset(_COUNT_OR_LIST.split())
_OF_ONE_WORDS = _BOX_WORDS | (ASIDES - {"what", "when", "who", "why", "altogether"})
"""All that is said beside the name of an option where it is asked whether that one is ticked."""

_BESIDE = 3.0
"""A name stands beside its box at most so many sides of the box apart."""

_SAME_NAME = 0.85
"""Likeness of names that may be each other."""

_MOST_SIGN = 2
"""Characters that a box is read as."""

_SURE = 0.85
"""How often it is seen right whether a box is ticked, by about."""


class _Option(NamedTuple):
    """What a box stands for, and whether it is ticked."""

    name: ReadLine
    is_ticked: bool


def look_up_ticks(question: str, page: Page) -> Found | None:
    """Answer how many boxes are ticked, or which ones; or yes or no for one that is named alone, as in *Gift ticked?*.

    What asks for the ones that are not ticked is told of these. None for other questions.
    """
    words = _words(question)
    if not _TICK_QUESTION.search(question):
        return None
    if not set(words) <= _COUNTED_WORDS:
        return look_up_tick(question, page)
    options = _options(page)
    if not options:
        return None
    meant = [option.name for option in options if option.is_ticked == _asks_for_ticked(words)]
    line = (meant or [options[0].name])[0]
    if _COUNT.search(question):
        return Found(str(len(meant)), line, _SURE)
    return Found(", ".join(name.text for name in meant) or "none", line, _SURE) if _WHICH.search(question) else None


def look_up_tick(question: str, page: Page) -> Found | None:
    """Answer yes or no where a question asks whether one option, which it names, is ticked, or is not; None for others.

    Several options, others of the same name and any condition are left alone.
    """
    if not _TICK_QUESTION.search(question):
        return None
    question = question.replace("’", "'")
    options = _options(page)
    named = [mention for mention in mentions_of(question, [option.name for option in options]) if not mention.rest]
    if not named:
        return None
    first = named[0]
    words = _words(question, first)
    others = [mention for mention in named if mention.start >= first.stop or mention.stop <= first.start]
    same = {
        option.is_ticked
        for option in options
        if likeness(option.name.text.lower(), first.line.text.lower()) > _SAME_NAME
    }
    if others or len(same) > 1 or not set(words) <= _OF_ONE_WORDS:
        return None
    (is_ticked,) = same
    return Found("yes" if is_ticked == _asks_for_ticked(words) else "no", first.line, _SURE)


def _words(question: str, named: Mention | None = None) -> list[str]:
    """The words of a question, but for those that name an option, and for *or not*."""
    words = words_of(question.replace("’", "'"))
    if named is not None:
        words = words[: named.start] + words[named.stop :]
    return words_of(_OR_NOT.sub("", " ".join(words)))


def _asks_for_ticked(words: Sequence[str]) -> bool:
    return not _EMPTY & set(words)


def _options(page: Page) -> list[_Option]:
    """The boxes of a page, from top to bottom, each with its name; none where one of them has no name.

    In each row names stand behind their boxes, or all of them before. A letter that looks like a box stands inside of
    a line.
    """
    options = []
    boxes = [one for one in page.tick_boxes if not _is_letter(one.box, page)]
    for row in rows_of(boxes, lambda one: one.box):
        names = _names(row, page, _behind) or _names(row, page, _before)
        if names is None:
            return []
        options += [_Option(name, one.is_ticked) for name, one in zip(names, row, strict=True)]
    return options


def _is_letter(box: Box, page: Page) -> bool:
    """Whether a box stands inside of a line, or beside nothing at all."""
    beside = [line.box for line in page.lines if _is_beside(line.box, box)]
    inside = [
        line for line in beside if line.left < box.left - box.width / 2 and line.right > box.right - box.width / 2
    ]
    return bool(inside) or not any(_gap(line, box) < _BESIDE * box.width for line in beside)


def _names(
    row: Sequence[TickBox], page: Page, name_of: Callable[[Box, Page], ReadLine | None]
) -> list[ReadLine] | None:
    """The name of each box of a row; None where one has none, or two have the same line."""
    names = [name for one in row if (name := name_of(one.box, page)) is not None]
    return names if len(names) == len(row) and len({id(name) for name in names}) == len(names) else None


def _behind(box: Box, page: Page) -> ReadLine | None:
    """The next line behind a box; of one that was read together with it, without the sign that it was read as."""
    lines = [line for line in page.lines if _is_beside(line.box, box) and line.box.right > box.right + box.width / 2]
    line = min(lines, key=lambda one: one.box.left, default=None)
    if line is None or line.box.left - box.right >= _BESIDE * box.width:
        return None
    sign, _, rest = line.text.partition(" ")
    is_joined = line.box.left < box.right - box.width / 2 and len(sign) <= _MOST_SIGN and rest
    return replace(line, text=rest) if is_joined else line


def _before(box: Box, page: Page) -> ReadLine | None:
    """The last line before a box."""
    lines = [line for line in page.lines if _is_beside(line.box, box) and line.box.right <= box.left + box.width / 2]
    line = max(lines, key=lambda one: one.box.right, default=None)
    return None if line is None or box.left - line.box.right >= _BESIDE * box.width else line


def _is_beside(line: Box, box: Box) -> bool:
    return line.top < (box.top + box.bottom) / 2 < line.bottom


def _gap(line: Box, box: Box) -> int:
    """What lies between a line and a box beside it, 0 where they touch."""
    return max(line.left - box.right, box.left - line.right, 0)
