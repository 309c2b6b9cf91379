"""Generated questions: balanced answers, held-out phrasings that are unseen, spelling, and the rest of the world."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from itertools import islice

import pytest

from fastvlm.data.synthetic import (
    CANVAS_SIZES_PX,
    FAMILIES,
    FAMILY_WEIGHTS,
    OUTSIDE_ANSWER,
    Question,
    sample_questions,
    sample_scene,
    tokenizer_corpus,
)
from fastvlm.data.synthetic.facts import Group
from fastvlm.data.synthetic.outside import WORDS, outside_question
from fastvlm.data.synthetic.questions import FAMILY_INTENTS, Phrasing
from fastvlm.data.synthetic.wording import american, noun, plural, spelled_like, with_article

NUM_QUESTIONS = 5000


def ask(number: int, *, phrasing: Phrasing, first_seed: int) -> list[Question]:
    questions: list[Question] = []
    for seed in range(first_seed, first_seed + number):
        rng = random.Random(seed)
        width_px, height_px = CANVAS_SIZES_PX[seed % len(CANVAS_SIZES_PX)]
        scene = sample_scene(rng, width_px=width_px, height_px=height_px)
        questions += sample_questions(scene, rng, num_questions=10, phrasing=phrasing)
    return questions


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return ask(NUM_QUESTIONS // 10, phrasing="train", first_seed=4_000_000)


def test_no_answer_is_a_good_guess(questions: list[Question]) -> None:
    """No closed question type has an answer above 1.5 times its fair share, within three standard deviations."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        answers[question.intent][question.answer.replace("gray", "grey").replace("center", "centre")] += 1
    checked = 0
    for intent, counts in answers.items():
        number, fair_share = sum(counts.values()), 1 / len(counts)
        if intent == "outside" or len(counts) > 20 or number < 40:
            continue
        slack = 3 * (fair_share * (1 - fair_share) / number) ** 0.5
        assert max(counts.values()) / number <= 1.5 * fair_share + slack, (intent, counts)
        checked += 1
    assert checked >= 25


def test_counts_0_to_9_all_come(questions: list[Question]) -> None:
    for intent in ("count_all", "count_color", "count_shape", "count_pair"):
        assert {question.answer for question in questions if question.intent == intent} == set("0123456789")


def test_mixture_is_the_documented_one(questions: list[Question]) -> None:
    assert sum(FAMILY_WEIGHTS.values()) == pytest.approx(1.0)
    counts = Counter(question.family for question in questions)
    assert set(counts) == set(FAMILIES)
    for family, weight in FAMILY_WEIGHTS.items():
        assert counts[family] / len(questions) == pytest.approx(weight, abs=0.025)


def test_every_intent_is_asked(questions: list[Question]) -> None:
    asked = {question.intent for question in questions}
    assert asked == {intent for intents in FAMILY_INTENTS.values() for intent in intents}


def test_answers_are_short(questions: list[Question]) -> None:
    for question in questions:
        if question.family not in ("description", "outside", "absent"):
            assert len(question.answer.split()) <= 4
    assert len(OUTSIDE_ANSWER.split()) <= 21


def test_texts_are_finished(questions: list[Question]) -> None:
    for question in [*questions, *ask(60, phrasing="held_out", first_seed=9_000_000)]:
        assert question.text.strip() == question.text and "  " not in question.text
        assert not re.search(r"[{}]|None", question.text + question.answer)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", question.text.lower().replace("a uni", "")), question.text


def test_questions_about_one_scene_differ_and_keep_to_the_families_asked() -> None:
    scene = sample_scene(random.Random(3), width_px=256, height_px=256)
    found = sample_questions(
        scene, random.Random(1), num_questions=12, phrasing="train", families=("count", "existence")
    )
    assert len({question.text for question in found}) == len(found) == 12
    assert {question.family for question in found} == {"count", "existence"}


def test_phrasing_id_tells_the_split() -> None:
    for phrasing in ("train", "held_out"):
        for question in ask(20, phrasing=phrasing, first_seed=1):
            assert f"/{phrasing}/" in question.phrasing_id


def test_tokenizer_corpus_holds_training_phrasings_only() -> None:
    texts = list(islice(tokenizer_corpus(3000), 4000))
    assert len(texts) == 3000 and OUTSIDE_ANSWER in texts
    assert any("color" in text for text in texts) and any("colour" in text for text in texts)
    unseen = ("would i find", "give the total of", "summarise the image", "in which colour", "say which shape")
    assert not [text for text in texts if text.lower().startswith(unseen)]


def test_outside_questions_are_many_and_held_out_words_unseen() -> None:
    rng = random.Random(0)
    train = {outside_question(rng, phrasing="train")[0] for _ in range(6000)}
    held_out = {outside_question(rng, phrasing="held_out")[0] for _ in range(2000)}
    assert len(train) >= 1500 and len(held_out) >= 250 and not train & held_out
    for words in WORDS.values():
        assert not set(words.train) & set(words.held_out)


@pytest.mark.parametrize(
    ("answer", "question", "expected"),
    [
        ("grey", "What color is the cross?", "gray"),
        ("grey", "What colour is the cross?", "grey"),
        ("grey", "Tell me about the cross", "grey"),
        ("centre", "Where is the gray cross?", "center"),
        ("There is no grey star.", "What color is the grey star?", "There is no grey star."),
    ],
)
def test_answer_is_spelled_like_its_question(answer: str, question: str, expected: str) -> None:
    assert spelled_like(answer, question) == expected


def test_american_spelling() -> None:
    assert american("What colour is the grey star in the centre?") == "What color is the gray star in the center?"


def test_noun_phrases() -> None:
    assert with_article(noun(Group("orange", "star"))) == "an orange star"
    assert noun(Group("red", None, "medium")) == "medium-sized red object"
    assert plural(Group("grey", "cross", "small")) == "small grey crosses"
