"""Grounding labels: phrases of packed rows point at the cells of the objects that they mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastvlm.batches import Float32Array, GroundingLabels, TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.grounding import MAX_TALLY, NOBODYS_SHARE, NUM_CLASSES, NUM_COMPARISONS, NUM_KINDS, NUM_MARKS, ground
from fastvlm.data.sources import scene_example
from fastvlm.data.synthetic import COLORS, SHAPES
from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.labels import passed_steps
from fastvlm.data.synthetic.mentions import find_mentions
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS
from fastvlm.data.synthetic.questions import ASKED, Question
from fastvlm.data.synthetic.samples import SceneSample, scene_sample
from fastvlm.data.synthetic.scene import Background, Scene, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm
from fastvlm.errors import DataError
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe

WHITE = Background("white", (255, 255, 255), (255, 255, 255))


def item(shape: str, color: str, size_px: float, x: float, y: float) -> SceneObject:
    return SceneObject(shape, color, size_px, x, y, (0, 0, 0), ShapeForm(1.0, 0.0))


SCENE = Scene(
    128,
    128,
    WHITE,
    (item("star", "red", 20, 20, 20), item("circle", "blue", 40, 80, 112), item("star", "blue", 20, 110, 40)),
)
STAR, CIRCLE, SECOND_STAR = 0, 3 * 4 + 2, 1 * 4 + 3
"""Cells of the three objects among 4 x 4."""

TOKENIZER = train_byte_level_bpe(
    ["Is the red star left of the blue circle? How many stars are there? yes no 2"] * 9,
    vocabulary_size=330,
    special_tokens=("<|user|>", "<|assistant|>", "<|end|>"),
)
COLLATOR = Collator(
    processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=16)),
    tokenizer=TOKENIZER,
    template=TEMPLATES["compact"],
    max_positions=512,
)


def question(text: str, answer: str, *roles: str) -> Question:
    return Question("family", "intent", text, answer, "phrasing", *roles)


QUESTIONS = (
    question("Is the red star left of the blue circle?", "yes", "the red star", "the blue circle", "left"),
    question("How many stars are there?", "2", "stars"),
    question("What colour is the leftmost star?", "red", "the leftmost star"),
    question("Is there a green heart?", "no"),
    question("Thanks!", "yes"),
)
SAMPLE = SceneSample(SCENE, np.zeros((256, 256, 3), np.uint8), QUESTIONS)


TEXT_ALONE = Example("text", (), ((user("Is there a star?"), assistant("no")),))
Labelled = tuple[TrainingBatch, GroundingLabels]


@pytest.fixture(scope="module")
def batch() -> Labelled:
    collated = COLLATOR([scene_example(SAMPLE, sample_id="s"), TEXT_ALONE])
    return collated, ground(collated, [SAMPLE, None], TOKENIZER)


def shares(*cells: int, share: float) -> Float32Array:
    expected = np.zeros(17, np.float32)
    for cell in cells:
        expected[1 + cell] += share
    expected[0] = 1 - expected.sum()
    return expected


def test_phrases_point_at_what_they_mean(batch: Labelled) -> None:
    collated, labels = batch
    assert len(labels.phrases) == 6 and set(labels.phrases[:, 0]) == {0}
    words = [TOKENIZER.decode([collated.token_ids[row, end]]) for row, end in labels.phrases]
    for name, word in zip(("star", "circle", "stars", "star", "red", "heart"), words, strict=True):
        assert name.endswith(word.strip())
    # The phrases are `red star`, `blue circle`, `stars`, `leftmost star`, the answer `red`, and `green heart`.
    candidates = [(STAR,), (CIRCLE,), (STAR, SECOND_STAR), (STAR, SECOND_STAR), (STAR,), ()]
    referents = [*candidates[:3], (STAR,), *candidates[4:]]
    expected = {
        "candidates": [shares(*cells, share=1 / max(1, len(cells))) for cells in candidates],
        "tallies": [shares(*cells, share=1 / (NOBODYS_SHARE + len(cells))) for cells in candidates],
        "referents": [shares(*cells, share=1 / max(1, len(cells))) for cells in referents],
    }
    for name, rows in expected.items():
        np.testing.assert_allclose(getattr(labels, name), np.stack(rows), atol=1e-6, err_msg=name)


def test_phrases_know_number_colour_shape_and_marks(batch: Labelled) -> None:
    _, labels = batch
    red, blue = COLORS.index("red"), COLORS.index("blue")
    star, circle = SHAPES.index("star"), SHAPES.index("circle")
    only_star, nothing = [1, red, star], [0, -1, -1]
    both_stars = [2, len(BACKGROUND_COLORS), star]
    assert labels.classes.tolist() == [only_star, [1, blue, circle], both_stars, [-1, red, star], only_star, nothing]
    assert np.array_equal(labels.marks[1], passed_steps(SCENE, SCENE.objects[1]))
    assert (labels.marks[[2, 5]] == -1).all() and labels.marks.shape == (6, NUM_MARKS)
    assert (labels.classes < np.array(NUM_CLASSES)).all()


def test_phrases_know_the_shapes_and_colours_among_what_they_mean(batch: Labelled) -> None:
    _, labels = batch
    names = (*SHAPES, *COLORS)
    found = [{name for name, mark in zip(names, marks, strict=True) if mark} for marks in labels.kinds]
    assert found == [{"star", "red"}, {"circle", "blue"}, {"star", "red", "blue"}, *[{"star", "red"}] * 2, set()]
    assert labels.kinds.shape == (6, NUM_KINDS) and set(labels.kinds.ravel()) == {0, 1}


@pytest.mark.parametrize(("text", "number"), [("How many different shapes are there?", 2), ("How many shapes?", 3)])
def test_kinds_are_counted_by_a_phrase_that_means_all_objects(text: str, number: int) -> None:
    _, labels = labels_of(question(text, str(number), "different shapes" if number == 2 else "shapes"))
    assert labels.classes[0, 0] == number
    np.testing.assert_allclose(labels.tallies[0], shares(STAR, CIRCLE, SECOND_STAR, share=1 / (NOBODYS_SHARE + 3)))


def test_answers_point_at_their_subject_and_the_other_thing(batch: Labelled) -> None:
    collated, labels = batch
    assert len(labels.answers) == 4
    for (row, start, first, last), segment in zip(labels.answers, (1, 2, 3, 4), strict=True):
        assert collated.segments[row, [start, first, last]].tolist() == [segment] * 3
        assert collated.supervised[row, start + 1] and not collated.supervised[row, start]
    assert labels.answers[0, 2:].tolist() == labels.phrases[:2, 1].tolist()
    # The star is left of the circle, above it and not larger, as many as it, of another colour and another shape.
    assert labels.comparisons[0].tolist() == [1, 1, 0, 1, 0, 0, ASKED.index("left")]
    assert labels.comparisons[1:].tolist() == [[-1] * 6 + [0]] * 3
    assert (labels.comparisons < np.array(NUM_COMPARISONS)).all()


def labels_of(first: Question, turns: int = 1) -> tuple[TrainingBatch, GroundingLabels]:
    sample = SceneSample(SCENE, SAMPLE.image, (first, *QUESTIONS[1:turns]))
    collated = COLLATOR([scene_example(sample, sample_id="s", turns_per_conversation=turns)])
    return collated, ground(collated, [sample], TOKENIZER)


@pytest.mark.parametrize(
    "text", ["What colour is the background?", "Are the stars on a blue background?", "Which colour is behind stars?"]
)
def test_the_background_is_everywhere_and_has_a_colour(text: str) -> None:
    _, labels = labels_of(question(text, "white", "the background"))
    (place,) = np.flatnonzero(labels.phrases[:, 1] == labels.answers[0, 2])
    assert labels.classes[place].tolist() == [-1, BACKGROUND_COLORS.index("white"), -1]
    np.testing.assert_allclose(labels.referents[place], [0, *[1 / 16] * 16], atol=1e-6)
    assert not labels.candidates[place].any() and not labels.tallies[place].any() and (labels.marks[place] == -1).all()
    assert (labels.kinds[place] == -1).all()
    assert (labels.comparisons[0, :-1] == -1).all()


def test_roles_do_not_depend_on_the_order_of_the_phrases() -> None:
    text = "Compared with the blue circle, is it true that the red star is left of it?"
    turned = replace(QUESTIONS[0], text=text)
    collated, labels = labels_of(turned)
    subject, other = (TOKENIZER.decode([collated.token_ids[0, place]]).strip() for place in labels.answers[0, 2:])
    assert "star".endswith(subject) and "circle".endswith(other) and labels.answers[0, 2] > labels.answers[0, 3]
    assert labels.comparisons[0].tolist() == [1, 1, 0, 1, 0, 0, ASKED.index("left")]


def test_every_turn_of_a_talk_has_its_own_phrases() -> None:
    collated, labels = labels_of(QUESTIONS[0], turns=4)
    assert len(labels.answers) == 4 and set(collated.segments[0, labels.answers[:, 1]]) == {1}
    assert labels.comparisons[:, -1].tolist() == [ASKED.index("left"), 0, 0, 0]
    assert (np.diff(labels.answers[:, 1:].min(1)) > 0).all() and (labels.answers[:, 2:] <= labels.answers[:, 1:2]).all()
    assert (labels.answers[1:, 2:].min(1) > labels.answers[:-1, 1]).all()


def test_a_picture_of_other_cells_than_its_scene_is_refused() -> None:
    small = SceneSample(SCENE, np.zeros((256, 128, 3), np.uint8), QUESTIONS)
    with pytest.raises(DataError, match=r"s: expected 16 visual tokens.*got (8|10|12|15)"):
        ground(COLLATOR([scene_example(small, sample_id="s")]), [small], TOKENIZER)


def test_generated_questions_name_their_subject_and_what_they_ask() -> None:
    """What is asked and who is who give the answer of every yes-or-no question about directions, without its text."""
    checked = 0
    for index in range(60):
        sample = scene_sample("dev", index, width_px=256, height_px=256, num_questions=8, phrasing="train")
        facts = SceneFacts(sample.scene)
        for asked in sample.questions:
            assert asked.asked in ASKED
            if asked.intent != "relation_is":
                continue
            subject, other = (next(find_mentions(name)).referents(facts) for name in (asked.subject, asked.other))
            assert subject and other and len(subject) == len(other) == 1
            holds = facts.direction_holds(asked.asked, subject[0], other[0])
            assert holds is not None and asked.answer == ("yes" if holds else "no")
            checked += 1
    assert checked > 15


def test_any_number_of_objects_leaves_as_much_to_nobody_as_six_of_them() -> None:
    crowd = Scene(128, 128, WHITE, tuple(item("star", "red", 9, 10 + 9 * number, 20) for number in range(12)))
    picture = np.zeros((256, 256, 3), np.uint8)
    collated = COLLATOR([Example("c", (picture,), ((user(ImagePart(picture), "stars?"), assistant("9")),))])
    labels = ground(collated, [SceneSample(crowd, picture, ())], TOKENIZER)
    assert labels.tallies[0, 0] == pytest.approx(6 / 18) and labels.tallies.sum() == pytest.approx(1)
    assert labels.classes[0, 0] == MAX_TALLY


def test_what_is_open_to_dispute_has_no_known_kinds() -> None:
    level = Scene(128, 128, WHITE, (item("star", "red", 20, 20, 60), item("star", "blue", 20, 100, 61)))
    picture = np.zeros((256, 256, 3), np.uint8)
    text = "What colour is the topmost star?"
    collated = COLLATOR([Example("d", (picture,), ((user(ImagePart(picture), text), assistant("2")),))])
    labels = ground(collated, [SceneSample(level, picture, ())], TOKENIZER)
    assert (labels.kinds == -1).all() and labels.kinds.shape == (1, NUM_KINDS) and not labels.referents.any()


def test_text_alone_has_empty_labels() -> None:
    collated = COLLATOR([TEXT_ALONE])
    labels = ground(collated, [None], TOKENIZER)
    assert labels.phrases.shape == (0, 2) and labels.answers.shape == (0, 4) and labels.candidates.shape == (0, 1)
    assert labels.marks.shape == (0, NUM_MARKS) and labels.kinds.shape == (0, NUM_KINDS)
    assert labels.comparisons.shape == (0, len(NUM_COMPARISONS))
