"""What a question names of a page: lines that begin with words of it, compared by likeness, since lines are misread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from fastvlm.inference.page import ReadLine
from fastvlm.inference.receipt_items import split_pieces

_LEAST_LIKENESS = 0.68
"""Of a line, as it was read, to words of a question, for the line to be what the question names."""

_LEAST_LETTERS = 4
"""Shorter words are compared to the letter."""

_LESS_FOR_START, _MORE_FOR_WORDS = 0.05, 0.1
"""What a label counts less for being the start of a line, and more for being all of its several words."""

_LOOK_ALIKE = str.maketrans("l1j0568", "iiiosgb")
"""Letters and digits that are read for each other most."""

_MAX_WORDS = 4
"""Of a label."""

_FUNCTION = """
a an and any are as at be by can could did do does find for from give has have how i in is it its let me me's of on or
please say says see show shows sorry tell that the there this to was what what's when where which who whose with would
you
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""Never a label by themselves."""

HIGHEST_WORDS = frozenset({"highest", "largest", "most", "biggest", "greatest", "maximum"})
LOWEST_WORDS = frozenset({"lowest", "smallest", "least", "fewest", "minimum"})
_FRAME = """
ask bar below beside bill bought cell chart column cost costs diagram document entered entry exactly field figure
filled form get given high item items large line listed long look many much next number out paid picture point price
printed product read receipt row sheet sign slip stand stands table text thing title under value write written
"""
FRAME_WORDS = frozenset(_FRAME.split()) | HIGHEST_WORDS | LOWEST_WORDS
"""What questions speak of documents with; a label only where a line says exactly that."""

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[a-z]+)?", re.I)
"""Letters, or a number; `Q1` is two, which are compared together."""

_LIKE_SYNONYM, _LESS_FOR_SYNONYM = 0.85, 0.98
"""Synonyms are short: one letter too many, at most. A label in the very words of a question comes first."""

SYNONYMS = {"tax": ("gst", "vat"), "subtotal": ("net",), "change": ("due",), "phone": ("tel",), "address": ("addr",)}
"""Other labels for what a question names."""


class _Window(NamedTuple):
    """Words of a question in a row that may be a label: from which one to which, put together, and their shape.

    is_frame: whether documents are spoken of with them, so that they are a label only where a line says exactly that.
    """

    start: int
    stop: int
    text: str
    shape: str
    is_frame: bool


class Mention(NamedTuple):
    """A line whose beginning a question names.

    score: likeness, which is from 0 to 1, and a little more for longer labels. before: how many of it there are, where
    the line begins with that. rest: of the line, behind the label. is_apart: whether a sign such as a colon, or a
    number, tells that the label ends there. start, stop: the words of the question that name it.
    """

    score: float
    likeness: float
    line: ReadLine
    before: str
    rest: str
    is_apart: bool
    start: int
    stop: int


def words_of(text: str) -> list[str]:
    """Words and numbers of a text, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def shape_of(word: str) -> str:
    """A word with signs as one that are misread for each other most; a number as it is."""
    return word.translate(_LOOK_ALIKE) if re.search("[a-z]", word) else word


def mentions_of(question: str, lines: Sequence[ReadLine]) -> list[Mention]:
    """Lines that a question names, the likeliest first.

    A number that stands there just as it is asked for is none of the others that are like it.
    """
    windows = list(_windows(question))
    found = sorted(_mentions(windows, lines), key=lambda mention: -mention.score)
    exact = {(one.start, one.stop) for one in found if one.line.is_number and one.likeness == 1}
    return [one for one in found if one.likeness == 1 or not one.line.is_number or (one.start, one.stop) not in exact]


def _mentions(windows: Sequence[_Window], lines: Sequence[ReadLine]) -> Iterator[Mention]:
    for line in lines:
        before, name = split_pieces(line.text)
        found = [_mention(windows, line, "", line.text)]
        if before:
            found.append(_mention(windows, line, before, name))
        best = max((one for one in found if one is not None), key=lambda one: one.score, default=None)
        if best is not None:
            yield best


def _mention(windows: Sequence[_Window], line: ReadLine, before: str, name: str) -> Mention | None:
    """What a question names of a line that begins with a name, but for a number before it."""
    said = words_of(name)
    best: Mention | None = None
    for count in range(1, min(_MAX_WORDS, len(said)) + 1):
        raw_label = "".join(said[:count])
        if raw_label.isdigit() and line.is_number and count < len(said):
            continue  # a part of a number is another number
        label = shape_of(raw_label)
        matcher = SequenceMatcher(None, "", label, autojunk=False)
        for window in windows:
            likeness = _likeness(matcher, window.shape, label, is_frame=window.is_frame)
            for synonym in map(shape_of, SYNONYMS.get(window.text, ())):
                matcher.set_seq1(synonym)
                alike = matcher.ratio()
                likeness = max(likeness, _LESS_FOR_SYNONYM * alike if alike >= _LIKE_SYNONYM else 0.0)
            # Of two labels that are named, the longer one says more.
            score = likeness + 0.01 * min(len(window.shape), 12)
            if count < len(said):
                score -= _LESS_FOR_START
            elif count > 1 and window.stop - window.start > 1:
                score += _MORE_FOR_WORDS
            if likeness >= _LEAST_LIKENESS and (best is None or score > best.score):
                best = Mention(score, likeness, line, before, *_behind(name, count), window.start, window.stop)
    return best


def _windows(question: str) -> Iterator[_Window]:
    """What a question may name. A word with a capital inside of it names something, even if it is *give* or *have*."""
    found = list(_WORD.finditer(question))
    words = [word[0].lower() for word in found]
    is_name = [word[0][0].isupper() and word[0] != "I" and _is_inside(question, word.start()) for word in found]
    if sum(is_name) > len(words) / 2:  # Written In Capitals, which say nothing then.
        is_name = [False] * len(words)
    for start in range(len(words)):
        if words[start] in FUNCTION_WORDS and not is_name[start]:
            continue
        for stop in range(start + 1, min(start + _MAX_WORDS, len(words)) + 1):
            text = "".join(words[start:stop])
            is_frame = set(words[start:stop]) <= FRAME_WORDS | FUNCTION_WORDS and not any(is_name[start:stop])
            yield _Window(start, stop, text, shape_of(text), is_frame)


def _is_inside(question: str, place: int) -> bool:
    """Whether a word is not the first one of a sentence."""
    before = question[:place].rstrip(" \"'(")
    return bool(before) and before[-1] not in ".?!:"


def _likeness(matcher: SequenceMatcher[str], named: str, label: str, *, is_frame: bool) -> float:
    """How much words of a question are like a label, which the matcher knows already."""
    if abs(len(named) - len(label)) > max(2, len(named) // 2):
        return 0.0
    if len(named) < _LEAST_LETTERS or is_frame:
        return float(named == label)
    matcher.set_seq1(named)
    # The quick ratio is never below the ratio.
    return matcher.ratio() if matcher.quick_ratio() >= _LEAST_LIKENESS else 0.0


def _behind(text: str, num_words: int) -> tuple[str, bool]:
    """What a line says behind its first words, and whether it stands apart from them."""
    ends = [word.end() for word in _WORD.finditer(text)]
    behind = text[ends[num_words - 1] :]
    rest = behind.lstrip(" :;,.|-=_\n")
    if not re.search(r"\w", rest):
        return "", False
    return rest, bool(re.match(r"\s*[:;|=_.-]", behind) or re.match(r"[\d$€£¥+]", rest))
