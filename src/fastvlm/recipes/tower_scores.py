"""What a pretrained pair of towers finds without having been trained for it: captions, pictures, classes by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.data.captioned_scenes import ZERO_SHOT_PHRASES, classes, pictures_of
from fastvlm.data.image_text_shards import num_samples, read_captioned
from fastvlm.errors import DataError
from fastvlm.evaluation.zero_shot import RANKS, Retrieval, class_embeddings, retrieval, zero_shot_accuracy
from fastvlm.files import pictures_in, write_whole
from fastvlm.models.clip import CLIP
from fastvlm.processing.augmentation import whole
from fastvlm.processing.captions import caption_tokens
from fastvlm.processing.images import image_size, read_image
from fastvlm.processing.tokenizer import Tokenizer

CLASS_PHRASES = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.", "{}.")
"""What is said of a class by its name; our choice."""

_BATCH = 32
_TOLD_EVERY = 1000

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class TowerScores:
    """Shares of what was found right; None for what was not asked. retrieval: of num_pictures held-out pictures.

    generated: of pictures of generated classes that no caption spoke of. classes: of pictures in folders by class.
    """

    generated: float | None = None
    retrieval: Retrieval | None = None
    num_pictures: int | None = None
    classes: float | None = None

    def lines(self) -> Iterator[str]:
        """What is told of them."""
        if self.generated is not None:
            held_out = len(classes(is_held_out=True))
            yield f"zero-shot: {100 * self.generated:.1f} % of pictures of {held_out} classes never captioned"
        if self.retrieval is not None:
            ranks = "/".join(f"R@{rank}" for rank in RANKS)
            for what, shares in (
                ("captions by pictures", self.retrieval.picture_to_words),
                ("pictures by captions", self.retrieval.words_to_picture),
            ):
                found = " / ".join(f"{100 * share:.1f}" for share in shares)
                yield f"{what}, {ranks} of {self.num_pictures}: {found} %"
        if self.classes is not None:
            yield f"zero-shot: {100 * self.classes:.1f} % of the pictures in folders by class"

    def write(self, path: Path) -> None:
        """Write them as JSON, beside those of an earlier call that were not asked for now."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        write_whole(path, json.dumps({**earlier, **values}, indent=2) + "\n")


def class_pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class, by the name of their folder.

    Raises DataError for fewer than two classes, ImageError for a file that is no picture.
    """
    found = {inner.name: pictures_in(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()}
    found = {name: paths for name, paths in found.items() if paths}
    if len(found) < 2:
        raise DataError(f"Expected a folder of pictures for each of several classes in {folder}, got {len(found)}.")
    for path in chain.from_iterable(found.values()):
        image_size(path)
    return found


class TowerScorer:
    """Two towers that are asked. size_px: side of the pictures, as in training."""

    def __init__(self, model: CLIP, tokenizer: Tokenizer, *, size_px: int, tell: Callable[[str], None]) -> None:
        self._model, self._tokenizer, self._size_px, self._tell = model.cpu().eval(), tokenizer, size_px, tell

    def generated(self, *, num_pictures: int = 25, seed: int = 0) -> float:
        """Share of pictures whose class is told among all that no caption spoke of, by the classes' names alone."""
        held_out = classes(is_held_out=True)
        directions = [[one.caption(phrase) for phrase in ZERO_SHOT_PHRASES] for one in held_out]
        shown = (
            picture
            for one in held_out
            for picture in pictures_of(one, num_pictures, size_px=self._size_px, seed=seed)
        )  # fmt: skip
        labels = np.repeat(np.arange(len(held_out)), num_pictures)
        return zero_shot_accuracy(self._pictures(shown), labels, self._classes(directions))

    def retrieval(self, shards: Sequence[Path]) -> tuple[Retrieval, int]:
        """Find the real captions of all pictures in shards by these, and the other way round; with their number."""
        places = [(shard, index) for shard in shards for index in range(num_samples(shard))]
        captions: list[str] = []

        def shown() -> Iterator[UInt8Array]:
            for shard, index in places:
                sample = read_captioned(shard, index, num_teachers=1)
                captions.append(sample.captions[0])
                yield whole(sample.image).apply(sample.image, size_px=self._size_px)

        pictures = self._pictures(shown())
        words = np.concatenate([self._words(some) for some in _batched(iter(captions))])
        return retrieval(pictures, words, np.arange(len(captions))), len(captions)

    def classes(self, folder: Path) -> float:
        """Share of pictures that are nearest to the name of the folder that they lie in (see `class_pictures`)."""
        found = class_pictures(folder)
        directions = [[phrase.format(name.replace("_", " ")) for phrase in CLASS_PHRASES] for name in found]
        images = (read_image(path) for paths in found.values() for path in paths)
        pictures = self._pictures(whole(image).apply(image, size_px=self._size_px) for image in images)
        labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()])
        return zero_shot_accuracy(pictures, labels, self._classes(directions))

    def _classes(self, prompts: Sequence[Sequence[str]]) -> Float32Array:
        return class_embeddings([self._words(own) for own in prompts])

    @torch.no_grad()
    def _words(self, captions: Sequence[str]) -> Float32Array:
        length = self._model.config.text.context_length
        tokens = np.stack([caption_tokens(caption, self._tokenizer, context_length=length) for caption in captions])
        embedded: Float32Array = self._model.embed_words(torch.from_numpy(tokens)).numpy()
        return embedded

    @torch.no_grad()
    def _pictures(self, shown: Iterator[UInt8Array]) -> Float32Array:
        """Embed H x W x 3 pictures, some at a time."""
        embedded: list[Float32Array] = []
        count = 0
        for some in _batched(shown):
            pixels = torch.from_numpy(np.stack(some).transpose(0, 3, 1, 2).astype(np.float32) / 255)
            embedded.append(self._model.embed_pictures(pixels.to(memory_format=torch.channels_last)).numpy())
            if count // _TOLD_EVERY != (count + len(some)) // _TOLD_EVERY:
                self._tell(f"embedded {count + len(some)} pictures")
            count += len(some)
        return np.concatenate(embedded)


def _batched(items: Iterator[Item]) -> Iterator[list[Item]]:
    while some := list(islice(items, _BATCH)):
        yield some
