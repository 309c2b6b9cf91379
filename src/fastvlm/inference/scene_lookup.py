"""Counts the plain shapes of a drawn scene, by their outlines and colours."""

from __future__ import annotations

import re

from fastvlm.batches import UInt8Array
from fastvlm.inference.mentions import words_of
from fastvlm.inference.questions import ASIDES, asks_for_number
from fastvlm.processing.shapes import SHAPES, Shape, find_shapes

_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
_ANY = frozenset({"object", "objects", "shape", "shapes", "thing", "things", "item", "items"})
_BY_NAME = {name: shape for shape in SHAPES for name in (shape, f"{shape}s", f"{shape}es")}
_SAID = """
about all another appear are at be been brief count counted do does draw drawing drawn get give have here how i image
know many number picture present quantity scene see seen show shown shows state them there total visible want what when
"""
_WORDS = frozenset(_SAID.split()) | (ASIDES - {"and"}) | _ANY | frozenset((*_COLOURS, *_BY_NAME, "gray"))
_KINDS = frozenset({"different", "distinct", "kind", "kinds", "sorts"})
_COLOUR_WORDS = frozenset({"colour", "colours", "color", "colors"})


def asks_for_number_of_shapes(question: str) -> bool:
    """Whether a question asks how many shapes there are, of a colour, of a kind or of any, and nothing else."""
    return _words(question) is not None


def _words(question: str) -> set[str] | None:
    """The words of the part of a question that asks for a number of shapes; None of others."""
    for part in (*re.split(r"[:.,;!?]", question), question):
        words = set(words_of(part))
        is_about_shapes = bool(words & (_ANY | _BY_NAME.keys()))
        if asks_for_number(part) and is_about_shapes and words <= _WORDS | _KINDS | _COLOUR_WORDS:
            return words
    return None


def count_shapes(question: str, picture: UInt8Array) -> int | None:
    """Answer such a question; None for a picture that is no drawn scene."""
    words = _words(question)
    shapes = None if words is None else find_shapes(picture)
    if shapes is None or words is None:
        return None
    meant = [shape for shape in shapes if _is_meant(shape, words)]
    if words & _KINDS:
        return len({shape.colour if words & _COLOUR_WORDS else shape.name for shape in meant})
    return len(meant)


def _is_meant(shape: Shape, words: set[str]) -> bool:
    colours = {"grey" if word == "gray" else word for word in words if word in (*_COLOURS, "gray")}
    names = {_BY_NAME[word] for word in words if word in _BY_NAME}
    return (not colours or shape.colour in colours) and (not names or shape.name in names)
