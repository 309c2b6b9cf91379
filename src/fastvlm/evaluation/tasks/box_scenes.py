"""Questions about the pictures of another renderer: three boxes of coloured blocks, as in NLVR (lil-lab/nlvr).

A folder holds `scenes.json`, a list of objects with `image` (a file beside it), `boxes` (lists of objects with `type`
and `color`), `statement` (a sentence by a person) and `label` (whether it is true), and the pictures. Questions are
derived from `boxes`, in the words of the training phrasings or of the held-out ones. The boxes themselves are ground
and no objects.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from pathlib import Path

from fastvlm.data.synthetic.facts import Group
from fastvlm.data.synthetic.intents import yes_or_no
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.phrasings import PHRASINGS, PhrasingSet
from fastvlm.data.synthetic.questions import Phrasing
from fastvlm.data.synthetic.shapes import SHAPES
from fastvlm.data.synthetic.statements import STATEMENT_FRAMES, STATEMENTS
from fastvlm.data.synthetic.wording import NUMBER_WORDS, american, capitalised, fill, noun, plural, with_article
from fastvlm.errors import DataError
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.tasks.entries import read_entries
from fastvlm.evaluation.tasks.selection import Candidate, choose, turns_of_answers, turns_of_yes_and_no
from fastvlm.processing.images import read_image

SCENES_FILE = "scenes.json"
HUMAN_FAMILY = "human statement"
MAX_COUNT = 9

_COLOR_NAMES = {"#0099ff": "blue"}
_MAX_PER_PICTURE = {"existence": 2, "count": 2, "comparison": 1, "statement": 1}


@dataclass(frozen=True)
class BoxScene:
    """A picture with what is in it. objects: the (colour, shape) of each, all boxes together."""

    image: Path
    objects: tuple[tuple[str, str], ...]
    statement: str
    is_true: bool

    def count(self, group: Group) -> int:
        """Count the objects of a colour and a shape."""
        return sum(group.color in (None, color) and group.shape in (None, shape) for color, shape in self.objects)


def read_box_scenes(folder: Path) -> list[BoxScene]:
    """Read the scenes of a folder in the order of their pictures' names.

    Raises DataError, which names the entry, for a folder that is not in this layout.
    """
    found = [_box_scene(entry, folder, place) for entry, place in read_entries(folder / SCENES_FILE, what="scenes")]
    return sorted(found, key=lambda scene: scene.image.name)


def box_questions(folder: Path, *, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Derive questions from the boxes of a folder: existence, count, comparison, statement; then people's statements.

    Yes and no are equally frequent for everything that is asked about, numbers as far as the pictures allow; at most
    seven questions about a picture. Both phrasings ask the same in other words; people's statements have only one and
    are left out of the held-out set. Raises DataError.
    """
    scenes = read_box_scenes(folder)
    questions: list[EvaluationQuestion] = []
    for family, max_per_picture in _MAX_PER_PICTURE.items():
        candidates = list(_CANDIDATES[family](scenes))
        random.Random(f"boxes/{family}").shuffle(candidates)
        turns = turns_of_answers(candidates) if family == "count" else turns_of_yes_and_no(candidates)
        for chosen in choose(turns, limit=limit_per_family, max_per_picture=max_per_picture):
            questions.append(_question(chosen, scenes[chosen.picture], family, phrasing))
    if phrasing == "train":
        questions += [_human_question(scene) for scene in scenes[:limit_per_family]]
    return questions


def _box_scene(entry: object, folder: Path, place: str) -> BoxScene:
    match entry:
        case {"image": str(image), "statement": str(statement), "label": bool(label), "boxes": list(boxes)}:
            objects = [_object(item, place) for box in boxes for item in (box if isinstance(box, list) else [box])]
            return BoxScene(folder / image, tuple(objects), statement, label)
    raise DataError(f"Expected image, statement, label (true or false) and boxes in {place}.")


def _object(item: object, place: str) -> tuple[str, str]:
    match item:
        case {"type": str(shape), "color": str(color)}:
            name = _COLOR_NAMES.get(color.lower(), color.lower())
            if name in COLORS and shape.lower() in SHAPES:
                return name, shape.lower()
            raise DataError(f"Expected a shape and a colour that are known here in {place}, got {shape} and {color}.")
    raise DataError(f"Expected objects with type and color in the boxes of {place}.")


def _groups(scenes: Sequence[BoxScene]) -> dict[str, list[Group]]:
    """The colours, shapes and pairs that occur anywhere in the folder: only they are asked about."""
    present = Counter(entry for scene in scenes for entry in scene.objects)
    return {
        "color": [Group(color=color) for color in COLORS if any(pair[0] == color for pair in present)],
        "shape": [Group(shape=shape) for shape in SHAPES if any(pair[1] == shape for pair in present)],
        "pair": [Group(color, shape) for color in COLORS for shape in SHAPES if (color, shape) in present],
    }


def _existence(scenes: Sequence[BoxScene]) -> Iterator[Candidate]:
    for sort, groups in _groups(scenes).items():
        for number, scene in enumerate(scenes):
            for group in groups:
                yield Candidate(number, f"exist_{sort}", (group,), yes_or_no(truth=scene.count(group) > 0))


def _counts(scenes: Sequence[BoxScene]) -> Iterator[Candidate]:
    for sort, groups in _groups(scenes).items():
        for number, scene in enumerate(scenes):
            for group in groups:
                if scene.count(group) <= MAX_COUNT:
                    yield Candidate(number, f"count_{sort}", (group,), str(scene.count(group)))


def _comparisons(scenes: Sequence[BoxScene]) -> Iterator[Candidate]:
    for groups in _groups(scenes).values():
        for number, scene in enumerate(scenes):
            for first, second in permutations(groups, 2):
                if scene.count(first) != scene.count(second):
                    truth = scene.count(first) > scene.count(second)
                    yield Candidate(number, "more", (first, second), yes_or_no(truth=truth))
            for first, second in combinations(groups, 2):
                if scene.count(first) + scene.count(second) > 0:
                    truth = scene.count(first) == scene.count(second)
                    yield Candidate(number, "as_many", (first, second), yes_or_no(truth=truth))


def _statements(scenes: Sequence[BoxScene]) -> Iterator[Candidate]:
    for groups in _groups(scenes).values():
        for number, scene in enumerate(scenes):
            for group in groups:
                count = scene.count(group)
                yield Candidate(number, "state_exist", (group,), yes_or_no(truth=count > 0))
                yield Candidate(number, "state_none", (group,), yes_or_no(truth=count == 0))
                for claimed in range(max(1, count - 1), min(MAX_COUNT, count + 1) + 1):
                    yield Candidate(number, "state_count", (group,), yes_or_no(truth=claimed == count), claimed)
            for first, second in permutations(groups, 2):
                if scene.count(first) != scene.count(second):
                    truth = scene.count(first) > scene.count(second)
                    yield Candidate(number, "state_more", (first, second), yes_or_no(truth=truth))


_CANDIDATES = {"existence": _existence, "count": _counts, "comparison": _comparisons, "statement": _statements}


def _question(chosen: Candidate, scene: BoxScene, family: str, phrasing: Phrasing) -> EvaluationQuestion:
    subject = "-".join(noun(group).replace(" ", "-") for group in chosen.groups)
    question_id = f"boxes/{scene.image.stem}/{chosen.kind}/{subject}/{max(chosen.number, 0)}"
    text = _words(chosen, random.Random(question_id), phrasing)
    return EvaluationQuestion(f"{question_id}/{phrasing}", _picture(scene), family, chosen.kind, text, chosen.answer)


def _human_question(scene: BoxScene) -> EvaluationQuestion:
    answer = yes_or_no(truth=scene.is_true)
    question_id = f"boxes/{scene.image.stem}/human"
    return EvaluationQuestion(question_id, _picture(scene), HUMAN_FAMILY, "human", scene.statement, answer)


def _picture(scene: BoxScene) -> Picture:
    return Picture(f"boxes/{scene.image.stem}", "resized", partial(read_image, scene.image))


def _words(chosen: Candidate, rng: random.Random, phrasing: Phrasing) -> str:
    slots = _slots(chosen)
    if not chosen.kind.startswith("state_"):
        kind = chosen.kind.partition("_")[0] if chosen.kind != "as_many" else chosen.kind
        text = fill(rng.choice(_templates(PHRASINGS[kind], phrasing)), slots, rng)
    else:
        statement = fill(rng.choice(_templates(STATEMENTS[chosen.kind.removeprefix("state_")], phrasing)), slots, rng)
        frame = rng.choice(_templates(STATEMENT_FRAMES, phrasing))
        text = frame.format(s=statement, S=capitalised(statement))
    return american(text) if rng.random() < 0.5 else text


def _templates(phrasings: PhrasingSet, phrasing: Phrasing) -> tuple[str, ...]:
    return phrasings.train if phrasing == "train" else phrasings.held_out


def _slots(chosen: Candidate) -> dict[str, str]:
    one, many = noun(chosen.groups[0]), plural(chosen.groups[0])
    slots = {"a": with_article(one), "thing": one, "things": many}
    if len(chosen.groups) == 2:
        slots["others"] = plural(chosen.groups[1])
    if chosen.number >= 0:
        word = NUMBER_WORDS[chosen.number]
        slots["num_things"] = f"{word} {one if chosen.number == 1 else many}"
        slots["number"] = word
        slots["are"] = "is" if chosen.number == 1 else "are"
    return slots
