"""Questions about generated scenes that training never sees: another split, and phrasings that were held out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.draw import render
from fastvlm.data.synthetic.questions import FAMILIES, Phrasing, sample_questions
from fastvlm.data.synthetic.samples import GENERATOR_VERSION, SceneSample, Split, scene_sample
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.scores import ScoreName

_MAX_PICTURES_PER_QUESTION = 20


@dataclass(frozen=True)
class View:
    """How a scene becomes a picture.

    Without a scale: drawn as in training, in the size of a model input. With one: drawn cleanly at that scale and cut
    to its frame, so that sizes and aspects are those of people's pictures, and the processor has to resize and pad.
    """

    width_px: int
    height_px: int
    scale: float | None = None


VIEWS: tuple[View, ...] = (
    View(256, 256),
    View(256, 192, 1.5625),
    View(256, 192),
    View(256, 256, 2.0),
    View(192, 256),
    View(320, 192, 2.0),
    View(320, 192),
    View(512, 128, 1.25),
    View(512, 128),
    View(192, 256, 0.8),
    View(128, 384),
    View(256, 256, 1.2),
)
"""Pictures take turns: one in the model's own grid, one that has to be resized (400 x 300, 512 x 512, 640 x 384...)."""


def scene_questions(split: Split, *, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Make `limit_per_family` questions of each family, at most one of a family about a picture.

    Both phrasings ask the same questions about the same pictures in other words, but for questions outside the domain,
    whose words are the question. A smaller limit gives the beginning of each family of a larger one.
    """
    missing = dict.fromkeys(FAMILIES, limit_per_family)
    questions: list[EvaluationQuestion] = []
    for index in range(_MAX_PICTURES_PER_QUESTION * limit_per_family):
        if not missing:
            break
        view = VIEWS[index % len(VIEWS)]
        name = f"scenes-{GENERATOR_VERSION}/{split}/{index}"
        picture = Picture(name, "native" if view.scale is None else "resized", partial(_pixels, split, index))
        scene = _sample(split, index).scene
        for family in list(missing):
            # The stream does not depend on the phrasing, nor on the other families.
            rng = random.Random(f"{name}/{family}")
            for asked in sample_questions(scene, rng, num_questions=1, phrasing=phrasing, families=[family]):
                question_id = f"{name}/{family}/{phrasing}"
                # Models name different things that they know instead.
                score: ScoreName = "refusal" if family == "outside" else "exact"
                questions.append(
                    EvaluationQuestion(question_id, picture, family, asked.intent, asked.text, asked.answer, score)
                )
                missing[family] -= 1
                if not missing[family]:
                    del missing[family]
    return questions


def _sample(split: Split, index: int) -> SceneSample:
    view = VIEWS[index % len(VIEWS)]
    return scene_sample(
        split, index, width_px=view.width_px, height_px=view.height_px, num_questions=0, phrasing="train"
    )


def _pixels(split: Split, index: int) -> UInt8Array:
    sample = _sample(split, index)
    scale = VIEWS[index % len(VIEWS)].scale
    if scale is None:
        return sample.image
    frame = sample.scene.frame
    box = tuple(round(edge * scale) for edge in (frame.left, frame.top, frame.right, frame.bottom))
    return np.array(render(sample.scene, scale=scale).crop((box[0], box[1], box[2], box[3])), dtype=np.uint8)
