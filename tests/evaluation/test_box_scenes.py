"""Questions derived from the boxes of another renderer's pictures, checked by eye on three of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.data.synthetic.facts import Group
from fastvlm.errors import DataError, ImageError
from fastvlm.evaluation.questions import EvaluationQuestion, pictures_of
from fastvlm.evaluation.tasks.box_scenes import HUMAN_FAMILY, box_questions, read_box_scenes

# What a person sees who looks at the pictures and counts.
BY_EYE = {
    "1572-0": {"yellow": 7, "blue": 2, "black": 1, "circle": 2, "square": 3, "triangle": 5},
    "2019-1": {"yellow": 1, "blue": 8, "black": 2, "circle": 6, "square": 3, "triangle": 2},
    "2973-0": {"yellow": 1, "blue": 3, "black": 4, "circle": 0, "square": 8, "triangle": 0},
}
ANSWERS_BY_EYE = {
    "2019-1/exist_pair/black-circle/0": "yes",
    "1572-0/exist_pair/blue-square/0": "no",
    "2019-1/exist_pair/yellow-square/0": "no",
    "2973-0/exist_pair/yellow-circle/0": "no",
    "1572-0/exist_pair/yellow-triangle/0": "yes",
    "2019-1/count_color/blue-object/0": "8",
    "1572-0/count_color/yellow-object/0": "7",
    "2019-1/count_pair/blue-circle/0": "5",
    "1572-0/count_pair/yellow-triangle/0": "3",
    "2973-0/count_color/black-object/0": "4",
    "2973-0/count_shape/square/0": "8",
    "2019-1/more/blue-object-black-object/0": "yes",
    "1572-0/more/black-triangle-yellow-circle/0": "no",
    "2973-0/as_many/yellow-object-blue-object/0": "no",
    "1572-0/state_more/yellow-circle-black-circle/0": "yes",
    "2019-1/state_more/black-triangle-yellow-square/0": "yes",
    "2973-0/state_count/black-square/4": "yes",
    "1572-0/human": "yes",
    "2019-1/human": "yes",
    "2973-0/human": "yes",
}


@pytest.fixture(scope="module")
def real(shared: Path) -> Path:
    folder = shared / "real" / "scenes"
    if not folder.is_dir():
        pytest.skip(f"no pictures at {folder}")
    return folder


@pytest.fixture(scope="module")
def known(real: Path) -> list[EvaluationQuestion]:
    return box_questions(real, limit_per_family=500, phrasing="train")


@pytest.fixture(scope="module")
def unseen(real: Path) -> list[EvaluationQuestion]:
    return box_questions(real, limit_per_family=500, phrasing="held_out")


def test_objects_are_those_that_a_person_counts(real: Path) -> None:
    scenes = {scene.image.stem: scene for scene in read_box_scenes(real)}
    for name, counts in BY_EYE.items():
        for word, number in counts.items():
            group = Group(color=word) if word in ("yellow", "blue", "black") else Group(shape=word)
            assert scenes[name].count(group) == number, (name, word)


def test_answers_are_those_that_a_person_gives(known: list[EvaluationQuestion]) -> None:
    found = {
        question.question_id.removeprefix("boxes/").removesuffix("/train"): question.answer
        for question in known
        if question.picture.picture_id.removeprefix("boxes/") in BY_EYE
    }
    assert found == ANSWERS_BY_EYE


def test_real_questions_are_balanced_and_few_for_each_picture(real: Path, known: list[EvaluationQuestion]) -> None:
    questions = known
    assert questions == box_questions(real, limit_per_family=500, phrasing="train")
    for family in ("existence", "comparison", "statement"):
        answers = Counter(question.answer for question in questions if question.family == family)
        assert answers["yes"] == answers["no"] >= 80, family
    # Not only over all: what is asked about never tells the answer.
    subjects = Counter(
        (question.kind, *question.question_id.split("/")[3:4], question.answer)
        for question in questions
        if question.family == "existence"
    )
    assert all(subjects[kind, name, "yes"] == subjects[kind, name, "no"] for kind, name, _ in subjects)
    counts = Counter(question.answer for question in questions if question.family == "count")
    assert set(counts) == {str(number) for number in range(10)}
    assert max(counts.values()) <= 0.15 * counts.total()
    assert max(Counter(question.picture.picture_id for question in questions).values()) <= 7
    assert all(picture.kind == "resized" for picture in pictures_of(questions))
    assert questions[0].picture.load().shape == (100, 400, 3)


def test_real_statements_are_asked_as_they_were_written(
    real: Path, known: list[EvaluationQuestion], unseen: list[EvaluationQuestion]
) -> None:
    entries = {entry["statement"]: entry["label"] for entry in json.loads((real / "scenes.json").read_text())}
    human = [question for question in known if question.family == HUMAN_FAMILY]
    assert len(human) == 167
    assert all(question.text in entries for question in human)
    assert Counter(question.answer for question in human) == {"yes": 92, "no": 75}
    assert not [question for question in unseen if question.family == HUMAN_FAMILY]


def test_unseen_phrasings_ask_the_same_about_real_pictures(
    known: list[EvaluationQuestion], unseen: list[EvaluationQuestion]
) -> None:
    pairs = list(zip(known, unseen, strict=False))
    assert len(pairs) == len(unseen)
    assert all(one.answer == other.answer and one.picture == other.picture for one, other in pairs)
    assert sum(one.text != other.text for one, other in pairs) > 0.95 * len(pairs)


# The same, on a folder that is made here.


def _write(folder: Path, entries: object) -> Path:
    for number in range(4):
        Image.fromarray(np.full((10, 40, 4), 40 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "scenes.json").write_text(json.dumps(entries))
    return folder


def _entry(number: int, *objects: tuple[str, str], label: bool = True) -> dict[str, object]:
    boxes = [[{"type": shape, "color": color} for color, shape in objects], []]
    return {"image": f"{number}.png", "statement": f"statement {number}", "label": label, "boxes": boxes}


ENTRIES = [
    _entry(0, ("Yellow", "square"), ("#0099ff", "circle")),
    _entry(1, ("Black", "square"), ("Black", "square"), label=False),
    _entry(2, ("#0099ff", "circle"), ("#0099ff", "circle"), ("Yellow", "square")),
    _entry(3),
]


def test_boxes_become_questions(tmp_path: Path) -> None:
    folder = _write(tmp_path, ENTRIES)
    scenes = read_box_scenes(folder)
    assert scenes[2].objects == (("blue", "circle"), ("blue", "circle"), ("yellow", "square"))
    questions = box_questions(folder, limit_per_family=100, phrasing="train")
    for question in questions:
        scene = scenes[int(question.picture.picture_id[-1])]
        if question.family in ("existence", "count"):
            words = question.question_id.split("/")[3].split("-")
            color = next((word for word in words if word in ("yellow", "blue", "black")), None)
            shape = next((word for word in words if word in ("square", "circle")), None)
            number = sum(color in (None, one) and shape in (None, other) for one, other in scene.objects)
            right = str(number) if question.family == "count" else ("yes" if number else "no")
            assert question.answer == right, question.question_id
            assert (color or shape or "") in question.text
    assert {question.family for question in questions} == {
        "existence",
        "count",
        "comparison",
        "statement",
        HUMAN_FAMILY,
    }
    assert [question.answer for question in questions if question.family == HUMAN_FAMILY] == ["yes", "no", "yes", "yes"]


def test_the_limit_holds_for_every_family(tmp_path: Path) -> None:
    questions = box_questions(_write(tmp_path, ENTRIES), limit_per_family=2, phrasing="train")
    assert set(Counter(question.family for question in questions).values()) == {2}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "JSON"),
        ("[]", "list of scenes"),
        ('{"image": "0.png"}', "list of scenes"),
        ("[3]", "entry 1"),
        ('[{"image": "0.png", "statement": "x", "label": "true", "boxes": []}]', "entry 1"),
        ('[{"image": "0.png", "statement": "x", "label": true, "boxes": [[{"type": "square"}]]}]', "type and color"),
        (
            '[{"image": "0.png", "statement": "x", "label": true, "boxes": [[{"type": "cat", "color": "red"}]]}]',
            "cat and red",
        ),
    ],
)
def test_a_folder_in_another_layout_is_told_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "scenes.json").write_text(content)
    with pytest.raises(DataError, match=told) as caught:
        box_questions(tmp_path, limit_per_family=5, phrasing="train")
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_missing_picture_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scenes\.json"):
        read_box_scenes(tmp_path / "nowhere")
    questions = box_questions(_write(tmp_path, ENTRIES), limit_per_family=5, phrasing="train")
    (tmp_path / "0.png").unlink()
    picture = next(entry for entry in pictures_of(questions) if entry.picture_id == "boxes/0")
    with pytest.raises(ImageError, match=r"0\.png"):
        picture.load()
