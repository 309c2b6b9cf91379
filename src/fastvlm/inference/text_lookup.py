"""What a page says as text: a short one as a whole, a line by its number, its title, the word after another."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from fastvlm.inference.page import Found, Page, ReadLine

_MOST_ROWS_AS_A_WHOLE = 3
"""A picture with more of them is a page, of which nobody asks what it says and means a short answer."""

_ASKS_FOR_ALL = re.compile(
    r"\b(what|which words?)\b.*\b(says?|read|written|printed|stands?|on (the|this) (line|text|sign|label|plate))\b|"
    r"\bread (out )?(it|(the|this) (line|text|sign|label|plate|words?))\b|\btext (of|on)\b|\bwhich words\b",
    re.I,
)
_ASKS_FOR_PART = re.compile(r"\b(for|under|beside|next to|behind|about|at)\b", re.I)
"""Said of what a label stands for, not of the whole."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ASKS_FOR_LINE = re.compile(rf"\b({'|'.join(_ORDINALS)}|last) (line|row of text)\b", re.I)
_ASKS_FOR_TITLE = re.compile(r"\b(title[ds]?|heading|headline|caption|called)\b", re.I)
_ASKS_FOR_NEXT_WORD = re.compile(
    r"\bword (?:that )?(?:comes |stands |is )?(?:after|behind|following|right of) (?:the word )?(\S+)|"
    r"\b(?:comes|stands|is) (?:next )?(?:after|behind) (?:the word )?(\S+)|\bfollows (?:the word )?(\S+)|"
    r"\bafter (?:the word )?(\S+), what (?:comes|is)\b",
    re.I,
)
_LEAST_LIKENESS = 0.75
"""Of a word, as it was read, to one that a question names."""

_TITLE_HEIGHT = 1.15
"""A title's letters are higher than those of most lines, by this factor at least, or it stands above all others."""


def asks_for_text(question: str) -> bool:
    """Whether a question asks what a short text says, or one of its lines."""
    return _asks_for_all(question) or bool(_ASKS_FOR_LINE.search(question))


def look_up_text(question: str, page: Page) -> Found | None:
    """Answer a question for text by where it stands; None for others, and where there is none."""
    by_number = _ASKS_FOR_LINE.search(question)
    if by_number:
        return _line(by_number[1].lower(), page)
    word = _ASKS_FOR_NEXT_WORD.search(question)
    if word:
        return _next_word(next(part for part in word.groups() if part), page)
    if _asks_for_all(question) and 0 < len(page.rows) <= _MOST_ROWS_AS_A_WHOLE:
        return _joined(page.lines)
    return None


def _asks_for_all(question: str) -> bool:
    return bool(_ASKS_FOR_ALL.search(question)) and not _ASKS_FOR_PART.search(question)


def look_up_title(question: str, page: Page) -> Found | None:
    """Answer a question for the title of a page, which stands above everything else."""
    if not _ASKS_FOR_TITLE.search(question) or not page.rows:
        return None
    return _joined(page.rows[0]) if not all(line.is_number for line in page.rows[0]) else None


def _line(ordinal: str, page: Page) -> Found | None:
    place = len(page.rows) - 1 if ordinal == "last" else _ORDINALS.index(ordinal)
    return _joined(page.rows[place]) if 0 <= place < len(page.rows) else None


def _joined(lines: Sequence[ReadLine]) -> Found:
    """Several lines as one answer, which is right where all are."""
    text = " ".join(line.text.replace("\n", " ") for line in lines)
    return Found(text, lines[0], math.prod(line.confidence for line in lines))


def _next_word(named: str, page: Page) -> Found | None:
    """The word behind one that is named, on its line."""
    named = named.strip(".,:;?!'\"").lower()
    best: tuple[float, Found] | None = None
    for line in page.lines:
        words = line.text.split()
        for word, following in itertools.pairwise(words):
            likeness = SequenceMatcher(None, word.lower(), named, autojunk=False).ratio()
            if likeness >= _LEAST_LIKENESS and (best is None or likeness > best[0]):
                best = (likeness, Found(following, line, likeness * line.confidence))
    return None if best is None else best[1]
