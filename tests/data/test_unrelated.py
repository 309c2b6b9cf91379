"""Pictures of nothing that is known, in the place of documents: what they are, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastvlm.batches import TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.documents import DocumentBatches
from fastvlm.data.synthetic import unrelated
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe

OUTSIDE_ANSWER, NO_PICTURE_ANSWER = "I can't tell.", "I see no picture."


@pytest.fixture(scope="module")
def collator() -> Collator:
    special = ("<|user|>", "<|assistant|>", "<|end|>")
    return Collator(
        processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=96, max_enlargement=1.0)),
        tokenizer=train_byte_level_bpe(["What is it?"], vocabulary_size=300, special_tokens=special),
        template=TEMPLATES["compact"],
        max_positions=768,
    )


def test_of_pictures_of_nothing_known_it_is_said_that_they_tell_nothing(collator: Collator) -> None:
    """Nothing is read off them, no letter is asked for, and where none is shown it is said that there is none."""
    batches = DocumentBatches(
        collator=collator, num_steps=16, batch_size=8, questions_per_picture=2, grids={4: (8, 16)}, unrelated_share=1.0,
        outside_answer=OUTSIDE_ANSWER, no_picture_answer=NO_PICTURE_ANSWER,
    )  # fmt: skip
    num_blind = 0
    for step in range(len(batches)):
        batch = batches[step]
        assert batch.dense is not None and batch.dense.class_maps[4].max() <= 0
        assert batch.reading is not None and not len(batch.reading.read) and not len(batch.reading.named)
        for row in range(len(batch.token_ids)):
            text = collator.tokenizer.decode(batch.token_ids[row][batch.supervised[row]].tolist())
            is_shown = bool(batch.is_visual[row].any())
            num_blind += not is_shown
            expected = OUTSIDE_ANSWER if is_shown else NO_PICTURE_ANSWER
            assert expected in text or not is_shown, "without a picture a question may be outside of the domain too"
            rest = text.replace(OUTSIDE_ANSWER, "").replace(NO_PICTURE_ANSWER, "").replace("<|end|>", "")
            assert not rest.strip()
            assert is_shown or text.count(OUTSIDE_ANSWER) <= 1
    assert num_blind > 0


def test_documents_are_as_they_were_beside_pictures_of_nothing_known(collator: Collator) -> None:
    batches = DocumentBatches(
        collator=collator, num_steps=6, batch_size=8, questions_per_picture=2,
        outside_answer=OUTSIDE_ANSWER, no_picture_answer=NO_PICTURE_ANSWER,
    )  # fmt: skip
    num_changed = num_shown = 0
    for step in range(len(batches)):
        usual, batch = batches[step], replace(batches, unrelated_share=0.5)[step]
        assert usual.pixels.shape == batch.pixels.shape
        for one, other in zip(_answers(usual, collator), _answers(batch, collator), strict=True):
            is_changed = one != other
            num_changed, num_shown = num_changed + is_changed, num_shown + 1
            assert not is_changed or OUTSIDE_ANSWER in other
    assert num_changed / num_shown == pytest.approx(0.5, abs=0.2)


def _answers(batch: TrainingBatch, collator: Collator) -> list[str]:
    ids = (row[supervised] for row, supervised in zip(batch.token_ids, batch.supervised, strict=True))
    return [collator.tokenizer.decode(row.tolist()) for row in ids]


@pytest.mark.parametrize("style", range(len(unrelated._STYLES)))
def test_pictures_of_nothing_known_are_never_flat_and_the_same_everywhere(
    style: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unrelated, "_STYLES", unrelated._STYLES[style : style + 1])
    generator, again = np.random.default_rng(3), np.random.default_rng(3)
    for number in range(4):
        width_px, height_px = 128 + 37 * number, 96 + 21 * number
        picture = unrelated.unrelated_picture(generator, width_px=width_px, height_px=height_px)
        assert picture.shape == (height_px, width_px, 3) and picture.dtype == np.uint8
        assert picture.std(axis=(0, 1)).max() > 3
        assert np.array_equal(picture, unrelated.unrelated_picture(again, width_px=width_px, height_px=height_px))
