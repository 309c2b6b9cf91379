"""Where training examples come from: each source gives the batch of a step by its number, in any process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastvlm.batches import DenseLabels, TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.examples import Example
from fastvlm.data.grounding import ground
from fastvlm.data.synthetic.labels import TOKEN_CELL_PX, center_map, label_maps, token_features
from fastvlm.data.synthetic.listing import sample_listings
from fastvlm.data.synthetic.outside import OUTSIDE_ANSWER
from fastvlm.data.synthetic.questions import Question
from fastvlm.data.synthetic.rewording import reworded
from fastvlm.data.synthetic.samples import SceneSample, scene_sample
from fastvlm.data.synthetic.scene import Scene
from fastvlm.messages import ImagePart, Message, assistant, user

BLIND_EVERY, TALK_EVERY, TURNS_OF_A_TALK = 40, 4, 4
"""One scene in 40 is asked about without its picture; one in 4 is talked about in conversations of 4 turns."""

NO_PICTURE_ANSWER = "I see no picture. Show me a scene of coloured shapes and ask about it."
"""What the model learns to say to a question about a scene where there is none."""


@dataclass(frozen=True, kw_only=True)
class SceneBatches:
    """Generated scenes with questions, one picture size in a batch.

    canvases: (width, height) of scenes in pixels, which the collator's processor enlarges twofold. Where it leaves
    those that are twice as large as they are, half of the pictures are drawn so large.
    listings_per_picture: how many times all objects of a picture are listed, counted or placed beside its questions.
    is_drawn: False leaves the pictures out, for tasks that read the dense labels instead. is_labelled: False leaves
    the dense labels out, for tasks that read none, and saves their time. num_candidates: of so many
    scenes the one with most objects is shown. emphasis, has_further_phrasings: as in `sample_questions`.
    reworded_share: of the questions that a scene answers, whose words are drawn anew from those like them
    (`rewording.py`). first_index: number of the first scene, so that the stages of a run see different ones.
    outside_answer, no_picture_answer: what is said where a picture has no answer, and where there is no picture. The
    same step gives the same batch everywhere.
    """

    collator: Collator
    num_steps: int
    batch_size: int
    canvases: Sequence[tuple[int, int]]
    questions_per_picture: int
    listings_per_picture: int = 0
    is_drawn: bool = True
    is_labelled: bool = True
    num_candidates: int = 1
    emphasis: Mapping[str, float] = field(default_factory=dict)
    has_further_phrasings: bool = False
    reworded_share: float = 0.0
    first_index: int = 0
    outside_answer: str = OUTSIDE_ANSWER
    no_picture_answer: str = NO_PICTURE_ANSWER

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        start = self.first_index + step * self.batch_size
        indices = range(start, start + self.batch_size)
        generator = np.random.default_rng([start, len(self.canvases)])
        width_px, height_px = self.canvases[int(generator.integers(len(self.canvases)))]
        examples, samples = zip(*(self._example(index, width_px, height_px) for index in indices), strict=True)
        batch = replace(self.collator, has_pixels=self.is_drawn)(examples)
        return replace(batch, grounding=ground(batch, samples, self.collator.tokenizer))

    def _example(self, index: int, width_px: int, height_px: int) -> tuple[Example, SceneSample | None]:
        """One scene, with its sample if it is shown: some are talked about over several turns, a few are not shown."""
        sample = scene_sample(
            "train",
            index,
            width_px=width_px,
            height_px=height_px,
            num_questions=self.questions_per_picture,
            phrasing="train",
            is_drawn=self.is_drawn,
            enlargement=1 + index // TALK_EVERY % 2 if self._is_left(2 * width_px, 2 * height_px) else 1,
            num_candidates=self.num_candidates,
            emphasis=self.emphasis,
            has_further_phrasings=self.has_further_phrasings,
        )
        # Listings draw first, so that rewording does not change them.
        rng = random.Random(index)
        listings = sample_listings(sample.scene, rng, num_listings=self.listings_per_picture)
        questions = (self._as_learnt(question, rng) for question in sample.questions)
        sample = replace(sample, questions=tuple(questions))
        sample_id = f"scenes/train/{index}"
        if sample.questions and index % BLIND_EVERY == 0:
            return blind_example(sample, self.no_picture_answer, sample_id=sample_id), None
        is_talk = index % TALK_EVERY == 1
        example = scene_example(
            sample,
            sample_id=sample_id,
            turns_per_conversation=TURNS_OF_A_TALK if is_talk else 1,
            listings=listings,
            is_labelled=self.is_labelled,
        )
        return example, sample

    def _as_learnt(self, question: Question, rng: random.Random) -> Question:
        """The question as it is learnt from: in other words, or with the answer of this model."""
        if question.family == "outside":  # asks for anything, where words that are alike in scenes are not
            return replace(question, answer=self.outside_answer)
        if rng.random() < self.reworded_share:
            return replace(question, text=reworded(question.text, rng))
        return question

    def _is_left(self, width_px: int, height_px: int) -> bool:
        """Whether the processor neither enlarges nor shrinks pictures of this size."""
        layout = self.collator.processor.layout(width_px, height_px)
        return (layout.tile_width_px, layout.tile_height_px) == (width_px, height_px)


def scene_example(
    sample: SceneSample,
    *,
    sample_id: str,
    turns_per_conversation: int = 1,
    listings: Sequence[tuple[str, str]] = (),
    is_labelled: bool = True,
) -> Example:
    """A generated scene as a training example: its listings and questions, in conversations of so many turns."""
    turns = [*listings, *((question.text, question.answer) for question in sample.questions)]
    starts = range(0, len(turns), turns_per_conversation)
    return Example(
        sample_id=sample_id,
        images=(sample.image,),
        conversations=tuple(_conversation(sample, turns[start : start + turns_per_conversation]) for start in starts),
        dense=_dense_labels(sample.scene) if is_labelled else None,
    )


def _dense_labels(scene: Scene) -> DenseLabels:
    features, weights = token_features(scene)
    return DenseLabels(
        class_maps={
            2: np.stack(label_maps(scene, cell_px=TOKEN_CELL_PX // 4))[None].astype(np.int64),
            3: center_map(scene, cell_px=TOKEN_CELL_PX // 2)[None, None].astype(np.int64),
        },
        token_features=features[None],
        token_weights=weights[None],
    )


def blind_example(sample: SceneSample, no_picture_answer: str, *, sample_id: str) -> Example:
    """The questions of a scene without its picture: the model learns to say that it sees none."""
    return Example(
        sample_id=sample_id,
        images=(),
        conversations=tuple(
            (user(question.text), assistant(question.answer if question.family == "outside" else no_picture_answer))
            for question in sample.questions
        ),
    )


def _conversation(sample: SceneSample, turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    """The picture with the first question, then the others as further turns."""
    messages = [message for question, answer in turns for message in (user(question), assistant(answer))]
    return (user(ImagePart(sample.image), turns[0][0]), *messages[1:])
