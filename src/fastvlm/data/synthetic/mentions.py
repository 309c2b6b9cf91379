"""What the words of a text mean: `the leftmost red star` is found, and where in the text it ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

from fastvlm.data.synthetic.directions import SUPERLATIVES
from fastvlm.data.synthetic.facts import Group, SceneFacts
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.scene import SIZES, SizeName
from fastvlm.data.synthetic.shapes import PLURALS, SHAPES
from fastvlm.data.synthetic.wording import GENERIC_NOUNS

_EXTREMES = {word: extreme for extreme, words in SUPERLATIVES.items() for word in words}
_SHAPES = {word: shape for shape in SHAPES for word in (shape, PLURALS[shape])}
_VAGUE_NOUNS = ("shape", "one")
"""Alone these ask for a shape, or count: `What shape is it?`, `Is there one?`"""

_BACKGROUND, _BACKGROUND_CHARS = re.compile(r"\b(?:background|behind)\b", re.IGNORECASE), 24
"""What lies behind the objects; a colour near this word, without a noun, is not that of objects."""

_KINDS = re.compile(
    r"\b(?:different\s+(?P<many>colou?r|shape)s(?:\s+of\s+objects)?|kinds\s+of\s+(?P<one>colou?r|shape)s?)\b",
    re.IGNORECASE,
)
"""What asks how many colours or shapes there are, not how many objects."""

_NOUNS = {*_SHAPES, "one", "ones", *GENERIC_NOUNS, *(f"{noun}s" for noun in GENERIC_NOUNS)}


def _one_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_MENTION = re.compile(
    rf"(?:\b(?P<extreme>{_one_of(_EXTREMES)})\s+)?"
    rf"(?:\b(?P<size>{_one_of(SIZES)})(?:-sized)?\s+)?"
    rf"(?:\b(?P<color>{_one_of(COLORS)})\b)?"
    rf"(?:\s*\b(?P<noun>{_one_of(_NOUNS)})\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mention:
    """A phrase that means objects, or the background. end: characters of the text up to its last one.

    extreme: a key of SUPERLATIVES. kinds_of: what of the objects is told apart, as in `different colours`, None where
    they themselves are meant.
    """

    end: int
    group: Group
    extreme: str | None = None
    kinds_of: Literal["color", "shape"] | None = None
    is_background: bool = False

    def candidates(self, facts: SceneFacts) -> list[int]:
        """Indices of the objects that the words without the superlative fit."""
        if self.is_background:
            return []
        members = facts.members(self.group)
        return [index for index in members if self.group.size is None or facts.sizes[index] == self.group.size]

    def referents(self, facts: SceneFacts) -> list[int] | None:
        """Indices of the objects that are meant; None where people would disagree about the superlative."""
        candidates = self.candidates(facts)
        if self.extreme is None or not candidates:
            return candidates
        if self.extreme in ("largest", "smallest"):
            found = facts.size_extreme(self.extreme, candidates)
        else:
            found = facts.extreme(self.extreme, candidates)
        return None if found is None else [found]

    def number(self, facts: SceneFacts) -> int:
        """How many objects the words without the superlative fit, or how many kinds of them."""
        if self.kinds_of is None:
            return len(self.candidates(facts))
        return len(facts.color_counts if self.kinds_of == "color" else facts.shape_counts)


def find_mentions(text: str) -> Iterator[Mention]:
    """Find the phrases of a text that mean objects by a colour, a noun or their kinds, and the background, in order.

    Spelling slips hide a phrase, or some of its words.
    """
    behind = (Mention(match.end(), Group(), is_background=True) for match in _BACKGROUND.finditer(text))
    return iter(sorted((*_of_objects(text), *behind), key=lambda mention: mention.end))


def _of_objects(text: str) -> Iterator[Mention]:
    kinds = list(_KINDS.finditer(text))
    for match in kinds:
        word = (match["many"] or match["one"]).lower()
        yield Mention(match.end(), Group(), kinds_of="shape" if word == "shape" else "color")
    for match in _MENTION.finditer(text):
        if any(match.start() < other.end() and other.start() < match.end() for other in kinds):
            continue
        extreme, size, color, noun = (word.lower() if word else None for word in match.groups())
        is_bare = extreme is None and size is None and color is None
        if (color is None and noun is None) or (is_bare and noun in _VAGUE_NOUNS):
            continue
        if noun is None and _BACKGROUND.search(
            text, max(0, match.start() - _BACKGROUND_CHARS), match.end() + _BACKGROUND_CHARS
        ):
            continue
        group = Group(color=color, shape=_SHAPES.get(noun or ""), size=cast("SizeName | None", size))
        yield Mention(match.end(), group, None if extreme is None else _EXTREMES[extreme])
