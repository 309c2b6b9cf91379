"""Generated pictures of one object with captions, for contrastive pretraining in miniature."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fastvlm.batches import CaptionBatch, Float32Array, UInt8Array
from fastvlm.data.image_text_shards import ShownPicture, batch_of_captions
from fastvlm.data.synthetic.draw import draw_scene
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.sampling import sample_single
from fastvlm.data.synthetic.scene import Scene
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.errors import DataError
from fastvlm.processing.augmentation import whole
from fastvlm.processing.tokenizer import Tokenizer

PHRASES = (
    "a {color} {shape}",
    "a picture of a {color} {shape}",
    "one {shape} in {color}",
    "a {shape}, it is {color}",
    "a {color} {shape} on a {ground} ground",
    "on {ground}: a {color} {shape}",
)
"""How captions say what is there."""

ZERO_SHOT_PHRASES = PHRASES[:4]
"""How classes are named when nothing is trained any more: the mean of these is a class, as in CLIP."""

_HELD_OUT_EVERY = 4
_IN_COMMON = 6.0


@dataclass(frozen=True)
class ObjectClass:
    """A colour and a shape."""

    color: str
    shape: str

    def caption(self, phrase: str, *, ground: str = "white") -> str:
        """Say it in words."""
        return phrase.format(color=self.color, shape=self.shape, ground=ground)


@cache
def classes(*, is_held_out: bool) -> tuple[ObjectClass, ...]:
    """The 60 pairs of colour and shape that captions of the training split speak of, or the 20 that none does.

    Every colour and every shape is in both.
    """
    return tuple(
        ObjectClass(color, shape)
        for column, shape in enumerate(SHAPES)
        for row, color in enumerate(COLORS)
        if ((row + column) % _HELD_OUT_EVERY == 0) == is_held_out
    )


@dataclass(frozen=True, kw_only=True)
class CaptionedScenes:
    """Batches of pictures of different classes, each with a caption and another one of the same picture.

    has_teachers: beside them stands what two teachers would say that know colours and shapes by heart. The same step
    gives the same batch everywhere. Raises DataError for batches of more pictures than there are classes.
    """

    tokenizer: Tokenizer
    context_length: int
    batch_size: int
    size_px: int
    num_steps: int
    has_teachers: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size > len(classes(is_held_out=False)):
            raise DataError(
                f"Expected at most {len(classes(is_held_out=False))} pictures in a batch, one of each class, got "
                f"{self.batch_size}. Make the batches smaller."
            )

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> CaptionBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        generator = random.Random(f"{self.seed}/{step}")
        chosen = generator.sample(classes(is_held_out=False), self.batch_size)
        shown = [self._shown(one, generator, f"captions/{step}/{row}") for row, one in enumerate(chosen)]
        return batch_of_captions(shown, self.tokenizer, context_length=self.context_length, size_px=self.size_px)

    def _shown(self, one: ObjectClass, generator: random.Random, sample_id: str) -> ShownPicture:
        scene = sample_single(generator, shape=one.shape, color=one.color, side_px=self.size_px)
        image = draw_scene(scene, generator)
        captions = tuple(one.caption(phrase, ground=_ground(scene)) for phrase in generator.sample(PHRASES, 2))
        teachers = _teachers(one) if self.has_teachers else None
        return ShownPicture(
            sample_id,
            image,
            whole(image),
            captions,
            teachers,
            None if teachers is None else np.stack([teachers] * len(captions)),
        )


def _ground(scene: Scene) -> str:
    return scene.background.color or "plain"


def _teachers(one: ObjectClass) -> Float32Array:
    """Two teachers' embeddings of a class, 2 x width: one that weighs colours more, one that weighs shapes more.

    Like those of real teachers they have much in common, so that classes that share a colour or a shape are nearer to
    each other than others after the teachers' scale too.
    """
    color, shape = np.eye(len(COLORS))[COLORS.index(one.color)], np.eye(len(SHAPES))[SHAPES.index(one.shape)]
    shared = np.array([_IN_COMMON])
    views = ((color, 0.7 * shape, shared), (0.7 * color, shape, shared))
    return np.stack([np.concatenate(view) for view in views]).astype(np.float32)


def pictures_of(one: ObjectClass, num_pictures: int, *, size_px: int, seed: int) -> list[UInt8Array]:
    """Draw pictures of a class for evaluation; their random streams are shared with no training batch."""
    generator = random.Random(f"evaluation/{seed}/{one.color}/{one.shape}")
    scenes = (sample_single(generator, shape=one.shape, color=one.color, side_px=size_px) for _ in range(num_pictures))
    return [draw_scene(scene, generator) for scene in scenes]


def caption_texts() -> Sequence[str]:
    """Every caption of the training split, for a tokenizer to learn from."""
    return [one.caption(phrase, ground=color) for one in classes(is_held_out=False) for phrase in PHRASES
            for color in COLORS]  # fmt: skip
