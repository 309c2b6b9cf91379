"""What a step of generated scenes holds: questions and listings, talks, scenes without a picture, dense labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.sources import BLIND_EVERY, NO_PICTURE_ANSWER, TALK_EVERY, TURNS_OF_A_TALK, SceneBatches
from fastvlm.data.synthetic import OUTSIDE_ANSWER, center_map, label_maps, scene_sample, token_features
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

SIDE_PX = 128


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe(
        ["a"], vocabulary_size=300, special_tokens=("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
    )


@pytest.fixture(scope="module")
def batches(tokenizer: Tokenizer) -> SceneBatches:
    collator = Collator(
        processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=16)),
        tokenizer=tokenizer,
        template=TEMPLATES["compact"],
        max_positions=4096,
    )
    return SceneBatches(
        collator=collator, num_steps=3, batch_size=4, canvases=((SIDE_PX, SIDE_PX),), questions_per_picture=4,
        listings_per_picture=2, first_index=2,
    )  # fmt: skip


@pytest.mark.parametrize(("max_visual_tokens", "is_mixed"), [(16, True), (25, False)])
def test_scenes_of_a_batch_are_shown_alike(batches: SceneBatches, max_visual_tokens: int, *, is_mixed: bool) -> None:
    """Drawn twice as large or left to the processor, unless it would enlarge the large ones too."""
    processing = ProcessingConfig(mode="fit", max_visual_tokens=max_visual_tokens, max_enlargement=2.0)
    collator = replace(batches.collator, processor=ImageProcessor(processing))
    shown = replace(batches, collator=collator, batch_size=2 * TALK_EVERY)[0].pixels
    for index, picture in enumerate(shown, start=batches.first_index):
        enlargement = 1 + index // TALK_EVERY % 2 if is_mixed else 1
        sample = scene_sample(
            "train", index, width_px=SIDE_PX, height_px=SIDE_PX, num_questions=0, phrasing="train",
            enlargement=enlargement,
        )  # fmt: skip
        assert np.array_equal(picture, collator.processor(sample.image).pixels[0]), index
        assert picture.shape == (3, 2 * SIDE_PX, 2 * SIDE_PX)


def answers(batch: TrainingBatch, row: int, tokenizer: Tokenizer) -> list[str]:
    """The supervised runs of a row as text."""
    marked = np.flatnonzero(batch.supervised[row])
    cuts = [0, *(number + 1 for number, (one, other) in enumerate(pairwise(marked)) if other != one + 1), len(marked)]
    return [tokenizer.decode(batch.token_ids[row, marked[start:end]]) for start, end in pairwise(cuts)]


def test_undrawn_scenes_ask_and_label_the_same(batches: SceneBatches) -> None:
    without_pixels = replace(batches.collator, has_pixels=False)
    for step in range(len(batches)):
        drawn, undrawn = batches[step], replace(batches, is_drawn=False, collator=without_pixels)[step]
        for name in ("token_ids", "is_visual", "supervised", "positions", "segments"):
            assert np.array_equal(getattr(undrawn, name), getattr(drawn, name)), name
        assert drawn.dense is not None and undrawn.dense is not None
        assert np.array_equal(undrawn.dense.token_features, drawn.dense.token_features)
        assert all(np.array_equal(undrawn.dense.class_maps[stage], drawn.dense.class_maps[stage]) for stage in (2, 3))
        assert len(undrawn.pixels) == 0 and len(drawn.pixels) and np.ptp(drawn.pixels) > 0


def test_scenes_without_labels_are_otherwise_the_same(batches: SceneBatches) -> None:
    labelled, unlabelled = batches[0], replace(batches, is_labelled=False)[0]
    assert labelled.dense is not None and unlabelled.dense is None
    for name in ("token_ids", "supervised", "positions", "segments", "pixels"):
        assert np.array_equal(getattr(unlabelled, name), getattr(labelled, name)), name
    assert labelled.grounding is not None and unlabelled.grounding is not None
    assert np.array_equal(unlabelled.grounding.phrases, labelled.grounding.phrases)


def test_a_row_holds_the_questions_and_the_listings_of_its_scene(batches: SceneBatches, tokenizer: Tokenizer) -> None:
    batch = batches[0]
    plain = replace(batches, listings_per_picture=0)[0]
    for row, index in enumerate(range(2, 6)):
        sample = scene_sample("train", index, width_px=SIDE_PX, height_px=SIDE_PX, num_questions=4, phrasing="train")
        expected = [question.answer for question in sample.questions]
        assert batch.sample_ids[row] == f"scenes/train/{index}"
        assert answers(plain, row, tokenizer) == expected
        assert answers(batch, row, tokenizer)[2:] == expected and len(answers(batch, row, tokenizer)) == 6


def test_questions_in_other_words_keep_their_answers_and_what_their_phrases_mean(
    batches: SceneBatches, tokenizer: Tokenizer
) -> None:
    given, reworded = replace(batches, reworded_share=0.0)[0], replace(batches, reworded_share=1.0)[0]
    assert not np.array_equal(given.token_ids, reworded.token_ids)
    for row in range(len(given.sample_ids)):
        assert answers(given, row, tokenizer) == answers(reworded, row, tokenizer)
    assert given.grounding is not None and reworded.grounding is not None
    assert np.array_equal(given.grounding.classes, reworded.grounding.classes)
    assert np.array_equal(given.grounding.comparisons, reworded.grounding.comparisons)


def test_an_intent_may_be_asked_more_often_than_the_mixture_has_it(batches: SceneBatches) -> None:
    def kinds(emphasis: dict[str, float]) -> int:
        samples = [
            scene_sample(
                "train", index, width_px=SIDE_PX, height_px=SIDE_PX, num_questions=6, phrasing="train", is_drawn=False,
                emphasis=emphasis,
            )
            for index in range(100)
        ]  # fmt: skip
        return sum(question.intent == "count_kinds" for sample in samples for question in sample.questions)

    assert kinds({"count_kinds": 20.0}) > 5 * max(1, kinds({}))
    emphasised = replace(batches, emphasis={"count_kinds": 1000.0})
    assert not np.array_equal(emphasised[0].token_ids, batches[0].token_ids)


def test_a_recipe_may_ask_in_further_phrasings(batches: SceneBatches) -> None:
    further = replace(batches, has_further_phrasings=True)
    assert not np.array_equal(further[0].token_ids, batches[0].token_ids)


def test_dense_labels_are_those_of_the_scenes(batches: SceneBatches) -> None:
    dense = batches[0].dense
    assert dense is not None
    for row, index in enumerate(range(2, 6)):
        scene = scene_sample(
            "train", index, width_px=SIDE_PX, height_px=SIDE_PX, num_questions=0, phrasing="train"
        ).scene
        assert np.array_equal(dense.class_maps[2][row], np.stack(label_maps(scene, cell_px=8)))
        assert np.array_equal(dense.class_maps[3][row], center_map(scene, cell_px=16)[None])
        features, weights = token_features(scene)
        assert np.array_equal(dense.token_features[row], features)
        assert np.array_equal(dense.token_weights[row], weights)


def test_a_talk_has_several_turns_and_other_scenes_one(batches: SceneBatches) -> None:
    batch = batches[0]
    talks = [index % TALK_EVERY == 1 for index in range(2, 6)]
    assert talks.count(True) == 1
    turns = [-(-6 // TURNS_OF_A_TALK) if is_talk else 6 for is_talk in talks]
    assert batch.segments.max(1).tolist() == turns


def test_one_scene_in_many_is_asked_about_without_its_picture(batches: SceneBatches, tokenizer: Tokenizer) -> None:
    batch = replace(batches, first_index=BLIND_EVERY - 1, batch_size=2)[0]
    assert batch.pixels.shape[0] == 1 and batch.is_visual.any(1).tolist() == [True, False]
    assert set(answers(batch, 1, tokenizer)) <= {NO_PICTURE_ANSWER, OUTSIDE_ANSWER}
    assert NO_PICTURE_ANSWER in answers(batch, 1, tokenizer)
    assert batch.dense is not None and len(batch.dense.token_features) == 1


def test_every_picture_fills_the_model_input_and_half_are_drawn_in_its_size(batches: SceneBatches) -> None:
    """What is drawn small is enlarged by the processor, as small pictures of people are."""
    assert batches[0].pixels.shape == (4, 3, 2 * SIDE_PX, 2 * SIDE_PX)
    for row, index in enumerate(range(2, 6)):
        enlargement = 1 + index // TALK_EVERY % 2
        sample = scene_sample(
            "train", index, width_px=SIDE_PX, height_px=SIDE_PX, num_questions=0, phrasing="train",
            enlargement=enlargement,
        )  # fmt: skip
        assert sample.image.shape == (SIDE_PX * enlargement, SIDE_PX * enlargement, 3)
        assert np.array_equal(batches.collator.processor(sample.image).pixels[0], batches[0].pixels[row])


def test_phrases_of_shown_scenes_are_grounded(batches: SceneBatches) -> None:
    batch = replace(batches, first_index=BLIND_EVERY - 1, batch_size=2)[0]
    assert batch.grounding is not None
    assert set(batch.grounding.phrases[:, 0]) == {0} and batch.grounding.candidates.shape[1] == 1 + 16
