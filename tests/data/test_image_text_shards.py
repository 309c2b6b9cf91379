"""Shards in WebDataset's and DataCompDR's layout become batches, the same ones for a step at any time."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastvlm.data.image_text_shards import ShardBatches, read_captioned
from fastvlm.errors import DataError
from fastvlm.processing.augmentation import OPERATIONS, Augmentation, draw, stored
from fastvlm.processing.tokenizer import Tokenizer, train_byte_level_bpe

NUM_AUGMENTATIONS, NUM_SYNTHETIC, WIDTH = 3, 2, 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe(
        ["a photo of a thing number 0 1 2 3"] * 5,
        vocabulary_size=300,
        special_tokens=("<|startoftext|>", "<|endoftext|>"),
    )


def sample_files(number: int, *, is_reinforced: bool) -> dict[str, bytes]:
    generator = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(buffer, "PNG")
    files = {
        "png": buffer.getvalue(),
        "txt": f"a photo {number}".encode(),
        "json": json.dumps({"uid": number}).encode(),
    }
    if is_reinforced:
        parameters = [[[index, 0, 20, 30], [[index, 0.3], [6, -0.2]]] for index in range(NUM_AUGMENTATIONS)]
        captions = [f"thing {number} {index}" for index in range(NUM_SYNTHETIC)]
        embeddings = io.BytesIO()
        np.savez(
            embeddings,
            image_emb=generator.normal(size=(NUM_AUGMENTATIONS, 2 * WIDTH)).astype(np.float32),
            text_emb=generator.normal(size=(1 + NUM_SYNTHETIC, 2 * WIDTH)).astype(np.float32),
        )
        files |= {
            "syn.json": json.dumps({"syn_text": captions}).encode(),
            "paug.json": json.dumps({"param_aug": json.dumps(parameters)}).encode(),
            "npz": embeddings.getvalue(),
        }
    return files


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("shards")
    return tuple(
        write_shard(
            folder / f"{shard:05}.tar",
            {f"{10 * shard + number:06}": sample_files(10 * shard + number, is_reinforced=True) for number in range(7)},
        )
        for shard in range(2)
    )


def batches_of(shards: tuple[Path, ...], tokenizer: Tokenizer, **changes: Any) -> ShardBatches:
    values = {"context_length": 12, "batch_size": 4, "size_px": 16, "num_steps": 9}
    return ShardBatches(shards=shards, tokenizer=tokenizer, **(values | changes))


def test_a_reinforced_sample_is_whole(shards: tuple[Path, ...]) -> None:
    sample = read_captioned(shards[1], 2, num_teachers=2)
    assert sample.sample_id == "00001.tar/000012" and sample.image.shape == (40, 50, 3)
    assert sample.captions == ("a photo 12", "thing 12 0", "thing 12 1")
    assert sample.augmentations[1] == Augmentation((1, 0, 20, 30), (("ShearX", 0.3), ("Brightness", -0.2)))
    assert sample.teacher_pictures is not None and sample.teacher_pictures.shape == (NUM_AUGMENTATIONS, 2, WIDTH)
    assert sample.teacher_words is not None and sample.teacher_words.shape == (1 + NUM_SYNTHETIC, 2, WIDTH)


def test_shards_that_the_webdataset_library_writes_and_reads_are_ours(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path = tmp_path / "0.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(3):
            files = sample_files(number, is_reinforced=True)
            writer.write({"__key__": f"a.b/{number:03}", **files})
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    ours = [read_captioned(path, number, num_teachers=2) for number in range(3)]
    assert [one.sample_id for one in ours] == [f"0.tar/{sample['__key__']}" for sample in theirs]
    assert [one.captions[0] for one in ours] == [sample["txt"].decode() for sample in theirs]


def test_a_batch_shows_what_the_teachers_saw(shards: tuple[Path, ...], tokenizer: Tokenizer) -> None:
    batch = batches_of(shards, tokenizer)[1]
    assert batch.pixels.shape == (4, 3, 16, 16) and 0 <= batch.pixels.min() < batch.pixels.max() <= 1
    assert batch.token_ids.shape == (4, 2, 12)
    assert batch.teacher_pictures is not None and batch.teacher_words is not None
    places = {read_captioned(shard, index, num_teachers=2).sample_id: (shard, index) for shard in shards
              for index in range(7)}  # fmt: skip
    for row, sample_id in enumerate(batch.sample_ids):
        sample = read_captioned(*places[sample_id], num_teachers=2)
        assert sample.teacher_pictures is not None and sample.teacher_words is not None
        (shown,) = [number for number, seen in enumerate(sample.teacher_pictures)
                    if np.array_equal(seen, batch.teacher_pictures[row])]  # fmt: skip
        expected = sample.augmentations[shown].apply(sample.image, size_px=16).transpose(2, 0, 1)
        np.testing.assert_allclose(batch.pixels[row] * 255, expected, atol=1e-3)
        assert np.array_equal(batch.teacher_words[row, 0], sample.teacher_words[0])
        (said,) = [number for number, seen in enumerate(sample.teacher_words)
                   if np.array_equal(seen, batch.teacher_words[row, 1])]  # fmt: skip
        assert said > 0
        written = tokenizer.decode([int(one) for one in batch.token_ids[row, 1] if one > 1])
        assert written == sample.captions[said]


def test_an_epoch_shows_every_picture_once_and_a_step_is_always_the_same(
    shards: tuple[Path, ...], tokenizer: Tokenizer
) -> None:
    batches = batches_of(shards, tokenizer, batch_size=7, num_steps=4)
    epochs = [[one for step in steps for one in batches[step].sample_ids] for steps in ((0, 1), (2, 3))]
    assert len(set(epochs[0])) == 14 and sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
    again = batches_of(shards, tokenizer, batch_size=7, num_steps=4)[3]
    assert np.array_equal(again.pixels, batches[3].pixels) and np.array_equal(again.token_ids, batches[3].token_ids)


def test_plain_shards_have_one_caption_and_augmentations_of_their_own(tmp_path: Path, tokenizer: Tokenizer) -> None:
    samples = {f"{number}": sample_files(number, is_reinforced=False) for number in range(5)}
    shard = write_shard(tmp_path / "plain.tar", samples)
    batch = batches_of((shard,), tokenizer)[0]
    assert batch.token_ids.shape == (4, 1, 12) and batch.teacher_pictures is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"png": b"not a picture"}, "no image format"),
        ({"png": None}, "0 bytes"),
        ({"npz": b"PK"}, "0.tar/0: "),
        ({"npz": b""}, "0.tar/0: "),
        ({"syn.json": b'{"syn_text": []}'}, "embeddings of 1 captions, got 3"),
        ({"paug.json": b'{"param_aug": "[]"}'}, "embeddings of 0 augmentations, got 3"),
        ({"paug.json": b'{"param_aug": "[[[0, 0, 1], []]]"}'}, "a crop and operations"),
        ({"paug.json": b'{"param_aug": "[[[0, 0, 0, 4], []]]"}'}, "inside of the picture"),
        ({"txt": None}, "caption"),
    ],
)
def test_a_sample_that_is_not_whole_is_named(changes: dict[str, bytes | None], says: str, tmp_path: Path) -> None:
    files = sample_files(0, is_reinforced=True) | changes
    shard = write_shard(tmp_path / "0.tar", {"0": {key: value for key, value in files.items() if value is not None}})
    with pytest.raises(DataError, match=says) as caught:
        read_captioned(shard, 0, num_teachers=2)
    assert str(caught.value).startswith("0.tar/0: ") and "\n" not in str(caught.value)


def test_shards_that_are_none_or_too_small_are_told(
    shards: tuple[Path, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    for path in (tmp_path / "none.tar", tmp_path / "broken.tar"):
        with pytest.raises(DataError, match="Expected a shard"):
            batches_of((path,), tokenizer)
    with pytest.raises(DataError, match="at least 15 pictures, a batch, in 2 shards, got 14"):
        batches_of(shards, tokenizer, batch_size=15)
    mixed = write_shard(tmp_path / "mixed.tar", {
        "0": sample_files(0, is_reinforced=False), "1": sample_files(1, is_reinforced=True),
    })  # fmt: skip
    with pytest.raises(DataError, match="as many captions beside each picture"):
        batches_of((mixed,), tokenizer, batch_size=2)[0]


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_drawn_augmentations_can_be_written_down_and_repeated() -> None:
    seen = set()
    for seed in range(300):
        drawn = draw(picture(), random.Random(seed), size_px=32)
        top, left, height, width = drawn.crop
        assert 0 <= top <= top + height <= 48 and 0 <= left <= left + width <= 64
        again = stored([list(drawn.crop), [[OPERATIONS.index(name), value] for name, value in drawn.operations]])
        assert again == drawn
        seen |= {name for name, _ in drawn.operations}
        moves = [abs(value) for name, value in drawn.operations if name.startswith("Translate")]
        assert all(value < 32 / 2 for value in moves), "what is moved stays in sight"
        assert drawn.apply(picture(), size_px=32).shape == (32, 32, 3)
    assert seen == set(OPERATIONS)


def test_a_stored_crop_is_that_of_torchvision() -> None:
    """Cut first: resizing must not see what lies outside of the crop."""
    functional = pytest.importorskip("torchvision.transforms.functional")
    from torchvision.transforms import InterpolationMode

    shown = Augmentation((7, 11, 20, 30)).apply(picture(), size_px=48)
    theirs = functional.resized_crop(
        Image.fromarray(picture()), 7, 11, 20, 30, [48, 48], InterpolationMode.BICUBIC
    )  # fmt: skip
    assert np.array_equal(shown, np.asarray(theirs))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torchvision(name: str) -> None:
    """torchvision's own, on the same picture; the reference that the stored augmentations were made with."""
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    from torchvision.transforms import InterpolationMode

    for magnitude in (0.09, -0.27) if name in OPERATIONS[1:10] else (5.0,):
        value = magnitude * (30 if name in ("TranslateX", "TranslateY", "Rotate") else 1)
        shown = Augmentation((0, 0, 48, 48), ((name, value),)).apply(picture(48, 48), size_px=48)
        theirs = autoaugment._apply_op(
            Image.fromarray(picture(48, 48)), name, value, interpolation=InterpolationMode.NEAREST, fill=None
        )
        assert np.array_equal(shown, np.asarray(theirs))
