"""What is true of the shapes of a drawn scene: which are meant, where they are, how they compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from fastvlm.inference.scene_words import COLOURS, NUMBERS, Mention
from fastvlm.processing.shape_names import SHAPES
from fastvlm.processing.shapes import Drawing, Shape

DIRECTIONS = ("left", "right", "above", "below")

_SMALL_BELOW, _LARGE_FROM = 0.158, 0.278
"""Of the picture's shorter side, how long the longer side of a shape is: a medium one is between."""

_LEAST_RATIO, _LEAST_OFFSET_PX = 1.15, 3
"""Of two sizes, and between two places, that people tell apart."""

_TOWARDS, _BESIDE = 0.4, 0.2
"""Of the sum of two shapes' sizes, how far one is to a side of the other at least for people to say so; and below which
they would not say that it isn't.
"""

_PLACES = (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right"))
_MOST_GROUPS = 4


class SceneFacts:
    """What is true of a drawing."""

    def __init__(self, drawing: Drawing) -> None:
        self.shapes = drawing.shapes
        self.frame = drawing.frame
        self.ground = drawing.ground

    def meant(self, mention: Mention) -> list[Shape]:
        """The shapes that are meant by a mention; none where two are nearly as extreme."""
        found = [
            shape
            for shape in self.shapes
            if mention.shape in (None, shape.name)
            and mention.colour in (None, shape.colour)
            and mention.size in (None, self.size(shape))
        ]
        if mention.extreme is None or len(found) < 2:
            return found
        found.sort(key=lambda shape: _reach(shape, mention.extreme or ""))
        first, second = (_reach(shape, mention.extreme) for shape in (found[-1], found[-2]))
        margin = _LEAST_OFFSET_PX if mention.extreme in DIRECTIONS else (_LEAST_RATIO - 1) * abs(second)
        return found[-1:] if first - second >= margin else []

    def is_missing(self, mention: Mention) -> bool:
        """Whether there is nothing of what is mentioned, extreme or not."""
        return not self.meant(replace(mention, extreme=None))

    def only(self, mention: Mention) -> Shape | None:
        """The only shape that is meant by a mention."""
        found = self.meant(mention)
        return found[0] if len(found) == 1 else None

    def size(self, shape: Shape) -> str:
        """Small, medium or large."""
        share = _side(shape) / min(self.frame.width, self.frame.height)
        return "small" if share < _SMALL_BELOW else "medium" if share < _LARGE_FROM else "large"

    def place(self, shape: Shape) -> str:
        """In which of nine parts of the picture a shape is."""
        across, down = _centre(shape)
        column = int(3 * (across - self.frame.left) / self.frame.width)
        row = int(3 * (down - self.frame.top) / self.frame.height)
        return _PLACES[min(max(row, 0), 2)][min(max(column, 0), 2)]

    def only_towards(self, direction: str, other: Shape) -> Shape | None:
        """The only shape on one side of another."""
        found = [shape for shape in self.shapes if shape is not other and _is_clearly(shape, direction, other)]
        return found[0] if len(found) == 1 else None

    def caption(self) -> str:
        """List the shapes by colour and name, the largest groups first, or more coarsely where groups are many."""
        if not self.shapes:
            return "an empty picture"
        for key in ((True, True), (False, True), (True, False)):
            names = Counter(_group(shape, *key) for shape in self.shapes)
            if len(names) <= _MOST_GROUPS:
                break
        else:
            return f"{_in_words(len(self.shapes))} objects"
        order = {name: index for index, name in enumerate(_all_groups())}
        ranked = sorted(names.items(), key=lambda entry: (-entry[1], order[entry[0]]))
        parts = [_amount(number, name) for name, number in ranked]
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def is_towards(shape: Shape, direction: str, other: Shape) -> bool | None:
    """Whether a shape is on one side of another, by their middles; None where it hardly is on either."""
    offset = _offset(shape, direction, other)
    return None if abs(offset) < _BESIDE * (_side(shape) + _side(other)) else offset > 0


def main_direction(shape: Shape, other: Shape) -> str:
    """On which side of another shape one is most."""
    return max(DIRECTIONS, key=lambda direction: _offset(shape, direction, other))


def is_larger(shape: Shape, other: Shape) -> bool | None:
    """Whether a shape is larger than another; None where they are alike."""
    ratio = _side(shape) / _side(other)
    return True if ratio > _LEAST_RATIO else False if ratio < 1 / _LEAST_RATIO else None


def most_common(names: Iterable[str]) -> str | None:
    """The name that is there most often; None where two are."""
    ranked = Counter(names).most_common(2)
    is_tie = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return None if is_tie or not ranked else ranked[0][0]


def described(shape: Shape) -> str:
    """A shape as an answer names it: `a red star`."""
    return _with_article(f"{shape.colour} {shape.name}")


def _amount(number: int, name: str) -> str:
    return _with_article(name) if number == 1 else f"{_in_words(number)} {_plural(name)}"


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _in_words(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def _group(shape: Shape, with_colour: bool, with_name: bool) -> str:
    return f"{shape.colour if with_colour else ''} {shape.name if with_name else 'object'}".strip()


def _all_groups() -> Sequence[str]:
    colours, names = ("", *COLOURS), (*SHAPES, "object")
    return [f"{colour} {name}".strip() for colour, name in product(colours, names)]


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith("cross") else f"{name}s"


def _side(shape: Shape) -> int:
    return max(shape.box.width, shape.box.height)


def _centre(shape: Shape) -> tuple[float, float]:
    return (shape.box.left + shape.box.right) / 2, (shape.box.top + shape.box.bottom) / 2


def _reach(shape: Shape, extreme: str) -> float:
    """How far a shape goes towards an extreme."""
    across, down = _centre(shape)
    reaches = {"left": -across, "right": across, "above": -down, "below": down}
    return reaches[extreme] if extreme in reaches else _side(shape) * (1 if extreme == "largest" else -1)


def _offset(shape: Shape, direction: str, other: Shape) -> float:
    """How many pixels a shape is on one side of another, by their middles."""
    return _reach(shape, direction) - _reach(other, direction)


def _is_clearly(shape: Shape, direction: str, other: Shape) -> bool:
    return _offset(shape, direction, other) >= _TOWARDS * (_side(shape) + _side(other))
