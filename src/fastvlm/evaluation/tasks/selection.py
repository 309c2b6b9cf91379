"""Which of many possible questions to ask, so that the words of a question do not give its answer away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastvlm.data.synthetic.facts import Group


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked about a picture, before it has words.

    picture: its number. groups: what it asks about. number: what a statement claims, or -1.
    """

    picture: int
    kind: str
    groups: tuple[Group, ...]
    answer: str
    number: int = -1

    @property
    def subject(self) -> tuple[str, tuple[Group, ...]]:
        """What the words of the question tell somebody who sees no picture."""
        return self.kind, self.groups


Turn = Sequence[list[Candidate]]
"""One candidate is taken from each of these lists, or none from any."""


def turns_of_yes_and_no(candidates: Sequence[Candidate]) -> dict[object, Turn]:
    """One turn for each subject: a yes and a no together, so that no subject tends to either."""
    turns: dict[object, tuple[list[Candidate], list[Candidate]]] = {}
    for candidate in candidates:
        lists = turns.setdefault(candidate.subject, ([], []))
        lists[candidate.answer == "yes"].append(candidate)
    return dict(turns)


def turns_of_answers(candidates: Sequence[Candidate]) -> dict[object, Turn]:
    """One turn for each answer: they come equally often while there are any."""
    turns: dict[object, tuple[list[Candidate]]] = {}
    for candidate in candidates:
        turns.setdefault(candidate.answer, ([],))[0].append(candidate)
    return dict(turns)


def choose(turns: Mapping[object, Turn], *, limit: int, max_per_picture: int) -> list[Candidate]:
    """Take turns until `limit` questions are chosen or none is left; the order of the candidates decides the rest.

    Of a list, what comes first is the candidate whose subject, then whose picture, was chosen least until now.
    """
    num_of_subject: Counter[object] = Counter()
    num_of_picture: Counter[int] = Counter()
    chosen: list[Candidate] = []
    waiting = {key: [list(entries) for entries in turn] for key, turn in turns.items()}
    while waiting and len(chosen) < limit:
        for key in list(waiting):
            taken = _take(waiting[key], num_of_subject, num_of_picture, max_per_picture)
            if not taken or len(chosen) + len(taken) > limit:
                del waiting[key]
                continue
            for candidate in taken:
                num_of_subject[candidate.subject] += 1
                num_of_picture[candidate.picture] += 1
            chosen += taken
    return chosen


def _take(
    lists: list[list[Candidate]], num_of_subject: Counter[object], num_of_picture: Counter[int], max_per_picture: int
) -> list[Candidate]:
    """Take one candidate out of each list, all about different pictures; nothing where a list has none left."""
    taken: list[Candidate] = []
    for entries in lists:
        pictures = {candidate.picture for candidate in taken}
        free = [
            candidate
            for candidate in entries
            if num_of_picture[candidate.picture] < max_per_picture and candidate.picture not in pictures
        ]
        if not free:
            return []
        taken.append(min(free, key=lambda entry: (num_of_subject[entry.subject], num_of_picture[entry.picture])))
    for entries, candidate in zip(lists, taken, strict=True):
        entries.remove(candidate)
    return taken
