"""Templates and wording: many of them, held-out ones unseen as sentences but not as words, and safe carelessness."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from string import Formatter

import pytest

from fastvlm.data.synthetic import CANVAS_SIZES_PX, sample_questions, sample_scene
from fastvlm.data.synthetic.further_phrasings import FURTHER_PHRASINGS
from fastvlm.data.synthetic.mentions import find_mentions
from fastvlm.data.synthetic.outside import TEMPLATES_HELD_OUT, TEMPLATES_TRAIN, outside_question
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.phrasings import PHRASINGS
from fastvlm.data.synthetic.rewording import reworded
from fastvlm.data.synthetic.shapes import PLURALS, SHAPES
from fastvlm.data.synthetic.statements import STATEMENT_FRAMES, STATEMENTS
from fastvlm.data.synthetic.wording import (
    FUNCTION_WORDS,
    LEAD_INS,
    LEAD_INS_OF_QUESTIONS,
    TAILS,
    careless,
    fill,
)

KINDS = {**PHRASINGS, **{f"statement_{name}": kind for name, kind in STATEMENTS.items()}, "frames": STATEMENT_FRAMES}
MAIN_KINDS = {
    *(
        "exist",
        "all_are",
        "color_of",
        "shape_of",
        "color_of_all",
        "shape_of_all",
        "count",
        "relation_is",
        "relation_where",
    ),
    *("relation_what", "extreme_what", "more", "as_many", "which_more", "larger", "same_attribute", "most_common"),
}
TRAIN = [template for kind in KINDS.values() for template in kind.train]
FURTHER = [template for templates in FURTHER_PHRASINGS.values() for template in templates]
HELD_OUT = [template for kind in KINDS.values() for template in kind.held_out]
ALL_LEAD_INS = LEAD_INS + LEAD_INS_OF_QUESTIONS
QUESTION = "Is the large red circle to the left of the blue star in the picture?"
WORDS_OF_MEANING = {
    *(
        "no",
        "not",
        "one",
        "two",
        "all",
        "any",
        "only",
        "every",
        "each",
        "none",
        "more",
        "most",
        "less",
        "least",
        "fewer",
    ),
    *("than", "as", "many", "same", "exactly", "at", "in", "on", "to", "of", "or", "and", "other", "how", "what"),
    *("which", "where", "left", "right", "above", "below", "large", "small", "medium", "true", "false", "number"),
}


def words(template: str) -> list[str]:
    """Words and slots of a template, without capitals and punctuation."""
    return re.findall(r"\{\w+\}|[\w']+", re.sub(r"\{where\w*\}", "", template).lower())


def head(template: str) -> tuple[str, ...]:
    return tuple(words(template)[:3])


def slots(*templates: str) -> set[str]:
    return {field.lower() for template in templates for _, field, _, _ in Formatter().parse(template) if field}


def with_one_word_less(template: str) -> Iterator[str]:
    parts = template.split(" ")
    for index, part in enumerate(parts):
        if part.lower() in FUNCTION_WORDS:
            yield " ".join(parts[:index] + parts[index + 1 :])


def ask(number: int, phrasing: str, first_seed: int) -> list[str]:
    texts: list[str] = []
    for seed in range(first_seed, first_seed + number):
        rng = random.Random(seed)
        width_px, height_px = CANVAS_SIZES_PX[seed % len(CANVAS_SIZES_PX)]
        scene = sample_scene(rng, width_px=width_px, height_px=height_px)
        texts += [entry.text for entry in sample_questions(scene, rng, num_questions=10, phrasing=phrasing)]
    return texts


def test_every_kind_has_many_training_phrasings_and_none_twice() -> None:
    for name, kind in KINDS.items():
        assert len(kind.train) >= (25 if name in MAIN_KINDS else 11), name
        assert len(kind.held_out) >= 1, name
        assert all(words(template) for template in kind.train), name
        assert len(set(kind.train)) == len(kind.train) and len(set(kind.held_out)) == len(kind.held_out), name
        assert not set(kind.train) & set(kind.held_out), name
        if name in MAIN_KINDS:
            assert len({words(template)[0] for template in kind.train}) >= 8, name


def test_further_phrasings_are_others_in_other_ways_and_learnt_where_asked_for() -> None:
    """Frozen questions never ask with them; `test_scenes` compares these questions with their digests."""
    for name, templates in FURTHER_PHRASINGS.items():
        known = {*PHRASINGS[name].train, *PHRASINGS[name].held_out}
        assert slots(*templates) <= slots(*known), name
        assert len(set(templates)) == len(templates) and not known & set(templates), name
        openings = {head(template)[:2] for template in PHRASINGS[name].train}
        assert sum(head(template)[:2] not in openings for template in templates) > len(templates) // 2, name

    def drawn(*, has_further_phrasings: bool) -> set[bool]:
        scene = sample_scene(random.Random(7), width_px=256, height_px=256)
        asked = sample_questions(
            scene,
            random.Random(7),
            num_questions=60,
            phrasing="train",
            families=["count"],
            has_further_phrasings=has_further_phrasings,
        )
        numbers = [int(question.phrasing_id.removeprefix("count/train/")) for question in asked]
        return {number >= len(PHRASINGS["count"].train) for number in numbers}

    assert drawn(has_further_phrasings=False) == {False} and drawn(has_further_phrasings=True) == {False, True}


def test_held_out_phrasings_begin_unlike_all_training_ones() -> None:
    """No first three words are shared, not even with a training phrasing that lost a word."""
    train = {head(template) for template in (*TRAIN, *FURTHER, *TEMPLATES_TRAIN)}
    train |= {head(less) for template in (*TRAIN, *FURTHER, *TEMPLATES_TRAIN) for less in with_one_word_less(template)}
    assert not [template for template in (*HELD_OUT, *TEMPLATES_HELD_OUT) if head(template) in train]


def test_no_lead_in_begins_like_a_held_out_phrasing() -> None:
    for lead_in in ALL_LEAD_INS:
        beginning = head(lead_in)
        for template in (*HELD_OUT, *TEMPLATES_HELD_OUT):
            assert head(template)[: len(beginning)] != beginning, (lead_in, template)


def test_no_training_phrasing_in_other_words_begins_like_a_held_out_one() -> None:
    held_out = {head(template) for template in (*HELD_OUT, *TEMPLATES_HELD_OUT)}
    rng = random.Random(0)
    given = {
        *TRAIN,
        *FURTHER,
        *(less for template in (*TRAIN, *FURTHER) for less in with_one_word_less(template)),
        *ALL_LEAD_INS,
    }
    others = {template: {reworded(template, rng) for _ in range(50)} for template in sorted(given)}
    assert not [(template, text) for template, texts in others.items() for text in texts if head(text) in held_out]
    assert sum(len(others[template]) > 1 for template in set(TRAIN)) > len(set(TRAIN)) // 3
    assert not [text for texts in others.values() for text in texts if re.search(r"(?i)\b(a image|an [pds])", text)]


def test_other_words_mean_the_same_objects_and_begin_as_the_question_does() -> None:
    rng = random.Random(1)
    for text in ask(60, "train", 5000):
        other = reworded(text, rng)
        assert [replace(found, end=0) for found in find_mentions(other)] == [
            replace(found, end=0) for found in find_mentions(text)
        ]
        assert (other[0].isupper(), other.endswith("?")) == (text[0].isupper(), text.endswith("?"))


def test_a_question_without_such_words_stays_as_it_is() -> None:
    assert reworded("Count the red stars.", random.Random(2)) == "Count the red stars."
    wordings = {reworded("Where is it located, relative to this?", random.Random(seed)) for seed in range(200)}
    assert len(wordings) == 16 and "Where is it placed, compared with this?" in wordings


def test_every_held_out_word_occurs_in_some_training_phrasing() -> None:
    """But for one, in a statement of the frozen questions."""
    known = {word for template in TRAIN for word in words(template)}
    assert {word for template in HELD_OUT for word in words(template)} - known == {"whichever"}


def test_phrasings_of_a_kind_name_everything_that_the_answer_depends_on() -> None:
    needed = {
        "relation_is": {"the", "b", "rel"},
        "statement_relation": {"the", "b", "rel"},
        "relation_where": {"the", "b"},
        "larger": {"the", "b", "larger"},
        "same_attribute": {"the", "b", "attribute"},
        "more": {"things", "others"},
        "as_many": {"things", "others"},
        "which_more": {"things", "others"},
        "statement_more": {"things", "others"},
        "relation_what": {"the", "rel"},
        "extreme_what": {"sup"},
        "most_common": {"attribute"},
        "position_what": {"place"},
        "size_of": {"the"},
        "position": {"the"},
        "color_of_all": {"things"},
        "shape_of_all": {"things"},
        "count": {"things"},
        "color_of": {"the"},
        "shape_of": {"the"},
        "background_color": set(),
        "describe": set(),
    }
    for name, expected in needed.items():
        for template in KINDS[name].train + KINDS[name].held_out + FURTHER_PHRASINGS.get(name, ()):
            assert slots(template) - {"where", "where_or_visible"} == expected, template
    for template in PHRASINGS["count"].train + FURTHER_PHRASINGS["count"]:
        assert not re.search(r"\{(a|A|thing)\}", template), f"kinds of colour have no singular: {template}"


def test_statements_go_on_in_lower_case_and_frames_take_each_once() -> None:
    for kind in STATEMENTS.values():
        for template in kind.train + kind.held_out:
            assert re.match(r"[a-z{]|I ", template) and not template.endswith((".", "?"))
    for frame in STATEMENT_FRAMES.train + STATEMENT_FRAMES.held_out:
        assert len(re.findall(r"\{[sS]\}", frame)) == 1 and frame.endswith(("?", "."))
    assert "{S}." not in STATEMENT_FRAMES.held_out


def test_slots_begin_sentences_with_a_capital() -> None:
    slots = {"place": "at the top left", "a": "a red star"}
    assert fill("{Place}, is there {a}?", slots, random.Random(0)) == "At the top left, is there a red star?"


def test_carelessness_spares_the_words_that_count() -> None:
    rng = random.Random(0)
    variants = {careless(QUESTION, rng, phrasing="train") for _ in range(3000)}
    assert len(variants) > 100
    for variant in variants:
        text = variant.lower()
        assert all(word in text for word in ("large red circle", "left of", "blue star"))


def test_only_small_words_are_dropped() -> None:
    """In some tenth of the questions one word is missing, and never one that counts, compares, negates or places."""
    assert not FUNCTION_WORDS & (WORDS_OF_MEANING | set(COLORS) | set(SHAPES) | set(PLURALS.values()))
    rng = random.Random(1)
    template = "Are there not more than two red stars in the picture"
    dropped = 0
    for _ in range(4000):
        variant = careless(template, rng, phrasing="train").lower().split()
        missing = [word for word in template.lower().split() if word not in variant and word in FUNCTION_WORDS]
        assert len(missing) <= 1
        dropped += len(missing)
    assert 0.07 < dropped / 4000 < 0.13


def test_a_fifth_of_the_questions_have_a_lead_in_or_a_tail() -> None:
    rng = random.Random(2)
    number = 4000
    texts = [careless(QUESTION, rng, phrasing="train").lower() for _ in range(number)]
    tails = tuple(tail.lower().rstrip(".") for tail in TAILS)
    marked = [
        text
        for text in texts
        if text.startswith(tuple(lead_in.lower() for lead_in in ALL_LEAD_INS)) or text.rstrip(".").endswith(tails)
    ]
    assert 0.15 < len(marked) / number < 0.25
    assert len(ALL_LEAD_INS) == len(set(ALL_LEAD_INS)) >= 20


@pytest.mark.parametrize("text", ["Hello!", "Good morning", "Thank you."])
def test_greetings_have_no_lead_in(text: str) -> None:
    rng = random.Random(3)
    assert not any(careless(text, rng, phrasing="train").startswith(ALL_LEAD_INS) for _ in range(500))


def test_after_a_lead_in_goes_a_small_letter_but_i_stays() -> None:
    rng = random.Random(4)
    text = "I think the red star is larger than the ring. Am I right?"
    texts = {careless(text, rng, phrasing="train") for _ in range(2000)}
    assert any("Hi, I think" in variant for variant in texts)
    texts = {careless(QUESTION, rng, phrasing="train") for _ in range(2000)}
    assert any(variant.startswith("Hi, is the") for variant in texts)
    assert any(variant.startswith("Look at the image. Is the") for variant in texts)
    assert not any(variant.startswith("Hi, Is the") for variant in texts)


def test_what_judges_has_no_lead_in_and_lacks_no_word() -> None:
    rng = random.Random(5)
    number_of_words = len(QUESTION.split())
    for _ in range(2000):
        text = careless(QUESTION, rng, phrasing="held_out")
        assert len(text.split()) >= number_of_words
        assert not text.startswith(ALL_LEAD_INS) and not text.endswith(TAILS)
    asked = ask(40, "held_out", 9_000_000)
    assert not [text for text in asked if text.startswith(ALL_LEAD_INS) or text.endswith(TAILS)]
    assert [text for text in ask(40, "train", 9_000_000) if text.startswith(ALL_LEAD_INS)]


def test_outside_questions_have_right_plurals() -> None:
    rng = random.Random(6)
    texts = " ".join(outside_question(rng, phrasing="train")[0] for _ in range(20_000))
    assert not re.search(r"sheeps|mouses|fishs|fishes|buss\b|beachs|sandwichs|wolfs|knifes", texts)
    assert "buses" in texts and "beaches" in texts and "wolves" in texts
