"""What the phrases of packed rows mean in the scenes that they are about: labels for teaching words to point.

To tell a decoder which visual tokens `the red star` means is far quicker than to let it find out from answers: MDETR
(Kamath et al. 2021) does so with phrases and boxes. Only made scenes know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import numpy as np

from fastvlm.batches import BoolArray, Float32Array, GroundingLabels, Int64Array, TrainingBatch
from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.labels import NUM_STEPS, TOKEN_CELL_PX, cell_shares, passed_steps
from fastvlm.data.synthetic.mentions import Mention, find_mentions
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS, COLORS
from fastvlm.data.synthetic.questions import ASKED, Question
from fastvlm.data.synthetic.samples import SceneSample
from fastvlm.data.synthetic.scene import Scene
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.errors import DataError
from fastvlm.processing.tokenizer import Tokenizer

MAX_TALLY = 10
"""The largest number of objects that a tally tells; more count as so many."""

NOBODYS_SHARE = 6
"""Of a tally's attention, where each object has one share: so many stay on the first position, however many objects
there are. Softmax can give these shares exactly, with one score for all objects."""

NUM_CLASSES: tuple[int, ...] = (MAX_TALLY + 1, len(BACKGROUND_COLORS) + 1, len(SHAPES) + 1)
"""Classes of what a phrase means: how many objects or kinds, and their colour and shape, the last class where they
differ; of the background its colour alone."""

NUM_MARKS = NUM_STEPS
"""Marks that the place and size of the one object pass."""

NUM_KINDS = len(SHAPES) + len(COLORS)
"""Marks of the shapes and colours that there are among what a phrase means."""

NUM_COMPARISONS: tuple[int, ...] = (2, 2, 2, 3, 2, 2, len(ASKED))
"""Classes of how a question's subject and the other phrase compare: it is left, above, larger; fewer, as many, more; of
the same colour, of the same shape; and what of all this is asked."""


@dataclass
class _Phrase:
    """A phrase in a row, with the objects that it means. number: how many these are, or how many kinds of them."""

    position: int
    mention: Mention
    number: int
    candidates: list[int]
    referents: list[int] | None

    @property
    def only(self) -> int | None:
        """Index of the one object, or None for none or several."""
        return self.referents[0] if self.referents is not None and len(self.referents) == 1 else None


def ground(batch: TrainingBatch, samples: Sequence[SceneSample | None], tokenizer: Tokenizer) -> GroundingLabels:
    """Find what the phrases of each row mean in its scene, with one sample for each row, or None for a row without.

    Raises DataError where a row has not one visual token for each cell of its scene.
    """
    labels = _Labels(num_visual=int(batch.is_visual.sum(axis=1).max(initial=0)))
    for row, sample in enumerate(samples):
        if sample is not None:
            _ground_row(labels, batch, row, sample, tokenizer)
    return labels.arrays()


def _ground_row(labels: _Labels, batch: TrainingBatch, row: int, sample: SceneSample, tokenizer: Tokenizer) -> None:
    scene, facts = sample.scene, SceneFacts(sample.scene)
    supervised, token_ids, is_visual = batch.supervised[row], batch.token_ids[row], batch.is_visual[row]
    questions = {question.text.strip(): question for question in sample.questions}
    cells = _cells(scene, num_visual=int(is_visual.sum()), sample_id=batch.sample_ids[row])
    asking: list[_Phrase] = []
    for phrase in _phrases(token_ids, is_visual, batch.segments[row], facts, tokenizer):
        if phrase.mention.is_background:
            labels.add_background(row, phrase, scene)
        else:
            labels.add_phrase(row, phrase, scene, cells)
        if not supervised[phrase.position]:
            asking.append(phrase)
    # A turn of the user begins behind an answer, or behind the picture, and ends where the next answer begins.
    starts = np.flatnonzero(supervised[1:] & ~supervised[:-1])
    begins = [0, *(np.flatnonzero(supervised[:-1] & ~supervised[1:]) + 1)]
    for begin, start in zip(begins, starts, strict=False):
        phrases = [phrase for phrase in asking if begin <= phrase.position <= start]
        words = [int(token_ids[place]) for place in range(begin, start + 1) if not is_visual[place]]
        question = questions.get(tokenizer.decode(words).strip())
        if phrases:
            subject, other = _roles(phrases, question)
            asked = -1 if question is None else ASKED.index(question.asked)
            labels.add_answer(row, int(start), subject, other, (*_comparison(subject, other, facts), asked))


def _cells(scene: Scene, *, num_visual: int, sample_id: str) -> list[list[tuple[int, float]]]:
    """The numbers of each object's cells, row by row, with its share in each."""
    rows, columns = scene.height_px // TOKEN_CELL_PX, scene.width_px // TOKEN_CELL_PX
    if num_visual not in (0, rows * columns):
        raise DataError(
            f"{sample_id}: expected {rows * columns} visual tokens, one for each {TOKEN_CELL_PX} px cell of the scene, "
            f"got {num_visual}. Choose canvases that the processor leaves as they are."
        )
    return [cell_shares(item, rows, columns, TOKEN_CELL_PX) for item in scene.objects]


def _roles(phrases: Sequence[_Phrase], question: Question | None) -> tuple[_Phrase, _Phrase]:
    """The phrase of a question's subject and that of the other thing; the first and the last where it has none."""
    subject = _naming(question.subject, phrases) if question is not None else None
    other = _naming(question.other, phrases) if question is not None else None
    return subject or phrases[0], other or phrases[-1]


def _naming(name: str, phrases: Sequence[_Phrase]) -> _Phrase | None:
    """The first phrase that means the same group as `name` does."""
    wanted = _meaning(name)
    return next((phrase for phrase in phrases if replace(phrase.mention, end=0) == wanted), None)


@lru_cache(maxsize=8192)
def _meaning(name: str) -> Mention | None:
    """What a name means wherever it stands; a few thousand names are all there are."""
    found = list(find_mentions(name))
    return replace(found[-1], end=0) if found else None


def _phrases(
    token_ids: Int64Array, is_visual: BoolArray, segments: Int64Array, facts: SceneFacts, tokenizer: Tokenizer
) -> list[_Phrase]:
    """The phrases of a row; the special tokens between two turns keep them apart."""
    num_used = int((segments >= 0).sum())
    words = {int(number): tokenizer.decode([number], skip_special=False) for number in np.unique(token_ids[:num_used])}
    texts = [
        "" if visual else words[int(number)]
        for number, visual in zip(token_ids[:num_used], is_visual[:num_used], strict=True)
    ]
    ends = np.cumsum([len(text) for text in texts])
    phrases = []
    for mention in find_mentions("".join(texts)):
        position = int(np.searchsorted(ends, mention.end))
        number, candidates, referents = mention.number(facts), mention.candidates(facts), mention.referents(facts)
        phrases.append(_Phrase(position, mention, number, candidates, referents))
    return phrases


class _Labels:
    """Collects the labels of a batch."""

    def __init__(self, num_visual: int) -> None:
        self.num_visual = num_visual
        self.phrases: list[tuple[int, int]] = []
        self.shares: tuple[list[Float32Array], ...] = ([], [], [])
        self.classes: list[tuple[int, ...]] = []
        self.marks: list[Float32Array] = []
        self.kinds: list[Float32Array] = []
        self.answers: list[tuple[int, int, int, int]] = []
        self.comparisons: list[tuple[int, ...]] = []

    def add_phrase(self, row: int, phrase: _Phrase, scene: Scene, cells: Sequence[Sequence[tuple[int, float]]]) -> None:
        """Note where a phrase's attention belongs and what it should find there."""
        self.phrases.append((row, phrase.position))
        candidates, only = phrase.candidates, phrase.only
        tally = 1 / (NOBODYS_SHARE + len(candidates))
        for shares, members, share in zip(
            self.shares,
            (candidates, phrase.referents, candidates),
            (1 / max(1, len(candidates)), 1 / max(1, len(phrase.referents or ())), tally),
            strict=True,
        ):
            shares.append(self._shares(None if members is None else [cells[index] for index in members], share))
        number = -1 if phrase.mention.extreme else min(phrase.number, MAX_TALLY)
        meant = [scene.objects[index] for index in phrase.referents or ()]
        color = _common([COLORS.index(item.color) for item in meant], num_classes=len(BACKGROUND_COLORS))
        shape = _common([SHAPES.index(item.shape) for item in meant], num_classes=len(SHAPES))
        self.classes.append((number, color, shape))
        unknown = np.full(NUM_MARKS, -1, np.float32)
        self.marks.append(unknown if only is None else passed_steps(scene, scene.objects[only]))
        names = {name for item in meant for name in (item.shape, item.color)}
        is_there = np.array([name in names for name in (*SHAPES, *COLORS)], np.float32)
        self.kinds.append(np.full(NUM_KINDS, -1, np.float32) if phrase.referents is None else is_there)

    def add_background(self, row: int, phrase: _Phrase, scene: Scene) -> None:
        """Note that the background is everywhere, and its colour."""
        self.phrases.append((row, phrase.position))
        nothing, everywhere = np.zeros(1 + self.num_visual, np.float32), np.zeros(1 + self.num_visual, np.float32)
        num_cells = (scene.height_px // TOKEN_CELL_PX) * (scene.width_px // TOKEN_CELL_PX)
        everywhere[1 : 1 + num_cells] = 1 / num_cells
        for shares, wanted in zip(self.shares, (nothing, everywhere, nothing), strict=True):
            shares.append(wanted)
        color = scene.background.color
        self.classes.append((-1, -1 if color is None else BACKGROUND_COLORS.index(color), -1))
        self.marks.append(np.full(NUM_MARKS, -1, np.float32))
        self.kinds.append(np.full(NUM_KINDS, -1, np.float32))

    def _shares(self, objects: Sequence[Sequence[tuple[int, float]]] | None, share: float) -> Float32Array:
        shares = np.zeros(1 + self.num_visual, np.float32)
        if objects is not None:
            for cell, part in chain.from_iterable(objects):
                shares[1 + cell] += share * part
            shares[0] = max(0.0, 1 - share * len(objects))
        return shares

    def add_answer(
        self, row: int, position: int, subject: _Phrase, other: _Phrase, comparison: tuple[int, ...]
    ) -> None:
        """Note which phrases an answer is about, and how they compare."""
        self.answers.append((row, position, subject.position, other.position))
        self.comparisons.append(comparison)

    def arrays(self) -> GroundingLabels:
        """The labels as arrays."""
        width = 1 + self.num_visual
        candidates, referents, tallies = (_stack(shares, width) for shares in self.shares)
        return GroundingLabels(
            phrases=np.array(self.phrases, np.int64).reshape(-1, 2),
            candidates=candidates,
            referents=referents,
            tallies=tallies,
            classes=np.array(self.classes, np.int64).reshape(-1, len(NUM_CLASSES)),
            marks=_stack(self.marks, NUM_MARKS),
            kinds=_stack(self.kinds, NUM_KINDS),
            answers=np.array(self.answers, np.int64).reshape(-1, 4),
            comparisons=np.array(self.comparisons, np.int64).reshape(-1, len(NUM_COMPARISONS)),
        )


def _common(classes: Sequence[int], *, num_classes: int) -> int:
    """The class that all share, num_classes where they differ, -1 where there is none."""
    found = set(classes)
    return -1 if not found else found.pop() if len(found) == 1 else num_classes


def _stack(rows: Sequence[Float32Array], width: int) -> Float32Array:
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)


def _comparison(subject: _Phrase, other: _Phrase, facts: SceneFacts) -> tuple[int, ...]:
    """Classes as in NUM_COMPARISONS but for what is asked; -1 where phrases are one, mean no single objects, or where
    it is too close to tell."""
    if subject is other or subject.mention.is_background or other.mention.is_background:
        return (-1,) * (len(NUM_COMPARISONS) - 1)
    number = -1
    if subject.mention.extreme is None and other.mention.extreme is None:
        number = 1 + int(np.sign(subject.number - other.number))
    if subject.only is None or other.only is None or subject.only == other.only:
        return (-1, -1, -1, number, -1, -1)
    one, two = facts.objects[subject.only], facts.objects[other.only]
    return (
        _class(facts.direction_holds("left", subject.only, other.only)),
        _class(facts.direction_holds("above", subject.only, other.only)),
        _class(facts.is_larger(subject.only, other.only)),
        number,
        int(one.color == two.color),
        int(one.shape == two.shape),
    )


def _class(holds: bool | None) -> int:
    return -1 if holds is None else int(holds)
