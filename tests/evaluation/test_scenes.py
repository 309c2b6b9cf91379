"""The questions about generated scenes: deterministic, frozen, of the right sizes, and apart from training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import PIL
import pytest

from fastvlm.data.synthetic import CANVAS_SIZES_PX, FAMILIES, GENERATOR_VERSION
from fastvlm.data.synthetic.outside import OUTSIDE_ANSWER
from fastvlm.evaluation.manifest import (
    FrozenSize,
    frozen_questions,
    frozen_set_name,
    make_manifest,
    read_manifest,
    write_manifest,
)
from fastvlm.evaluation.questions import Fingerprint, fingerprint, pictures_of
from fastvlm.evaluation.scores import SCORES
from fastvlm.evaluation.tasks.scenes import VIEWS, scene_questions

ADVICE = "after a wanted change raise GENERATOR_VERSION and run: python -m fastvlm.evaluation.manifest scenes"


def _check_frozen(size: FrozenSize) -> None:
    manifest = read_manifest()
    assert manifest.generator_version == GENERATOR_VERSION, ADVICE
    for phrasing in ("train", "held_out"):
        found = fingerprint(frozen_questions(size, phrasing))
        expected = manifest.sets[frozen_set_name(size, phrasing)]
        assert (found.num_questions, found.num_pictures) == (expected.num_questions, expected.num_pictures)
        assert found.questions_sha256 == expected.questions_sha256, ADVICE
        # Another Pillow may round a pixel otherwise; the words never depend on it.
        if manifest.pillow_version == PIL.__version__:
            assert found.pixels_sha256 == expected.pixels_sha256, ADVICE


def test_the_generator_still_gives_the_small_frozen_set() -> None:
    _check_frozen(25)


@pytest.mark.slow
def test_the_generator_still_gives_the_large_frozen_set() -> None:
    _check_frozen(500)


def test_the_frozen_sets_are_balanced_and_large_enough() -> None:
    sets = read_manifest().sets
    assert set(sets) == {"test-25-train", "test-25-held_out", "test-500-train", "test-500-held_out"}
    for name, entry in sets.items():
        assert entry.num_questions == int(name.split("-")[1]) * len(FAMILIES)
        # One question of a family about a picture: no answer of a family rests on another of its answers.
        assert entry.num_pictures >= int(name.split("-")[1])


def test_a_manifest_is_written_whole(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastvlm.evaluation.manifest.fingerprint", lambda asked: Fingerprint(len(asked), 1, "a", "b"))
    monkeypatch.setattr("fastvlm.evaluation.manifest.frozen_questions", lambda size, phrasing: [None] * size)
    made = make_manifest()
    write_manifest(made, tmp_path / "scenes.json")
    assert read_manifest(tmp_path / "scenes.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.json"]


def test_every_family_has_its_number_and_each_picture_one_question_of_it() -> None:
    questions = scene_questions("test", limit_per_family=12, phrasing="train")
    assert Counter(question.family for question in questions) == dict.fromkeys(FAMILIES, 12)
    assert set(Counter((question.picture.picture_id, question.family) for question in questions).values()) == {1}
    assert len({question.question_id for question in questions}) == len(questions)


def test_a_smaller_limit_gives_the_beginning_of_each_family() -> None:
    large = scene_questions("test", limit_per_family=12, phrasing="train")
    small = scene_questions("test", limit_per_family=5, phrasing="train")
    for family in FAMILIES:
        beginning = [question for question in large if question.family == family][:5]
        assert [question for question in small if question.family == family] == beginning


def test_unseen_phrasings_ask_the_same_in_other_words() -> None:
    known = scene_questions("test", limit_per_family=12, phrasing="train")
    unseen = scene_questions("test", limit_per_family=12, phrasing="held_out")
    known_by_name = {question.question_id.rpartition("/")[0]: question for question in known}
    pairs = [
        (known_by_name[name], question)
        for question in unseen
        if (name := question.question_id.rpartition("/")[0]) in known_by_name and question.family != "outside"
    ]
    assert len(pairs) > 0.95 * (len(known) - 12)
    assert all(one.kind == other.kind for one, other in pairs)
    # Spelled like the question, an answer may be grey or gray; nothing else differs.
    assert all(one.answer.replace("gray", "grey") == other.answer.replace("gray", "grey") for one, other in pairs)
    assert sum(one.text != other.text for one, other in pairs) > 0.9 * len(pairs)


def test_pictures_are_the_same_each_time_and_differ() -> None:
    pictures = pictures_of(scene_questions("test", limit_per_family=14, phrasing="train"))
    first = [picture.load() for picture in pictures]
    for pixels, picture in zip(first, pictures, strict=True):
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, picture.load())
    assert len({pixels.tobytes() for pixels in first}) == len(first)


def test_half_of_the_pictures_have_to_be_resized() -> None:
    pictures = pictures_of(scene_questions("test", limit_per_family=24, phrasing="train"))
    kinds = Counter(picture.kind for picture in pictures)
    assert abs(kinds["native"] - kinds["resized"]) <= 1
    sizes = {picture.kind: set() for picture in pictures}
    for picture in pictures:
        height_px, width_px, _ = picture.load().shape
        sizes[picture.kind].add((width_px, height_px))
    assert sizes["native"] <= set(CANVAS_SIZES_PX)
    assert not sizes["resized"] & set(CANVAS_SIZES_PX)
    assert {(400, 300), (512, 512)} & sizes["resized"]
    assert max(max(size) for size in sizes["resized"]) > 512
    assert len(VIEWS) == 12


def test_splits_share_no_scene() -> None:
    """Neither a picture nor a family's answers of one split come from another."""
    pixels = {}
    for split in ("train", "dev", "test"):
        pictures = pictures_of(scene_questions(split, limit_per_family=20, phrasing="train"))
        pixels[split] = {picture.load().tobytes() for picture in pictures}
    assert not pixels["train"] & pixels["test"]
    assert not pixels["dev"] & pixels["test"]


def test_questions_outside_the_domain_have_one_answer() -> None:
    questions = scene_questions("test", limit_per_family=12, phrasing="held_out")
    outside = [question for question in questions if question.family == "outside"]
    assert len({question.text for question in outside}) > 6
    assert {question.answer.replace("colored", "coloured") for question in outside} == {OUTSIDE_ANSWER}
    assert {question.score for question in outside} == {"refusal"}
    assert SCORES["refusal"]("I can't tell. I know letters only.", OUTSIDE_ANSWER)
