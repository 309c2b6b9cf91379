"""Builders of the intents that set two things side by side, of statements, and of the caption."""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Callable

from fastvlm.data.synthetic.directions import RELATIONS
from fastvlm.data.synthetic.facts import DIRECTIONS, Group, SceneFacts
from fastvlm.data.synthetic.intents import (
    Builder,
    Draft,
    group_slots,
    object_answer,
    sample_all_are,
    sample_extreme,
    sample_group,
    sample_named,
    sample_referent,
    yes_or_no,
)
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.data.synthetic.wording import NUMBER_WORDS, noun, plural, with_article

_NUM_TRIES = 8
_MAX_CAPTION_GROUPS = 4


def _two_named(facts: SceneFacts, rng: random.Random) -> tuple[tuple[int, str], tuple[int, str]] | None:
    if len(facts.objects) < 2:
        return None
    first = sample_named(facts, rng)
    second = sample_named(facts, rng)
    if first is None or second is None or first[0] == second[0]:
        return None
    return first, second


def _relation(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], bool] | None:
    """Draw two named objects, a direction between them, and whether it is the true one or its opposite."""
    truth = rng.random() < 0.5
    for direction in rng.sample(DIRECTIONS, 2):
        for _ in range(_NUM_TRIES // 2):
            pair = _two_named(facts, rng)
            if pair is None:
                continue
            (first, first_name), (second, second_name) = pair
            holds = facts.direction_holds(direction, first, second)
            if holds is None:
                continue
            if holds != truth:
                first_name, second_name = second_name, first_name
            slots = {"the": f"the {first_name}", "b": f"the {second_name}", "rel": rng.choice(RELATIONS[direction])}
            return slots, truth
    return None


def _relation_is(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = _relation(facts, rng)
    return None if found is None else Draft("relation_is", found[0], yes_or_no(truth=found[1]))


def _relation_where(facts: SceneFacts, rng: random.Random) -> Draft | None:
    horizontal = rng.random() < 0.5
    for _ in range(_NUM_TRIES):
        pair = _two_named(facts, rng)
        if pair is None:
            continue
        (first, first_name), (second, second_name) = pair
        direction = facts.main_direction(first, second)
        if direction is not None and (direction in ("left", "right")) == horizontal:
            return Draft("relation_where", {"the": f"the {first_name}", "b": f"the {second_name}"}, direction)
    return None


def _relation_what(facts: SceneFacts, rng: random.Random) -> Draft | None:
    for _ in range(_NUM_TRIES):
        named = sample_named(facts, rng)
        if named is None:
            return None
        direction = rng.choice(DIRECTIONS)
        found = facts.only_one_towards(direction, named[0])
        if found is not None:
            slots = {"the": f"the {named[1]}", "rel": rng.choice(RELATIONS[direction])}
            return Draft("relation_what", slots, object_answer(facts, found))
    return None


def _two_groups(facts: SceneFacts, rng: random.Random) -> tuple[Group, Group] | None:
    """Draw two groups of the same kind; one of them may be a near miss that is not there."""
    kind = rng.choice(("color", "shape", "pair"))
    first = sample_group(facts, rng, kind=kind, present=True)
    second = sample_group(facts, rng, kind=kind, present=rng.random() < 0.93)
    return None if first is None or second is None or first == second else (first, second)


def _two_group_slots(first: Group, second: Group) -> dict[str, str]:
    return {"things": plural(first), "others": plural(second)}


def _sample_more(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], bool] | None:
    truth = rng.random() < 0.5
    allow_equal = rng.random() < 0.3
    for _ in range(_NUM_TRIES):
        groups = _two_groups(facts, rng)
        if groups is None:
            continue
        first, second = groups
        difference = facts.count(first) - facts.count(second)
        if difference == 0 and (truth or not allow_equal):
            continue
        if difference != 0 and (difference > 0) != truth:
            first, second = second, first
        return _two_group_slots(first, second), truth
    return None


def _more(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = _sample_more(facts, rng)
    return None if found is None else Draft("more", found[0], yes_or_no(truth=found[1]))


def _as_many(facts: SceneFacts, rng: random.Random) -> Draft | None:
    truth = rng.random() < 0.5
    for _ in range(_NUM_TRIES):
        groups = _two_groups(facts, rng)
        if groups is None:
            continue
        if (facts.count(groups[0]) == facts.count(groups[1])) == truth:
            return Draft("as_many", _two_group_slots(*groups), yes_or_no(truth=truth))
    return None


def _which_more(facts: SceneFacts, rng: random.Random) -> Draft | None:
    for _ in range(_NUM_TRIES):
        groups = _two_groups(facts, rng)
        if groups is None:
            continue
        first, second = groups if rng.random() < 0.5 else groups[::-1]
        difference = facts.count(first) - facts.count(second)
        if difference != 0:
            winner = first if difference > 0 else second
            return Draft("which_more", _two_group_slots(first, second), plural(winner))
    return None


def _larger(facts: SceneFacts, rng: random.Random) -> Draft | None:
    truth = rng.random() < 0.5
    for _ in range(_NUM_TRIES):
        pair = _two_named(facts, rng)
        if pair is None or any(word in name for _, name in pair for word in ("small", "medium", "large")):
            continue
        (first, first_name), (second, second_name) = pair
        is_larger = facts.is_larger(first, second)
        if is_larger is None:
            continue
        word = rng.choice(("larger", "bigger", "smaller"))
        if (is_larger == (word != "smaller")) != truth:
            first_name, second_name = second_name, first_name
        slots = {"the": f"the {first_name}", "b": f"the {second_name}", "larger": word}
        return Draft("larger", slots, yes_or_no(truth=truth))
    return None


def _same_attribute(facts: SceneFacts, rng: random.Random) -> Draft | None:
    truth = rng.random() < 0.5
    attribute = rng.choice(("colour", "shape"))
    using = "shape" if attribute == "colour" else "color"
    for _ in range(_NUM_TRIES if len(facts.objects) > 1 else 0):
        found = []
        for _ in range(2):
            if rng.random() < 0.3:
                found.append(sample_extreme(facts, rng, mention="any", extremes=DIRECTIONS))
            else:
                found.append(sample_referent(facts, rng, using=using))
        first, second = found
        if first is None or second is None or first[0] == second[0]:
            continue
        one, other = facts.objects[first[0]], facts.objects[second[0]]
        same = one.color == other.color if attribute == "colour" else one.shape == other.shape
        if same == truth:
            slots = {"the": f"the {first[1]}", "b": f"the {second[1]}", "attribute": attribute}
            return Draft("same_attribute", slots, yes_or_no(truth=truth))
    return None


def _most_common(facts: SceneFacts, rng: random.Random) -> Draft | None:
    attribute = rng.choice(("colour", "shape"))
    counts: Counter[str] = facts.color_counts if attribute == "colour" else facts.shape_counts
    ranking = counts.most_common(2)
    if len(ranking) < 2 or ranking[0][1] == ranking[1][1]:
        return None
    return Draft("most_common", {"attribute": attribute}, ranking[0][0])


def _state_existence(kind: str) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        present = rng.random() < 0.5
        group_kind = rng.choice(("pair", "pair", "color", "shape", "size"))
        group = sample_group(facts, rng, kind=group_kind, present=present)
        if group is None:
            return None
        return Draft(f"statement:{kind}", group_slots(group, rng), yes_or_no(truth=present == (kind == "exist")))

    return build


def _state_count(kind: str) -> Builder:
    def build(facts: SceneFacts, rng: random.Random) -> Draft | None:
        truth = rng.random() < 0.5
        group = Group()
        if rng.random() < 0.8:
            drawn = sample_group(facts, rng, kind=rng.choice(("color", "shape", "pair")), present=rng.random() < 0.9)
            group = drawn or group
        number = _stated_number(kind, facts.count(group), truth, rng)
        if number is None:
            return None
        slots = group_slots(group, rng)
        word = NUMBER_WORDS[number] if rng.random() < 0.75 else str(number)
        slots["num_things"] = f"{word} {slots['thing'] if number == 1 else slots['things']}"
        slots["number"] = word
        slots["are"] = "is" if number == 1 else "are"
        return Draft(f"statement:{kind}", slots, yes_or_no(truth=truth))

    return build


def _stated_number(kind: str, actual: int, truth: bool, rng: random.Random) -> int | None:
    """Choose a number from 1 to 9 near the true one that makes the statement true or false."""
    near = [actual + step for step in (-3, -2, -1, -1, 0, 0, 1, 1, 2, 3)]
    compare: Callable[[int, int], bool] = {"count": operator.eq, "at_least": operator.ge, "at_most": operator.le}[kind]
    fitting = [number for number in near if 1 <= number <= 9 and compare(actual, number) == truth]
    return rng.choice(fitting) if fitting else None


def _state_relation(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = _relation(facts, rng)
    return None if found is None else Draft("statement:relation", found[0], yes_or_no(truth=found[1]))


def _state_more(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = _sample_more(facts, rng)
    return None if found is None else Draft("statement:more", found[0], yes_or_no(truth=found[1]))


def _state_color(facts: SceneFacts, rng: random.Random) -> Draft | None:
    truth = rng.random() < 0.5
    if rng.random() < 0.3:
        found = sample_extreme(facts, rng, mention="shape", extremes=DIRECTIONS)
    else:
        found = sample_referent(facts, rng, using="shape")
    if found is None:
        return None
    color = facts.objects[found[0]].color
    if not truth:
        others = [name for name in facts.color_counts if name != color]
        if not others or rng.random() < 0.2:
            others = [name for name in COLORS if name != color]
        color = rng.choice(others)
    return Draft("statement:color", {"the": f"the {found[1]}", "color": color}, yes_or_no(truth=truth))


def _state_all(facts: SceneFacts, rng: random.Random) -> Draft | None:
    found = sample_all_are(facts, rng)
    if found is None:
        return None
    group, color, truth = found
    return Draft("statement:all", {**group_slots(group, rng), "color": color}, yes_or_no(truth=truth))


def caption(facts: SceneFacts) -> str:
    """List what is in a scene: by colour and shape where that makes at most four groups, else more coarsely.

    Larger groups come first, then the order of the class numbers; `two red circles and a blue star`.
    """
    if not facts.objects:
        return "an empty picture"
    by_pair = {Group(color, shape): number for (color, shape), number in facts.pair_counts.items()}
    by_shape = {Group(shape=shape): number for shape, number in facts.shape_counts.items()}
    by_color = {Group(color=color): number for color, number in facts.color_counts.items()}
    for groups in (by_pair, by_shape, by_color):
        if len(groups) <= _MAX_CAPTION_GROUPS:
            return _listed(groups)
    return f"{NUMBER_WORDS[len(facts.objects)]} objects"


def _listed(groups: dict[Group, int]) -> str:
    def rank(entry: tuple[Group, int]) -> tuple[int, int, int]:
        group, number = entry
        color = COLORS.index(group.color) if group.color else 0
        return -number, color, SHAPES.index(group.shape) if group.shape else 0

    parts = [
        with_article(noun(group)) if number == 1 else f"{NUMBER_WORDS[number]} {plural(group)}"
        for group, number in sorted(groups.items(), key=rank)
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _describe(facts: SceneFacts, rng: random.Random) -> Draft | None:
    return Draft("describe", {}, caption(facts))


COMPARISON_BUILDERS: dict[str, Builder] = {
    "relation_is": _relation_is,
    "relation_where": _relation_where,
    "relation_what": _relation_what,
    "more": _more,
    "as_many": _as_many,
    "which_more": _which_more,
    "larger": _larger,
    "same_attribute": _same_attribute,
    "most_common": _most_common,
    "state_exist": _state_existence("exist"),
    "state_none": _state_existence("none"),
    "state_count": _state_count("count"),
    "state_at_least": _state_count("at_least"),
    "state_at_most": _state_count("at_most"),
    "state_relation": _state_relation,
    "state_more": _state_more,
    "state_color": _state_color,
    "state_all": _state_all,
    "describe": _describe,
}
"""Builders by intent."""
