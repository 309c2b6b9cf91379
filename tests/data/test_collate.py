"""Batches: packed questions score as if alone, pictures line up with their slots, errors name the sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fastvlm.batches import PromptTokens
from fastvlm.data.collate import Collator, pack
from fastvlm.data.examples import Example
from fastvlm.data.sources import SceneBatches
from fastvlm.errors import DataError
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM, segment_mask
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe

TURNS = (("Is there a star?", "yes"), ("How many?", "3"), ("What colour is the large star?", "dark blue"))


@pytest.fixture(scope="module")
def collator() -> Collator:
    tokenizer = train_byte_level_bpe(
        [text for turn in TURNS for text in turn],
        vocabulary_size=300,
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    )
    processor = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=4))
    return Collator(processor=processor, tokenizer=tokenizer, template=TEMPLATES["chatml"], max_positions=160)


def _example(sample_id: str, turns: tuple[tuple[str, str], ...], *, side_px: int = 128) -> Example:
    image = np.random.default_rng(len(sample_id)).integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)
    conversations = tuple((user(ImagePart(image), question), assistant(answer)) for question, answer in turns)
    return Example(sample_id=sample_id, images=(image,), conversations=conversations)


def test_packed_questions_score_as_if_each_stood_alone(collator: Collator) -> None:
    torch.manual_seed(0)
    vision = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.5, form="train")
    decoder = DecoderConfig(
        vocabulary_size=320, width=32, num_layers=2, num_heads=2, num_key_value_heads=1, feed_forward_width=64,
        head_dim=16, max_positions=256,
    )  # fmt: skip
    model = FastVLM(VLMConfig(vision=vision, decoder=decoder)).eval()

    def supervised_logits(turns: tuple[tuple[str, str], ...]) -> torch.Tensor:
        batch = collator([_example("a", turns)])
        return model(
            model.encode(torch.from_numpy(batch.pixels)).flatten(0, 1),
            token_ids=torch.from_numpy(batch.token_ids),
            is_visual=torch.from_numpy(batch.is_visual),
            positions=torch.from_numpy(batch.positions),
            mask=segment_mask(torch.from_numpy(batch.segments)),
            rows=torch.from_numpy(batch.supervised).roll(-1, 1),
        )

    with torch.inference_mode():
        together = supervised_logits(TURNS)
        alone = torch.cat([supervised_logits((turn,)) for turn in TURNS])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.std() > 1e-3


def test_rows_are_padded_and_slots_match_pictures(collator: Collator) -> None:
    batch = collator([_example("a", TURNS), _example("bb", TURNS[:1])])
    assert batch.pixels.shape == (2, 3, 128, 128)
    assert batch.is_visual.sum(1).tolist() == [4, 4]
    assert (batch.segments[1] == -1).any() and not (batch.segments[0] == -1).any()
    assert not batch.supervised[batch.segments == -1].any()
    assert batch.segments.max(1).tolist() == [3, 1]
    answers = [
        collator.tokenizer.decode(ids[marks]) for ids, marks in zip(batch.token_ids, batch.supervised, strict=True)
    ]
    assert answers == ["yes3dark blue", "yes"]


def test_pictures_of_two_sizes_are_refused(collator: Collator) -> None:
    wide = Example("wide", (np.zeros((64, 128, 3), np.uint8),), ())
    with pytest.raises(DataError, match="one size"):
        collator([_example("a", TURNS), wide])


def test_pitfall_b10_sample_without_supervised_tokens_is_refused_with_its_id(collator: Collator) -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    silent = Example("sample-17", (image,), ((user(ImagePart(image), "Is there a star?"),),))
    with pytest.raises(DataError, match="sample-17"):
        collator([silent])


def test_pitfall_b22_conversation_longer_than_the_context_is_refused_not_cut(collator: Collator) -> None:
    with pytest.raises(DataError, match=r"^long: .* 160 "):
        collator([_example("long", (("star " * 200, "yes"),))])


def test_pack_refuses_prompts_that_begin_differently() -> None:
    def prompt(first: int) -> PromptTokens:
        ids = np.array([first, 0, 5, 6])
        return PromptTokens(ids, np.array([-1, 0, -1, -1]), np.array([False, False, False, True]))

    with pytest.raises(DataError, match="same picture"):
        pack([prompt(1), prompt(2)])


def test_pack_refuses_an_answer_that_follows_the_shared_picture_at_once() -> None:
    ids = np.array([1, 0, 5, 6])
    prompt = PromptTokens(ids, np.array([-1, 0, -1, -1]), np.array([False, False, True, True]))
    assert len(pack([prompt]).token_ids) == 4
    with pytest.raises(DataError, match="answer at once"):
        pack([prompt, prompt])


def test_text_alone_makes_a_batch_without_pixels(collator: Collator) -> None:
    batch = collator([Example("text", (), ((user("How many?"), assistant("3")),))])
    assert batch.pixels.shape[0] == 0 and not batch.is_visual.any() and batch.supervised.any()


def test_pitfall_b11_a_broken_sample_is_an_error_and_never_another_sample(
    collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise DataError("scenes/train/3 is broken")

    batches = SceneBatches(
        collator=collator, num_steps=3, batch_size=2, canvases=((128, 128),), questions_per_picture=2
    )
    monkeypatch.setattr("fastvlm.data.sources.scene_sample", broken)
    with pytest.raises(DataError, match="scenes/train/3"):
        batches[1]


def test_pitfall_b11_batch_of_a_step_is_the_same_everywhere(collator: Collator) -> None:
    processor = ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=12))

    def batches() -> SceneBatches:
        return SceneBatches(
            collator=replace(collator, processor=processor), num_steps=3, batch_size=2,
            canvases=((96, 128), (64, 192)), questions_per_picture=2,
        )  # fmt: skip

    first, again = batches()[1], batches()[1]
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.token_ids, again.token_ids)
    assert first.sample_ids == ("scenes/train/2", "scenes/train/3")
    with pytest.raises(IndexError):
        batches()[3]


def test_conversations_that_do_not_fit_a_row_are_left_out_and_the_first_never(collator: Collator) -> None:
    whole = collator([_example("a", TURNS)])
    second_end = int((whole.segments[0] <= 2).sum())
    short = replace(collator, row_positions=second_end)([_example("a", TURNS)])
    assert short.segments.max() == 2
    assert np.array_equal(short.token_ids, whole.token_ids[:, :second_end])
    assert replace(collator, row_positions=1)([_example("a", TURNS)]).segments.max() == 1


def test_levels_are_the_same_pixels_in_a_quarter_of_the_memory(collator: Collator) -> None:
    examples = [_example("a", TURNS), _example("bc", TURNS)]
    pixels, levels = collator(examples).pixels, replace(collator, keeps_levels=True)(examples).pixels
    assert levels.dtype == np.uint8 and 4 * levels.nbytes == pixels.nbytes
    assert np.array_equal(levels.transpose(0, 3, 1, 2).astype(np.float32) / 255, pixels)


def test_levels_of_normalised_pixels_are_refused(collator: Collator) -> None:
    processor = ImageProcessor(replace(collator.processor.config, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(DataError, match="between 0 and 1"):
        replace(collator, processor=processor, keeps_levels=True)
