"""What is clearly true of a scene: the oracle behind every question. What people could dispute is never asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from fastvlm.data.synthetic.scene import Scene, SceneObject, SizeName, size_name
from fastvlm.data.synthetic.shapes import AREA_SHARE

DIRECTIONS: tuple[str, ...] = ("left", "right", "above", "below")
OPPOSITES: dict[str, str] = {"left": "right", "right": "left", "above": "below", "below": "above"}

_MIN_OFFSET_PX = 16.0
_MIN_OFFSET_SHARE = 0.45
_MIN_SIZE_RATIO = 1.4
_MIN_AREA_RATIO = 1.4
_DOMINANCE = 1.8
_PLACE_BANDS = ((0.0, 0.29), (0.41, 0.59), (0.71, 1.0))
_PLACE_NAMES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)


@dataclass(frozen=True)
class Group:
    """The objects of one colour, shape and size; None stands for any."""

    color: str | None = None
    shape: str | None = None
    size: SizeName | None = None


class SceneFacts:
    """Answers about one scene. Methods that can be in doubt return None or leave the doubtful case out."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.objects = scene.objects
        self._referents: dict[str, list[tuple[int, Group]]] = {}
        self.sizes = tuple(size_name(item.size_px, scene.short_side_px) for item in scene.objects)

    @cached_property
    def color_counts(self) -> Counter[str]:
        """Objects per colour."""
        return Counter(item.color for item in self.objects)

    @cached_property
    def shape_counts(self) -> Counter[str]:
        """Objects per shape."""
        return Counter(item.shape for item in self.objects)

    @cached_property
    def pair_counts(self) -> Counter[tuple[str, str]]:
        """Objects per (colour, shape)."""
        return Counter((item.color, item.shape) for item in self.objects)

    def count(self, group: Group) -> int:
        """Count the objects of a group without a size."""
        if group.color is None:
            return len(self.objects) if group.shape is None else self.shape_counts[group.shape]
        return self.color_counts[group.color] if group.shape is None else self.pair_counts[group.color, group.shape]

    def members(self, group: Group) -> list[int]:
        """Indices of the objects that may belong to a group; one without a clear size may have any."""
        return [
            index
            for index, item in enumerate(self.objects)
            if (group.color is None or item.color == group.color)
            and (group.shape is None or item.shape == group.shape)
            and (group.size is None or self.sizes[index] is None or self.sizes[index] == group.size)
        ]

    def only_member(self, group: Group) -> int | None:
        """Index of the one object that a phrase like `the large red star` means, or None."""
        members = self.members(group)
        if len(members) != 1 or (group.size is not None and self.sizes[members[0]] != group.size):
            return None
        return members[0]

    def referents(self, mention: str) -> list[tuple[int, Group]]:
        """Objects that can be named without doubt, each with the group of which it is the only member.

        mention: the words of the phrase, `color`, `shape`, `pair`, `size_color`, `size_shape`, or `any` for none.
        """
        if mention not in self._referents:
            self._referents[mention] = self._find_referents(mention)
        return self._referents[mention]

    def _find_referents(self, mention: str) -> list[tuple[int, Group]]:
        found = []
        for index, item in enumerate(self.objects):
            group = Group(
                color=item.color if mention in ("color", "pair", "size_color") else None,
                shape=item.shape if mention in ("shape", "pair", "size_shape") else None,
            )
            if mention.startswith("size"):
                size = self.sizes[index]
                group = replace(group, size=size)
                if size is None or self.only_member(group) != index:
                    continue
            elif self.count(group) != 1:
                continue
            found.append((index, group))
        return found

    def direction_holds(self, direction: str, first: int, second: int) -> bool | None:
        """Whether `first` lies to the `direction` of `second`: True, False (clearly the opposite side) or None."""
        offset = self._offset(direction, self.objects[first], self.objects[second])
        needed = max(_MIN_OFFSET_PX, _MIN_OFFSET_SHARE * (self.objects[first].size_px + self.objects[second].size_px))
        return True if offset >= needed else False if offset <= -needed else None

    def main_direction(self, first: int, second: int) -> str | None:
        """The one direction in which `first` lies from `second`, or None for a diagonal."""
        for direction in DIRECTIONS:
            if self.direction_holds(direction, first, second):
                along = abs(self._offset(direction, self.objects[first], self.objects[second]))
                turned = "above" if direction in ("left", "right") else "left"
                across = abs(self._offset(turned, self.objects[first], self.objects[second]))
                if along >= _DOMINANCE * across:
                    return direction
        return None

    def only_one_towards(self, direction: str, second: int) -> int | None:
        """Index of the only object that lies to the `direction` of `second`, or None."""
        found = None
        for index in range(len(self.objects)):
            if index == second or self.direction_holds(direction, index, second) is False:
                continue
            if found is not None or not self.direction_holds(direction, index, second):
                return None
            found = index
        return found

    def extreme(self, direction: str, among: list[int]) -> int | None:
        """Index of the object that is clearly furthest in a direction, by its centre and by its edge."""
        if not among:
            return None
        sign = -1.0 if direction in ("left", "above") else 1.0
        horizontal = direction in ("left", "right")

        def reach(index: int, edge: float) -> float:
            item = self.objects[index]
            center = item.center_x_px if horizontal else item.center_y_px
            return sign * center + edge * item.size_px / 2

        best = max(among, key=lambda index: reach(index, 0.0))
        others = [index for index in among if index != best]
        if any(
            reach(best, 0.0) - reach(index, 0.0) < _MIN_OFFSET_PX or reach(best, 1.0) - reach(index, 1.0) < 8.0
            for index in others
        ):
            return None
        return best

    def size_extreme(self, extreme: str, among: list[int]) -> int | None:
        """Index of the clearly `largest` or `smallest` object, or None."""
        if not among:
            return None
        pick = max if extreme == "largest" else min
        best = pick(among, key=lambda index: self.objects[index].size_px)
        for index in among:
            if index != best and self.is_larger(best, index) is not (extreme == "largest"):
                return None
        return best

    def is_larger(self, first: int, second: int) -> bool | None:
        """Whether `first` is larger than `second`, by its width and by its area; None if they are too alike."""
        one, other = self.objects[first], self.objects[second]
        size_ratio = one.size_px / other.size_px
        area_ratio = size_ratio**2 * AREA_SHARE[one.shape] / AREA_SHARE[other.shape]
        if size_ratio >= _MIN_SIZE_RATIO and area_ratio >= _MIN_AREA_RATIO:
            return True
        if size_ratio <= 1 / _MIN_SIZE_RATIO and area_ratio <= 1 / _MIN_AREA_RATIO:
            return False
        return None

    def place(self, index: int) -> str | None:
        """Name the place of an object among the nine of the picture, or None near a border between two."""
        frame, item = self.scene.frame, self.objects[index]
        column = _band((item.center_x_px - frame.left) / frame.width)
        row = _band((item.center_y_px - frame.top) / frame.height)
        return None if row is None or column is None else _PLACE_NAMES[row][column]

    @cached_property
    def places(self) -> tuple[str | None, ...]:
        """The place of each object."""
        return tuple(self.place(index) for index in range(len(self.objects)))

    def may_be_at(self, index: int, place: str) -> bool:
        """Whether somebody could say that an object is at a place; wider than `place`."""
        frame, item = self.scene.frame, self.objects[index]
        row, column = next((row, names.index(place)) for row, names in enumerate(_PLACE_NAMES) if place in names)
        margin = item.size_px / 2
        left, right = frame.left + column * frame.width / 3, frame.left + (column + 1) * frame.width / 3
        top, bottom = frame.top + row * frame.height / 3, frame.top + (row + 1) * frame.height / 3
        return left - margin < item.center_x_px < right + margin and top - margin < item.center_y_px < bottom + margin

    @staticmethod
    def _offset(direction: str, first: SceneObject, second: SceneObject) -> float:
        if direction == "left":
            return second.center_x_px - first.center_x_px
        if direction == "right":
            return first.center_x_px - second.center_x_px
        if direction == "above":
            return second.center_y_px - first.center_y_px
        return first.center_y_px - second.center_y_px


def _band(share: float) -> int | None:
    for index, (low, high) in enumerate(_PLACE_BANDS):
        if low <= share <= high:
            return index
    return None
