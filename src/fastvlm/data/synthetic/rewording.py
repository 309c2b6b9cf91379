"""Puts training questions in other words that mean the same.

A word that only one kind of phrasing has, such as `placed` beside a second object, where the answer is yes or no, tells
that kind, and a model learns to go by it. Where such words change places with others like them, fewer of them do.
"""

from __future__ import annotations

import random
import re
from functools import partial

from fastvlm.data.synthetic.wording import capitalised, with_article

ALIKE: tuple[tuple[str, ...], ...] = (
    ("relative to", "with respect to", "in relation to", "compared with"),
    ("located", "placed", "situated", "positioned"),
    ("lie", "sit", "stand"),
    ("lies", "sits", "stands"),
    ("drawn", "painted", "shown"),
    ("see", "notice", "spot"),
    ("tell me", "let me know"),
    ("picture", "image", "drawing", "scene"),
    ("equal to", "identical to", "the same as"),
    ("visible", "present"),
)
"""Words and phrases that may stand for each other in every phrasing of a question about a scene."""

_GROUP_OF = {words: group for group in ALIKE for words in group}
_ANY = re.compile(rf"\b(?:{'|'.join(sorted(_GROUP_OF, key=len, reverse=True))})\b", re.IGNORECASE)
_ASKED = "object|thing|item|shape|colou?r|direction|side|size"
_KIND_WORD = re.compile(rf"\b(?:which|what) (?=(?:{_ASKED})\b)", re.IGNORECASE)
_ARTICLE = re.compile(r"\ban? (picture|image|drawing|scene)\b", re.IGNORECASE)


def reworded(text: str, rng: random.Random) -> str:
    """Draw each word of a question that has others like it anew from all of these, which may give the same one."""
    text = _ANY.sub(partial(_another, rng=rng), text)
    text = _ARTICLE.sub(lambda match: _like(match[0], with_article(match[1])), text)
    return _KIND_WORD.sub(lambda match: _like(match[0], rng.choice(("which ", "what "))), text)


def _another(match: re.Match[str], *, rng: random.Random) -> str:
    return _like(match[0], rng.choice(_GROUP_OF[match[0].lower()]))


def _like(given: str, chosen: str) -> str:
    return capitalised(chosen) if given[0].isupper() else chosen
