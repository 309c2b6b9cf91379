"""Pictures with captions in WebDataset shards, plain or in DataCompDR's layout with stored teachers.

The library webdataset reads shards as streams. Here their files are found by an index, so that a step's batch follows
from its number alone: a run goes on exactly where it was stopped (docs/decisions/0014).
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from fastvlm.batches import CaptionBatch, Float32Array, Int64Array, UInt8Array
from fastvlm.errors import DataError, one_line
from fastvlm.processing.augmentation import Augmentation, draw, stored
from fastvlm.processing.captions import caption_tokens
from fastvlm.processing.images import read_image
from fastvlm.processing.tokenizer import Tokenizer

_PICTURE_KEYS = ("jpg", "jpeg", "png", "webp")
_AUGMENTATION_SEED = 7


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture with its captions, the real one first, as a shard holds it.

    augmentations: stored ones. teacher_pictures: M teachers' embeddings of each of these, A x M x width;
    teacher_words: of each caption, K x M x width. Empty and None without reinforcement.
    """

    sample_id: str
    image: UInt8Array
    captions: tuple[str, ...]
    augmentations: tuple[Augmentation, ...] = ()
    teacher_pictures: Float32Array | None = None
    teacher_words: Float32Array | None = None


@dataclass(frozen=True, kw_only=True)
class ShardBatches:
    """Epochs over shards in another order each; the same step gives the same batch everywhere.

    shards: .tar files. size_px: side of the pictures. num_teachers: whose embeddings stand behind one another in a row
    of the stored ones. Of DataCompDR each picture comes with one stored augmentation, its real caption and one of the
    synthetic ones.
    Raises DataError for shards that are not there or not whole.
    """

    shards: tuple[Path, ...]
    tokenizer: Tokenizer
    context_length: int
    batch_size: int
    size_px: int
    num_steps: int
    num_teachers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_samples < self.batch_size:
            raise DataError(
                f"Expected at least {self.batch_size} pictures, a batch, in {len(self.shards)} shards, got "
                f"{self.num_samples}. Give more shards, or take smaller batches."
            )

    def __len__(self) -> int:
        return self.num_steps

    @property
    def num_samples(self) -> int:
        """Pictures in all shards."""
        return sum(num_samples(shard) for shard in self.shards)

    def __getitem__(self, step: int) -> CaptionBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        epoch, number = divmod(step, self.num_samples // self.batch_size)
        places = _order(tuple(map(num_samples, self.shards)), self.seed, epoch)
        chosen = places[number * self.batch_size : (number + 1) * self.batch_size]
        samples = [self._shown(self.shards[shard], index, step) for shard, index in chosen]
        return batch_of_captions(samples, self.tokenizer, context_length=self.context_length, size_px=self.size_px)

    def _shown(self, shard: Path, index: int, step: int) -> ShownPicture:
        sample = read_captioned(shard, index, num_teachers=self.num_teachers)
        generator = random.Random(f"{_AUGMENTATION_SEED}/{self.seed}/{step}/{sample.sample_id}")
        return show(sample, generator, size_px=self.size_px)


@dataclass(frozen=True)
class ShownPicture:
    """A captioned picture as one step sees it: one augmentation, some captions, and the teachers' view of both."""

    sample_id: str
    image: UInt8Array
    augmentation: Augmentation
    captions: tuple[str, ...]
    teacher_pictures: Float32Array | None
    teacher_words: Float32Array | None


def show(sample: CaptionedPicture, generator: random.Random, *, size_px: int) -> ShownPicture:
    """Choose an augmentation, stored or new, and beside the real caption one of the synthetic ones, where there are."""
    captions = [0] if len(sample.captions) < 2 else [0, generator.randrange(1, len(sample.captions))]
    teacher_pictures = None
    if sample.augmentations:
        number = generator.randrange(len(sample.augmentations))
        augmentation = sample.augmentations[number]
        if sample.teacher_pictures is not None:
            teacher_pictures = sample.teacher_pictures[number]
    else:
        augmentation = draw(sample.image, generator, size_px=size_px)
    return ShownPicture(
        sample.sample_id,
        sample.image,
        augmentation,
        tuple(sample.captions[caption] for caption in captions),
        teacher_pictures,
        None if sample.teacher_words is None else sample.teacher_words[captions],
    )


def batch_of_captions(
    shown: Sequence[ShownPicture], tokenizer: Tokenizer, *, context_length: int, size_px: int
) -> CaptionBatch:
    """Put shown pictures into the arrays of a batch. Raises DataError for unequal numbers of captions."""
    if len({len(one.captions) for one in shown}) > 1:
        raise DataError(
            f"Expected as many captions beside each picture, got {len(shown[0].captions)} beside "
            f"{shown[0].sample_id} and another number beside others. Do not mix plain and reinforced shards."
        )
    pictures = np.stack([one.augmentation.apply(one.image, size_px=size_px) for one in shown])
    tokens = [
        [caption_tokens(caption, tokenizer, context_length=context_length) for caption in one.captions] for one in shown
    ]
    has_teachers = all(one.teacher_pictures is not None and one.teacher_words is not None for one in shown)
    return CaptionBatch(
        pixels=np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255),
        token_ids=np.array(tokens),
        sample_ids=tuple(one.sample_id for one in shown),
        teacher_pictures=np.stack([_known(one.teacher_pictures) for one in shown]) if has_teachers else None,
        teacher_words=np.stack([_known(one.teacher_words) for one in shown]) if has_teachers else None,
    )


def read_captioned(shard: Path, index: int, *, num_teachers: int) -> CaptionedPicture:
    """Read one sample: a picture, `txt` or `json` with a caption; of DataCompDR also `syn.json`, `paug.json`, `npz`.

    Raises DataError, naming the sample, for one that is not whole.
    """
    sample_id = f"{shard.name}/{_index(shard)[index].key}"
    try:
        fields = _fields(shard, index)
        image = read_image(next((fields[key] for key in _PICTURE_KEYS if key in fields), b""))
        captions = (_caption(fields), *json.loads(fields.get("syn.json", b'{"syn_text": []}'))["syn_text"])
        augmentations = _augmentations(fields)
        pictures, words = _teachers(fields, num_teachers)
    except Exception as error:  # a broken file of any kind can fail in any way
        raise DataError(f"{sample_id}: {one_line(error, max_length=200)}") from error
    if words is not None and len(words) != len(captions):
        raise DataError(f"{sample_id}: Expected teachers' embeddings of {len(captions)} captions, got {len(words)}.")
    if pictures is not None and len(pictures) != len(augmentations):
        raise DataError(
            f"{sample_id}: Expected teachers' embeddings of {len(augmentations)} augmentations, got {len(pictures)}."
        )
    return CaptionedPicture(sample_id, image, captions, augmentations, pictures, words)


def _caption(fields: Mapping[str, bytes]) -> str:
    if "txt" in fields:
        return fields["txt"].decode("utf-8")
    return str(json.loads(fields.get("json", b"{}"))["caption"])


def _augmentations(fields: Mapping[str, bytes]) -> tuple[Augmentation, ...]:
    if "paug.json" not in fields:
        return ()
    parameters = json.loads(fields["paug.json"])["param_aug"]
    # DataCompDR writes them as a text inside of the JSON.
    parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
    return tuple(stored(one) for one in parameters)


def _teachers(fields: Mapping[str, bytes], num_teachers: int) -> tuple[Float32Array | None, Float32Array | None]:
    if "npz" not in fields:
        return None, None
    with np.load(io.BytesIO(fields["npz"])) as file:
        pictures, words = (np.asarray(file[name], np.float32) for name in ("image_emb", "text_emb"))
    return pictures.reshape(len(pictures), num_teachers, -1), words.reshape(len(words), num_teachers, -1)


def _known(values: Float32Array | None) -> Float32Array:
    assert values is not None
    return values


@dataclass(frozen=True)
class _Member:
    """Where a file of a sample stands in its shard."""

    start: int
    num_bytes: int


@dataclass(frozen=True)
class _Sample:
    """The files of a sample, by the end of their names. key: what their names have in common."""

    key: str
    files: Mapping[str, _Member]


@cache
def _index(shard: Path) -> list[_Sample]:
    """The samples of a shard, in its order; found once in each process.

    As in WebDataset, files whose names are equal up to the first dot are one sample.
    """
    samples: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[ending.lower()] = _Member(member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"Expected a shard, an uncompressed tar file, at {shard}, got: {one_line(error)}.") from error
    return [_Sample(key, files) for key, files in samples.items()]


def num_samples(shard: Path) -> int:
    """Pictures of a shard. Raises DataError for a file that is none."""
    return len(_index(shard))


def _fields(shard: Path, index: int) -> dict[str, bytes]:
    """The files of a sample by the end of their names."""
    with shard.open("rb") as file:
        fields = {}
        for ending, member in _index(shard)[index].files.items():
            file.seek(member.start)
            fields[ending] = file.read(member.num_bytes)
    return fields


@lru_cache(maxsize=2)
def _order(sizes: tuple[int, ...], seed: int, epoch: int) -> Int64Array:
    """(shard, index) of every picture, N x 2: shards in another order each epoch, pictures mixed within a shard."""
    generator = np.random.default_rng([seed, epoch])
    parts = []
    for shard in generator.permutation(len(sizes)):
        indices = generator.permutation(sizes[shard])
        parts.append(np.stack([np.full_like(indices, shard), indices], axis=1))
    return np.concatenate(parts)
