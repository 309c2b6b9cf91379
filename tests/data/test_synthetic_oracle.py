"""The answers about two scenes, put together by hand, that people can check with pencil and paper."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fastvlm.data.synthetic.comparisons import caption
from fastvlm.data.synthetic.facts import Group, SceneFacts
from fastvlm.data.synthetic.intents import Draft
from fastvlm.data.synthetic.questions import BUILDERS, FAMILY_INTENTS
from fastvlm.data.synthetic.scene import Background, Scene, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm

GENERIC = ("shape", "thing", "item", "one")


def make_object(shape: str, color: str, size_px: float, x_px: float, y_px: float) -> SceneObject:
    return SceneObject(shape, color, size_px, x_px, y_px, (0, 0, 0), ShapeForm(0.6, 0.0))


def make_scene(*objects: SceneObject, background: str | None = "white") -> Scene:
    return Scene(256, 256, Background(background, (255, 255, 255), (255, 255, 255)), objects)


MIXED = make_scene(
    make_object("circle", "red", 80, 48, 48),
    make_object("square", "blue", 30, 128, 36),
    make_object("star", "yellow", 50, 212, 128),
    make_object("square", "red", 30, 40, 200),
    make_object("square", "red", 30, 188, 218),
)
ALL_BLACK = make_scene(
    make_object("cross", "black", 30, 40, 128),
    make_object("cross", "black", 30, 128, 128),
    make_object("heart", "black", 90, 200, 128),
    background="grey",
)
TWO = make_scene(make_object("cross", "purple", 40, 60, 60), make_object("star", "orange", 40, 180, 190))


def drafts(scene: Scene, intent: str, key: Callable[[Draft], str]) -> dict[str, set[str]]:
    """All answers that a builder gives, by the words of its question, over many draws."""
    found: dict[str, set[str]] = {}
    rng = random.Random(5)
    facts = SceneFacts(scene)
    for _ in range(3000):
        draft = BUILDERS[intent](facts, rng)
        if draft is not None:
            words = key(draft)
            for generic in GENERIC:
                words = words.replace(f" {generic}s", " objects").replace(f" {generic}", " object")
            found.setdefault(words, set()).add(draft.answer)
    return found


def slots(*names: str) -> Callable[[Draft], str]:
    return lambda draft: " " + " / ".join(draft.slots[name] for name in names)


EXPECTED: list[tuple[Scene, str, Callable[[Draft], str], dict[str, str]]] = [
    (MIXED, "exist_pair", slots("a"), {" a red square": "yes", " a blue circle": "no", " a red star": "no"}),
    (MIXED, "exist_color", slots("a"), {" a yellow object": "yes", " a green object": "no"}),
    (MIXED, "exist_shape", slots("a"), {" a star": "yes", " a heart": "no"}),
    (MIXED, "exist_size", slots("a"), {" a large red circle": "yes", " a small red circle": "no"}),
    (MIXED, "all_are", slots("things", "color"), {" objects / red": "no", " squares / red": "no"}),
    (ALL_BLACK, "all_are", slots("things", "color"), {" objects / black": "yes", " crosses / black": "yes"}),
    (MIXED, "color_of_shape", slots("the"), {" the star": "yellow", " the circle": "red"}),
    (MIXED, "color_of_extreme", slots("the"), {" the rightmost object": "yellow", " the topmost square": "blue"}),
    (ALL_BLACK, "color_of_all", slots("things"), {" crosses": "black"}),
    (ALL_BLACK, "shape_of_all", slots("things"), {}),
    (MIXED, "shape_of_color", slots("the"), {" the blue object": "square", " the large red object": "circle"}),
    (MIXED, "shape_of_extreme", slots("the"), {" the rightmost object": "star", " the lowest red object": "square"}),
    (MIXED, "count_all", slots("things"), {" objects": "5"}),
    (MIXED, "count_color", slots("things"), {" red objects": "3", " yellow objects": "1", " green objects": "0"}),
    (MIXED, "count_shape", slots("things"), {" squares": "3", " hearts": "0"}),
    (MIXED, "count_pair", slots("things"), {" red squares": "2", " blue squares": "1", " blue stars": "0"}),
    (MIXED, "count_kinds", lambda draft: draft.slots["things"].replace(" ", "_"), {"different_shapes": "3"}),
    (
        MIXED,
        "relation_is",
        slots("the", "rel", "b"),
        {" the star / to the right of / the circle": "yes", " the star / to the left of / the circle": "no"},
    ),
    (MIXED, "relation_where", slots("the", "b"), {" the blue square / the circle": "right"}),
    (
        TWO,
        "relation_what",
        slots("rel", "the"),
        {" to the left of / the star": "a purple cross", " below / the cross": "an orange star"},
    ),
    (MIXED, "extreme_what", slots("sup"), {" rightmost": "a yellow star", " lowest": "a red square"}),
    (MIXED, "more", slots("things", "others"), {" red objects / blue objects": "yes", " stars / squares": "no"}),
    (MIXED, "as_many", slots("things", "others"), {" stars / circles": "yes", " stars / squares": "no"}),
    (MIXED, "which_more", slots("things", "others"), {" circles / squares": "squares"}),
    (
        MIXED,
        "larger",
        slots("the", "larger", "b"),
        {" the circle / larger / the star": "yes", " the circle / smaller / the star": "no"},
    ),
    (MIXED, "same_attribute", slots("the", "b", "attribute"), {" the circle / the star / colour": "no"}),
    (ALL_BLACK, "same_attribute", slots("the", "b", "attribute"), {" the leftmost object / the heart / colour": "yes"}),
    (MIXED, "most_common", lambda draft: draft.slots["attribute"], {"colour": "red", "shape": "square"}),
    (MIXED, "size_of", slots("the"), {" the circle": "large", " the star": "medium", " the blue square": "small"}),
    (MIXED, "size_extreme_color", slots("the"), {" the largest object": "red"}),
    (MIXED, "size_extreme_shape", slots("the"), {" the biggest object": "circle"}),
    (MIXED, "size_extreme_what", slots("sup"), {" largest": "a red circle"}),
    (MIXED, "position_of", slots("the"), {" the circle": "top left", " the star": "right", " the blue square": "top"}),
    (MIXED, "position_what", slots("place"), {" in the bottom left corner": "a red square"}),
    (
        MIXED,
        "position_is",
        slots("a", "place"),
        {" a star / at the top left": "no", " a circle / at the top left": "yes"},
    ),
    (MIXED, "background_color", lambda draft: "", {"": "white"}),
    (ALL_BLACK, "background_is", slots("color"), {" grey": "yes", " black": "no"}),
    (
        MIXED,
        "absent",
        lambda draft: " ".join((draft.kind, draft.slots["the"], draft.slots.get("b", ""))).strip(),
        {"color_of the heart": "There is no heart.", "shape_of the green object": "There is no green object."},
    ),
    (MIXED, "state_exist", slots("a"), {" a blue square": "yes", " a blue star": "no"}),
    (MIXED, "state_none", slots("a"), {" a blue square": "no", " a blue star": "yes"}),
    (MIXED, "state_count", slots("num_things"), {" two red squares": "yes", " two squares": "no"}),
    (MIXED, "state_at_least", slots("num_things"), {" two squares": "yes", " four squares": "no"}),
    (MIXED, "state_at_most", slots("num_things"), {" two squares": "no", " four squares": "yes"}),
    (MIXED, "state_relation", slots("the", "rel", "b"), {" the circle / left of / the star": "yes"}),
    (MIXED, "state_more", slots("things", "others"), {" squares / stars": "yes", " stars / squares": "no"}),
    (MIXED, "state_color", slots("the", "color"), {" the star / yellow": "yes", " the star / red": "no"}),
    (ALL_BLACK, "state_all", slots("things", "color"), {" crosses / black": "yes"}),
    (MIXED, "describe", lambda draft: "", {"": "two red squares, a red circle, a yellow star and a blue square"}),
]


@pytest.mark.parametrize(("scene", "intent", "key", "expected"), EXPECTED, ids=[entry[1] for entry in EXPECTED])
def test_answers_are_those_of_a_person(
    scene: Scene, intent: str, key: Callable[[Draft], str], expected: dict[str, str]
) -> None:
    found = drafts(scene, intent, key)
    assert {words: found.get(words) for words in expected} == {words: {answer} for words, answer in expected.items()}
    assert all(len(answers) == 1 for answers in found.values())


def test_every_intent_is_checked_by_hand() -> None:
    intents = {intent for intents in FAMILY_INTENTS.values() for intent in intents} - {"outside"}
    assert intents == {intent for _, intent, _, _ in EXPECTED}


def test_what_people_could_dispute_is_not_asked() -> None:
    """Circle and lower square are 8 px apart in x: neither is the leftmost; three squares are not `the square`."""
    asked = drafts(MIXED, "color_of_extreme", slots("the"))
    assert asked and not any("leftmost object" in words for words in asked)
    assert " the square" not in drafts(MIXED, "color_of_shape", slots("the"))
    assert SceneFacts(MIXED).direction_holds("left", 0, 3) is None
    assert not drafts(ALL_BLACK, "shape_of_all", slots("things"))


def test_size_without_a_name_makes_a_phrase_ambiguous() -> None:
    between = make_scene(make_object("star", "red", 80, 60, 60), make_object("star", "red", 70, 180, 180))
    assert SceneFacts(between).sizes == ("large", None)
    assert SceneFacts(between).only_member(Group(shape="star", size="large")) is None


def test_count_above_nine_is_never_asked() -> None:
    crowd = make_scene(*(make_object("cross", "blue", 20, 20 + 22 * index, 40) for index in range(10)))
    assert not drafts(crowd, "count_all", slots("things"))
    assert "blue crosses" not in " ".join(drafts(crowd, "count_pair", slots("things")))


def test_caption_grows_coarser_with_the_number_of_groups() -> None:
    colors = ("red", "blue", "green", "orange", "black")
    stars = [make_object("star", color, 20, 30 + 40 * index, 40) for index, color in enumerate(colors)]
    assert caption(SceneFacts(make_scene(*stars))) == "five stars"
    shapes = ("star", "square", "heart", "cross", "circle")
    mixed = [
        make_object(shape, color, 20, 30 + 40 * index, 40)
        for index, (shape, color) in enumerate(zip(shapes, colors, strict=True))
    ]
    assert caption(SceneFacts(make_scene(*mixed))) == "five objects"
    assert caption(SceneFacts(make_scene())) == "an empty picture"
