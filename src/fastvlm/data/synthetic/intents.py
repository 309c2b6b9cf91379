"""Builders of attributes, existence, counts and places: choose the answer, then find a question that has it.

A builder returns None where the scene offers no clear question. More builders are in `comparisons.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastvlm.data.synthetic.directions import PLACES, SUPERLATIVES
from fastvlm.data.synthetic.facts import DIRECTIONS, Group, SceneFacts
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS, COLORS
from fastvlm.data.synthetic.sampling import MAX_COUNT
from fastvlm.data.synthetic.scene import SIZES
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.data.synthetic.wording import noun, plural, sample_generic, with_article


@dataclass(frozen=True)
class Draft:
    """A question before it has words: the kind of phrasing, what fills its slots, and the answer."""

    kind: str
    slots: Mapping[str, str]
    answer: str


Builder = Callable[[SceneFacts, random.Random], Draft | None]

_NUM_TRIES = 8
_MAX_KINDS = 5
_COUNT_WEIGHTS = (0.35, 0.4, 0.7, 1.0, 1.4, 1.8, 2.4, 3.0, 4.0, 5.0)
"""How much a count is preferred among those a scene offers: large ones are rare."""


def yes_or_no(*, truth: bool) -> str:
    """Answer to a question that is decided."""
    return "yes" if truth else "no"


def group_slots(group: Group, rng: random.Random) -> dict[str, str]:
    """Fill the slots that name a group of objects."""
    generic = sample_generic(rng)
    one, many = noun(group, generic=generic), plural(group, generic=generic)
    return {"a": with_article(one), "thing": one, "things": many}


def object_answer(facts: SceneFacts, index: int) -> str:
    """Name an object as an answer: `a red star`."""
    item = facts.objects[index]
    return with_article(f"{item.color} {item.shape}")


def sample_group(facts: SceneFacts, rng: random.Random, *, kind: str, present: bool) -> Group | None:
    """Draw a group of a kind (`color`, `shape`, `pair`, `size`) that is there, or a near miss that is not."""
    if kind == "color":
        return _sample_color_group(facts, rng, present)
    if kind == "shape":
        return _sample_shape_group(facts, rng, present)
    if kind == "pair":
        return _sample_pair_group(facts, rng, present)
    return _sample_size_group(facts, rng, present)


def _sample_color_group(facts: SceneFacts, rng: random.Random, present: bool) -> Group | None:
    colors = [color for color in COLORS if (color in facts.color_counts) == present]
    background = facts.scene.background.color
    if not present and background in colors and rng.random() < 0.15:
        return Group(color=background)
    return Group(color=rng.choice(colors)) if colors else None


def _sample_shape_group(facts: SceneFacts, rng: random.Random, present: bool) -> Group | None:
    shapes = [shape for shape in SHAPES if (shape in facts.shape_counts) == present]
    return Group(shape=rng.choice(shapes)) if shapes else None


def _sample_pair_group(facts: SceneFacts, rng: random.Random, present: bool) -> Group | None:
    if present:
        if not facts.objects:
            return None
        color, shape = rng.choice(list(facts.pair_counts))
        return Group(color=color, shape=shape)
    near = [
        (color, shape)
        for color in facts.color_counts
        for shape in facts.shape_counts
        if (color, shape) not in facts.pair_counts
    ]
    if near and rng.random() < 0.7:
        color, shape = rng.choice(near)
        return Group(color=color, shape=shape)
    for _ in range(_NUM_TRIES):
        color, shape = rng.choice(COLORS), rng.choice(SHAPES)
        if facts.objects and rng.random() < 0.85:
            item = rng.choice(facts.objects)
            color, shape = (item.color, shape) if rng.random() < 0.5 else (color, item.shape)
        if (color, shape) not in facts.pair_counts:
            return Group(color=color, shape=shape)
    return None


def _sample_size_group(facts: SceneFacts, rng: random.Random, present: bool) -> Group | None:
    """Draw a group with a size; a miss has the right colour or shape in another size."""
    if not facts.objects:
        return None
    for _ in range(_NUM_TRIES):
        index = rng.randrange(len(facts.objects))
        item, size = facts.objects[index], facts.sizes[index]
        if size is None:
            continue
        wanted = size if present else rng.choice([other for other in SIZES if other != size])
        form = rng.randrange(3)
        group = Group(item.color if form != 1 else None, item.shape if form != 0 else None, wanted)
        if present or not facts.members(group):
            return group
    return None


def _existence(kind: str) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        present = rng.random() < 0.5
        group = sample_group(facts, rng, kind=kind, present=present)
        return None if group is None else Draft("exist", group_slots(group, rng), yes_or_no(truth=present))

    return build


def sample_all_are(facts: SceneFacts, rng: random.Random) -> tuple[Group, str, bool] | None:
    """Draw a group of two or more, a colour, and whether all of the group have it."""
    truth = rng.random() < 0.5
    groups = [Group()] + [Group(shape=shape) for shape in facts.shape_counts]
    rng.shuffle(groups)
    for group in groups:
        members = facts.members(group)
        colors = {facts.objects[index].color for index in members}
        if len(members) >= 2 and (len(colors) == 1) == truth:
            return group, facts.objects[rng.choice(members)].color, truth
    return None


def _all_are(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = sample_all_are(facts, rng)
    if found is None:
        return None
    group, color, truth = found
    return Draft("all_are", {**group_slots(group, rng), "color": color}, yes_or_no(truth=truth))


def sample_referent(facts: SceneFacts, rng: random.Random, *, using: str) -> tuple[int, str] | None:
    """Draw an object that a phrase names without doubt, and the phrase without its article.

    using: what the phrase mentions, as in `SceneFacts.referents`; `any` is for the only object of a scene.
    """
    found = facts.referents(using)
    if not found:
        return None
    index, group = rng.choice(found)
    return index, noun(group, generic=rng.choice(("one", "object", "object", "shape", "thing")))


def sample_named(facts: SceneFacts, rng: random.Random) -> tuple[int, str] | None:
    """Draw an object and any phrase that names it without doubt."""
    for using in rng.sample(("pair", "pair", "shape", "color", "size_shape"), 3):
        found = sample_referent(facts, rng, using=using)
        if found is not None:
            return found
    return None


def sample_extreme(
    facts: SceneFacts, rng: random.Random, *, mention: str, extremes: tuple[str, ...]
) -> tuple[int, str] | None:
    """Draw an extreme object (`leftmost`, `largest`) of all, or of the like in `mention` (`color`, `shape`)."""
    if not facts.objects:
        return None
    group = Group()
    if mention != "any" and rng.random() < 0.5:
        item = rng.choice(facts.objects)
        group = Group(color=item.color) if mention == "color" else Group(shape=item.shape)
    members = facts.members(group)
    if len(members) < 2:
        return None
    extreme = rng.choice(extremes)
    index = facts.extreme(extreme, members) if extreme in DIRECTIONS else facts.size_extreme(extreme, members)
    if index is None:
        return None
    return index, f"{rng.choice(SUPERLATIVES[extreme])} {noun(group, generic=sample_generic(rng))}"


def _attribute(kind: str, using: tuple[str, ...]) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        found = sample_referent(facts, rng, using=rng.choice(using))
        return _attribute_draft(facts, kind, found)

    return build


def _extreme_attribute(kind: str, mention: str, extremes: tuple[str, ...]) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        return _attribute_draft(facts, kind, sample_extreme(facts, rng, mention=mention, extremes=extremes))

    return build


def _attribute_draft(facts: SceneFacts, kind: str, found: tuple[int, str] | None) -> Draft | None:
    if found is None:
        return None
    index, phrase = found
    item = facts.objects[index]
    return Draft(kind, {"the": f"the {phrase}"}, item.color if kind == "color_of" else item.shape)


def _common_attribute(kind: str) -> Builder:
    """Ask for the one colour of all objects of a shape, or the one shape of all objects of a colour."""

    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        groups: list[Group]
        if kind == "color_of_all":
            groups = [Group(shape=shape) for shape, number in facts.shape_counts.items() if number > 1]
        else:
            groups = [Group(color=color) for color, number in facts.color_counts.items() if number > 1]
        for group in rng.sample(groups, len(groups)):
            members = [facts.objects[index] for index in facts.members(group)]
            values = {item.color if kind == "color_of_all" else item.shape for item in members}
            if len(values) == 1:
                return Draft(kind, group_slots(group, rng), values.pop())
        return None

    return build


def _count(kind: str) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        by_answer: dict[int, list[Group]] = {}
        if kind == "all":
            by_answer[len(facts.objects)] = [Group()]
        else:
            for group in _counted_groups(facts, rng, kind):
                by_answer.setdefault(facts.count(group), []).append(group)
        by_answer = {number: groups for number, groups in by_answer.items() if number <= MAX_COUNT}
        if not by_answer:
            return None
        numbers = list(by_answer)
        number = rng.choices(numbers, [_COUNT_WEIGHTS[entry] for entry in numbers])[0]
        return Draft("count", group_slots(rng.choice(by_answer[number]), rng), str(number))

    return build


def _counted_groups(facts: SceneFacts, rng: random.Random, kind: str) -> list[Group]:
    groups: list[Group]
    if kind == "color":
        groups = [Group(color=color) for color in facts.color_counts]
    elif kind == "shape":
        groups = [Group(shape=shape) for shape in facts.shape_counts]
    else:
        groups = [Group(color=color, shape=shape) for color, shape in facts.pair_counts]
    absent = sample_group(facts, rng, kind=kind, present=False)
    return groups if absent is None else [*groups, absent]


def _count_kinds(facts: SceneFacts, rng: random.Random) -> Draft | None:
    attribute = rng.choice(("colour", "shape"))
    number = len(facts.color_counts if attribute == "colour" else facts.shape_counts)
    if number > _MAX_KINDS or len(facts.objects) < 2:
        return None
    word = rng.choice((f"different {attribute}s", f"different {attribute}s", f"kinds of {attribute}"))
    things = f"{word} of objects" if attribute == "colour" and word.startswith("different") else word
    return Draft("count", {"thing": things, "things": things, "a": things}, str(number))


def _size_of(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = sample_named(facts, rng)
    if found is None or facts.sizes[found[0]] is None or any(size in found[1] for size in SIZES):
        return None
    return Draft("size_of", {"the": f"the {found[1]}"}, str(facts.sizes[found[0]]))


def _extreme_what(extremes: tuple[str, ...]) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        found = sample_extreme(facts, rng, mention="any", extremes=extremes)
        if found is None:
            return None
        return Draft("extreme_what", {"sup": found[1].split(" ")[0]}, object_answer(facts, found[0]))

    return build


def _position(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = sample_named(facts, rng)
    place = None if found is None else facts.places[found[0]]
    if found is None or place is None:
        return None
    return Draft("position", {"the": f"the {found[1]}"}, place)


def _position_what(facts: SceneFacts, rng: random.Random) -> Draft | None:
    """Ask what is at a place where exactly one object is, and none near enough to be meant."""
    for index in rng.sample(range(len(facts.objects)), len(facts.objects)):
        place = facts.places[index]
        if place is None or sum(facts.may_be_at(other, place) for other in range(len(facts.objects))) != 1:
            continue
        return Draft("position_what", {"place": rng.choice(PLACES[place])}, object_answer(facts, index))
    return None


def _position_is(facts: SceneFacts, rng: random.Random) -> Draft | None:
    """Ask whether an object is at a place; where it is not, one like it is elsewhere."""
    if not facts.objects:
        return None
    truth = rng.random() < 0.5
    for _ in range(_NUM_TRIES):
        index = rng.randrange(len(facts.objects))
        item, place = facts.objects[index], facts.places[index]
        if place is None:
            continue
        asked = place if truth else rng.choice([other for other in PLACES if other != place])
        group = rng.choice((Group(item.color, item.shape), Group(item.color), Group(None, item.shape)))
        if truth or not any(facts.may_be_at(other, asked) for other in facts.members(group)):
            slots = {**group_slots(group, rng), "place": rng.choice(PLACES[asked])}
            return Draft("position_is", slots, yes_or_no(truth=truth))
    return None


def _background_color(facts: SceneFacts, rng: random.Random) -> Draft | None:
    color = facts.scene.background.color
    return None if color is None else Draft("background_color", {}, color)


def _background_is(facts: SceneFacts, rng: random.Random) -> Draft | None:
    color = facts.scene.background.color
    if color is None:
        return None
    truth = rng.random() < 0.5
    if not truth:
        colors = [name for name in facts.color_counts if name != color]
        if not colors or rng.random() < 0.5:
            colors = [name for name in BACKGROUND_COLORS if name != color]
        color = rng.choice(colors)
    return Draft("background_is", {"color": color}, yes_or_no(truth=truth))


def _absent(facts: SceneFacts, rng: random.Random) -> Draft | None:
    """Ask for an attribute of something that is not there."""
    kind = rng.choice(("color_of", "shape_of", "position", "size_of", "relation_where"))
    using = {"color_of": ("shape",), "shape_of": ("color",)}.get(kind, ("pair", "pair", "shape", "color"))
    group = sample_group(facts, rng, kind=rng.choice(using), present=False)
    if group is None:
        return None
    slots = {"the": f"the {noun(group)}"}
    if kind == "relation_where":
        named = sample_named(facts, rng)
        if named is None:
            return None
        slots["b"] = f"the {named[1]}"
        if rng.random() < 0.5:
            slots = {"the": slots["b"], "b": slots["the"]}
    return Draft(kind, slots, f"There is no {noun(group)}.")


POSITIONS = DIRECTIONS
SIZE_EXTREMES = ("largest", "smallest")

ATTRIBUTE_BUILDERS: dict[str, Builder] = {
    "exist_pair": _existence("pair"),
    "exist_color": _existence("color"),
    "exist_shape": _existence("shape"),
    "exist_size": _existence("size"),
    "all_are": _all_are,
    "color_of_shape": _attribute("color_of", ("shape", "shape", "size_shape", "any")),
    "color_of_extreme": _extreme_attribute("color_of", "shape", POSITIONS),
    "shape_of_color": _attribute("shape_of", ("color", "color", "size_color", "any")),
    "shape_of_extreme": _extreme_attribute("shape_of", "color", POSITIONS),
    "color_of_all": _common_attribute("color_of_all"),
    "shape_of_all": _common_attribute("shape_of_all"),
    "count_all": _count("all"),
    "count_color": _count("color"),
    "count_shape": _count("shape"),
    "count_pair": _count("pair"),
    "count_kinds": _count_kinds,
    "extreme_what": _extreme_what(POSITIONS),
    "size_of": _size_of,
    "size_extreme_what": _extreme_what(SIZE_EXTREMES),
    "size_extreme_color": _extreme_attribute("color_of", "shape", SIZE_EXTREMES),
    "size_extreme_shape": _extreme_attribute("shape_of", "color", SIZE_EXTREMES),
    "position_of": _position,
    "position_what": _position_what,
    "position_is": _position_is,
    "background_color": _background_color,
    "background_is": _background_is,
    "absent": _absent,
}
"""Builders by intent."""
