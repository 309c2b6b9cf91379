"""The stream of samples: every index of every split is one scene, one picture and its questions, for good."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Literal

import numpy as np

from fastvlm.data.synthetic.draw import UInt8Array, draw_scene
from fastvlm.data.synthetic.listing import sample_listings
from fastvlm.data.synthetic.questions import Phrasing, Question, sample_questions
from fastvlm.data.synthetic.sampling import sample_scene
from fastvlm.data.synthetic.scene import CANVAS_SIZES_PX, Scene

GENERATOR_VERSION = 4
"""Raised whenever the same split and index would give another picture or another question."""

Split = Literal["train", "dev", "test"]

_SPLIT_KEYS: dict[Split, int] = {"train": 0, "dev": 1, "test": 2}


@dataclass(frozen=True)
class SceneSample:
    """A scene, its picture as uint8 [height, width, 3], and questions about it."""

    scene: Scene
    image: UInt8Array
    questions: tuple[Question, ...]


def scene_sample(
    split: Split,
    index: int,
    *,
    width_px: int,
    height_px: int,
    num_questions: int,
    phrasing: Phrasing,
    is_drawn: bool = True,
    enlargement: int = 1,
    num_candidates: int = 1,
    emphasis: Mapping[str, float] = MappingProxyType({}),
    has_further_phrasings: bool = False,
) -> SceneSample:
    """Make sample `index` of a split: the same arguments always give the same pixels and texts.

    is_drawn False: the picture is left black, for those who read the scene itself. enlargement: pixels on a side that
    are drawn for one of the scene. num_candidates: of so many scenes the one with most objects is taken. emphasis,
    has_further_phrasings: of the questions, as in `sample_questions`.

    The scene, the drawing and the questions have random streams of their own, so that asking otherwise does not change
    the picture. Splits share no stream.
    """
    scene_rng, draw_rng, question_rng = _streams(split, index)
    candidates = (sample_scene(scene_rng, width_px=width_px, height_px=height_px) for _ in range(num_candidates))
    scene = max(candidates, key=lambda candidate: len(candidate.objects))
    if is_drawn:
        image = draw_scene(scene, draw_rng, enlargement=enlargement)
    else:
        image = np.zeros((height_px * enlargement, width_px * enlargement, 3), np.uint8)
    questions = sample_questions(
        scene,
        question_rng,
        num_questions=num_questions,
        phrasing=phrasing,
        emphasis=emphasis,
        has_further_phrasings=has_further_phrasings,
    )
    return SceneSample(scene, image, tuple(questions))


def _streams(split: Split, index: int) -> tuple[random.Random, random.Random, random.Random]:
    words = np.random.SeedSequence([GENERATOR_VERSION, _SPLIT_KEYS[split], index]).generate_state(3, np.uint64)
    return random.Random(int(words[0])), random.Random(int(words[1])), random.Random(int(words[2]))


def tokenizer_corpus(num: int) -> Iterator[str]:
    """Yield `num` texts with training phrasings, for training a tokenizer: questions, listings and their answers."""
    produced, index = 0, 0
    while produced < num:
        width_px, height_px = CANVAS_SIZES_PX[index % len(CANVAS_SIZES_PX)]
        scene_rng, _, question_rng = _streams("train", index)
        scene = sample_scene(scene_rng, width_px=width_px, height_px=height_px)
        questions = sample_questions(scene, question_rng, num_questions=6, phrasing="train")
        turns = [(question.text, question.answer) for question in questions]
        for text in chain.from_iterable(turns + sample_listings(scene, question_rng, num_listings=1)):
            if produced < num:
                produced += 1
                yield text
        index += 1
