"""What every family of documents gives: a drawing, and everything that is true of it and can be asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fastvlm.data.synthetic.documents.colors import paper_and_ink
from fastvlm.data.synthetic.documents.drawing import Drawing
from fastvlm.data.synthetic.documents.fonts import Face, FontSplit, Style, faces_of
from fastvlm.data.synthetic.documents.words import WordSplit
from fastvlm.data.synthetic.palette import RGB

LayoutSplit = Literal["train", "held_out"]

Kind = Literal["sign", "line", "receipt", "form", "table", "chart", "page"]


@dataclass(frozen=True)
class Fact:
    """Something that can be asked of a document. intent: how, a key of PHRASINGS. slots: of the question.

    others: answers of the same sort that are wrong, for statements to be verified; empty where there are none.
    """

    intent: str
    answer: str
    slots: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A drawing with what is true of it. transcript: all that is written, line by line. caption: one sentence.

    missing: facts that documents of this kind may have and this one does not show; their answers are empty.
    """

    kind: Kind
    drawing: Drawing
    facts: tuple[Fact, ...]
    transcript: str
    caption: str
    missing: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What a document is made with: its canvas, and which typefaces, words and layouts it may have."""

    rng: random.Random
    width_px: int
    height_px: int
    fonts: FontSplit = "train"
    words: WordSplit = "train"
    layouts: LayoutSplit = "train"

    def face(self, *styles: Style) -> Face:
        """A typeface of these styles, or of any."""
        return self.rng.choice(faces_of(self.fonts, styles or None))

    def paper_and_ink(self, *, colored_share: float = 0.1) -> tuple[RGB, RGB]:
        """Paper, and ink that can be read on it."""
        return paper_and_ink(self.rng, colored_share=colored_share)

    def layout(self, train: tuple[str, ...], held_out: tuple[str, ...]) -> str:
        """One of the layouts by name; those that are held out only where the setting says so."""
        return self.rng.choice(held_out if self.layouts == "held_out" else train)

    def text(self, make: Callable[[random.Random, WordSplit], str]) -> str:
        """A string of one sort."""
        return make(self.rng, self.words)
