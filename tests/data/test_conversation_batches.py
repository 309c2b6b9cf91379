"""Bringing conversations into batches: spans, lengths, sizes, and features in place of pixels."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.data.collate import Collator
from fastvlm.data.conversation_batches import ConversationBatches, image_key, prepare, read_tiles
from fastvlm.data.conversations import Conversation
from fastvlm.data.feature_store import INDEX_FILE, VALUES_FILE, FeatureStore
from fastvlm.errors import DataError
from fastvlm.messages import ImagePart, Message, assistant, system, user
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.prompt import build_prompt
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

WORDS = [
    "what",
    "is",
    "the",
    "small",
    "red",
    "star",
    "left",
    "of",
    "a",
    "blue",
    "circle",
    "yes",
    "no",
    "12",
    "3",
    "é",
    "猫",
    "<image>",
    "<|im_end|>",
    "\n",
]
PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe(
        [" ".join(WORDS)] * 5, vocabulary_size=400, special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    )


def collator_of(tokenizer: Tokenizer, *, mode: str = "pad", max_positions: int = 200) -> Collator:
    config = ProcessingConfig(mode=mode, size_px=64, max_visual_tokens=4)  # type: ignore[arg-type]
    return Collator(
        processor=ImageProcessor(config),
        tokenizer=tokenizer,
        template=TEMPLATES["qwen_2"],
        max_positions=max_positions,
    )


def random_conversation(generator: random.Random, number: int) -> Conversation:
    """0 to 4 images, 1 to 5 turns, empty words among them, sometimes a system message or an open question."""

    def words() -> str:
        return " ".join(generator.choices(WORDS, k=generator.choice([0, 1, 3, 8])))

    num_images = generator.randint(0, 4)
    messages: list[Message] = [system(words())] if generator.random() < 0.3 else []
    for _ in range(generator.randint(1, 5)):
        parts: list[object] = [words()]
        while num_images and generator.random() < 0.6:
            parts.insert(generator.randint(0, len(parts)), ImagePart(PICTURE))
            num_images -= 1
        messages += [user(*parts), assistant(words())]  # type: ignore[arg-type]
    if generator.random() < 0.2:
        messages.append(user("unanswered"))
    if generator.random() < 0.08:
        messages[-1:] = [user(" ".join(generator.choices(WORDS, k=150))), assistant("yes")]
        messages = messages[-2:]
    return Conversation(f"random/{number}", tuple(messages))


def test_pitfall_b10_over_random_conversations_exactly_the_answers_are_supervised(tokenizer: Tokenizer) -> None:
    """500 conversations of 0 to 4 images, with empty turns, many too long; labels are compared with the answers."""
    generator = random.Random(0)
    collator = collator_of(tokenizer, max_positions=110)
    num_whole = num_shortened = num_refused = 0
    end = tokenizer.token_id("<|im_end|>")
    for number in range(500):
        conversation = random_conversation(generator, number)
        try:
            (prepared,) = prepare([conversation], collator).conversations
        except DataError as error:
            assert str(error).startswith(f"random/{number}: Expected a prompt of at most 110 positions")
            num_refused += 1
            continue
        messages = prepared.conversation.messages
        assert messages == conversation.messages[: len(messages)] and messages[-1].role == "assistant"
        is_whole = len(messages) in (len(conversation.messages), len(conversation.messages) - 1)
        assert prepared.is_shortened == (not is_whole), "an open question at the end is nothing that did not fit"
        num_whole, num_shortened = num_whole + is_whole, num_shortened + (not is_whole)
        prompt = collator.prompt(
            messages, sample_id=prepared.sample_id, visual_token_counts=prepared.visual_token_counts
        )
        assert len(prompt) == prepared.num_positions <= 110
        ends = np.flatnonzero(prompt.supervised & (prompt.token_ids == end)) + 1
        spans = np.split(prompt.token_ids, ends)[:-1]
        marks = np.split(prompt.supervised, ends)[:-1]
        answers = [tokenizer.decode(ids[is_own][:-1].tolist()) for ids, is_own in zip(spans, marks, strict=True)]
        assert answers == [message.text for message in messages if message.role == "assistant"]
        assert not prompt.supervised[prompt.image_index >= 0].any()
        asked = build_prompt(
            messages[:-1],
            template=collator.template,
            tokenizer=tokenizer,
            visual_token_counts=prepared.visual_token_counts,
        )
        assert np.array_equal(prompt.token_ids[: len(asked)], asked.token_ids)
        assert prompt.supervised[len(asked) :].any()
    assert num_whole > 200 and num_shortened > 50 and num_refused > 20


def test_a_sample_that_teaches_nothing_is_refused_with_its_id(tokenizer: Tokenizer) -> None:
    silent = Conversation("sample-17", (user("hello?"),))
    with pytest.raises(DataError, match="supervised words in sample sample-17"):
        prepare([silent], collator_of(tokenizer))
    good = Conversation("good", (user("hello?"), assistant("yes")))
    left_out: list[str] = []
    data = prepare([silent, good], collator_of(tokenizer), left_out=left_out)
    assert [one.sample_id for one in data.conversations] == ["good"]
    assert len(left_out) == 1 and "sample-17" in left_out[0]
    with pytest.raises(DataError, match=r"at least one sample.*sample-17"):
        prepare([silent], collator_of(tokenizer), left_out=[])


def picture_file(folder: Path, number: int, width: int = 64, height: int = 64) -> Path:
    path = folder / f"{number}.png"
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def conversation_about(path: Path, number: int, num_words: int = 2) -> Conversation:
    return Conversation(f"s{number}", (user(ImagePart(path), "what is it"), assistant("star " * num_words)))


def test_pitfall_b11_an_image_that_is_not_there_is_told_at_the_start(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3: .*no such file"):
        prepare([conversation_about(tmp_path / "none.png", 3)], collator_of(tokenizer))
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture_file(tmp_path, 0).read_bytes()[:60])
    (prepared,) = prepare([conversation_about(broken, 4)], collator_of(tokenizer)).conversations
    batches = ConversationBatches(conversations=[prepared], collator=collator_of(tokenizer), batch_size=1)
    with pytest.raises(DataError, match=r"s4: Expected a whole picture"):
        batches[0]


def test_an_epoch_holds_every_conversation_once_in_batches_of_like_length(tokenizer: Tokenizer, tmp_path: Path) -> None:
    collator = collator_of(tokenizer)
    path = picture_file(tmp_path, 0)
    conversations = [conversation_about(path, number, num_words=1 + number % 40) for number in range(83)]
    prepared = prepare(conversations, collator).conversations
    batches = ConversationBatches(conversations=prepared, collator=collator, batch_size=8, num_epochs=2, seed=3)
    assert len(batches) == 22
    epochs = [[batches[step].sample_ids for step in range(start, start + 11)] for start in (0, 11)]
    for epoch in epochs:
        assert sorted(one for batch in epoch for one in batch) == sorted(one.sample_id for one in prepared)
    assert epochs[0] != epochs[1]
    padding = [float((batches[step].segments < 0).mean()) for step in range(11)]
    assert np.mean(padding) < 0.15
    again = ConversationBatches(conversations=prepared, collator=collator, batch_size=8, num_epochs=2, seed=3)
    assert np.array_equal(again[5].token_ids, batches[5].token_ids)
    assert np.array_equal(again[5].pixels, batches[5].pixels)
    ordered = ConversationBatches(conversations=prepared, collator=collator, batch_size=8, is_shuffled=False)
    assert ordered[0].sample_ids == tuple(f"s{number}" for number in range(8))


def test_pictures_of_one_size_share_a_batch_and_features_need_not(tokenizer: Tokenizer, tmp_path: Path) -> None:
    collator = collator_of(tokenizer, mode="fit")
    wide, tall = picture_file(tmp_path, 1, 128, 64), picture_file(tmp_path, 2, 64, 128)
    conversations = [conversation_about(path, number) for number, path in enumerate((wide, tall, wide, tall, wide))]
    prepared = prepare(conversations, collator).conversations
    batches = ConversationBatches(conversations=prepared, collator=collator, batch_size=4)
    sizes = {tuple(batches[step].pixels.shape[1:]) for step in range(len(batches))}
    assert len(batches) == 2 and len(sizes) == 2
    both = Conversation("both", (user(ImagePart(wide), ImagePart(tall), "same?"), assistant("no")))
    two_sizes = prepare([both], collator).conversations
    with pytest.raises(DataError, match="images of one size in sample both"):
        ConversationBatches(conversations=two_sizes, collator=collator, batch_size=4)
    store = FeatureStore(tmp_path / "features", identity="e", width=5)
    everything = [*prepared, *two_sizes]
    for one in everything:
        for number, layout in enumerate(one.layouts):
            key = one.image_keys[number]
            if key not in store:
                value = read_tiles(one.conversation, number, collator).pixels.mean()
                store.add(key, np.full((layout.num_visual_tokens, 5), value, np.float32))
    assert len(store) == 2, "one file is kept once"
    mixed = ConversationBatches(conversations=everything, collator=collator, batch_size=6, features=store)
    batch = mixed[0]
    assert len(mixed) == 1 and batch.features is not None and len(batch.pixels) == 0
    assert batch.features.shape == (batch.is_visual.sum(), 5)
    row = batch.sample_ids.index("both")
    before = int(batch.is_visual[:row].sum())
    first, second = (store[image_key(both, number)] for number in (0, 1))
    assert np.array_equal(batch.features[before : before + len(first) + len(second)], np.concatenate([first, second]))


def test_images_are_known_by_what_they_hold_and_not_by_names(tmp_path: Path) -> None:
    """Two tables may both number their samples from 0."""
    pictures = [picture_file(tmp_path, number).read_bytes() for number in (1, 2)]
    keys = [
        image_key(Conversation("0", (user(ImagePart(picture), "x"), assistant("y"))), 0)
        for picture in (*pictures, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8))
    ]
    assert len(set(keys)) == 3 and keys[2] == keys[3]


def test_a_reader_of_features_changes_nothing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, identity="one", width=3)
    store.add("a", np.ones((2, 3), np.float32))
    with (tmp_path / VALUES_FILE).open("ab") as file:
        file.write(b"being written")
    size = (tmp_path / VALUES_FILE).stat().st_size
    reader = FeatureStore(tmp_path, identity="another", width=3, is_writer=False)
    assert np.array_equal(reader["a"], np.ones((2, 3))) and (tmp_path / VALUES_FILE).stat().st_size == size


def test_features_survive_a_kill_and_another_encoder_drops_them(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, identity="one", width=3)
    values = {key: np.random.default_rng(len(key)).normal(size=(4, 3)).astype(np.float32) for key in ("a", "bb")}
    for key, value in values.items():
        store.add(key, value)
    with (tmp_path / VALUES_FILE).open("ab") as file:
        file.write(b"half")
    with (tmp_path / INDEX_FILE).open("a") as file:
        file.write('["ccc", 8')
    again = FeatureStore(tmp_path, identity="one", width=3)
    assert len(again) == 2 and "ccc" not in again and again.num_bytes == 2 * 2 * 4 * 3
    again.add("ccc", np.ones((1, 3), np.float32))
    for key, value in values.items():
        np.testing.assert_allclose(again[key], value, rtol=1 / 128)
    assert np.array_equal(FeatureStore(tmp_path, identity="one", width=3)["ccc"], np.ones((1, 3)))
    assert len(FeatureStore(tmp_path, identity="two", width=3)) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_features_on_a_full_disk_are_one_line(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, identity="one", width=3)
    (tmp_path / VALUES_FILE).symlink_to("/dev/full")
    with pytest.raises(DataError, match="Free some space and resume"):
        store.add("a", np.ones((4096, 3), np.float32))
    assert "a" not in store


def test_features_are_found_when_a_picture_is_gone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = picture_file(tmp_path, 1)
    prepared = prepare(
        [Conversation("0", (user(ImagePart(path), "x"), assistant("y")))], collator_of(tokenizer)
    ).conversations
    store = FeatureStore(tmp_path / "features", identity="e", width=5)
    store.add(prepared[0].image_keys[0], np.ones((sum(prepared[0].visual_token_counts), 5), np.float32))
    path.unlink()
    batches = ConversationBatches(conversations=prepared, collator=collator_of(tokenizer), batch_size=1, features=store)
    assert batches[0].features is not None and batches[0].features.min() == 1
