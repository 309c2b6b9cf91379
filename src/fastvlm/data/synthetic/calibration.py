"""Finds the numbers of `balance.py` and prints them: `python -m fastvlm.data.synthetic.calibration`.

Draws questions, looks at how often each intent and each answer came, and corrects the tables, round after round.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict

from fastvlm.data.synthetic.balance import ACCEPTANCE, ATTEMPTS
from fastvlm.data.synthetic.questions import FAMILY_INTENTS, intent_share, sample_questions
from fastvlm.data.synthetic.sampling import sample_scene
from fastvlm.data.synthetic.scene import CANVAS_SIZES_PX

_MAX_CLOSED_ANSWERS = 20
_FIRST_SEED = 77_000_000
_NUM_QUESTIONS = 6


def answer_counts(num_scenes: int, *, first_seed: int) -> dict[str, Counter[str]]:
    """Count the answers of each intent over `num_scenes` scenes of all canvas sizes, six questions each."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for index in range(num_scenes):
        rng = random.Random(first_seed + index)
        width_px, height_px = CANVAS_SIZES_PX[index % len(CANVAS_SIZES_PX)]
        scene = sample_scene(rng, width_px=width_px, height_px=height_px)
        for question in sample_questions(scene, rng, num_questions=_NUM_QUESTIONS, phrasing="train"):
            counts[question.intent][question.answer.replace("gray", "grey").replace("center", "centre")] += 1
    return counts


def correct(counts: dict[str, Counter[str]], *, damping: float) -> None:
    """Move the tables of `balance.py`, in this process, towards uniform answers and the wanted mixture."""
    total = sum(sum(answers.values()) for answers in counts.values())
    for intent, answers in counts.items():
        ratio = intent_share(intent) / (sum(answers.values()) / total)
        ATTEMPTS[intent] = min(60.0, ATTEMPTS.get(intent, 1.0) * ratio**damping)
        if 1 < len(answers) <= _MAX_CLOSED_ANSWERS:
            table = ACCEPTANCE.setdefault(intent, {})
            uniform = sum(answers.values()) / len(answers)
            for answer, count in answers.items():
                table[answer] = table.get(answer, 1.0) * (uniform / count) ** damping
            largest = max(table.values())
            for answer in table:
                table[answer] = table[answer] / largest


def main() -> None:
    """Print both tables after some rounds."""
    num_scenes = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
    ATTEMPTS.clear()
    ACCEPTANCE.clear()
    ACCEPTANCE.setdefault("describe", {})["an empty picture"] = 0.25
    for number in range(4):
        correct(answer_counts(num_scenes, first_seed=_FIRST_SEED + number * num_scenes), damping=0.9)
    attempts = {intent: ATTEMPTS[intent] for intents in FAMILY_INTENTS.values() for intent in intents}
    print("ATTEMPTS = {" + _row(attempts) + "}")
    print("ACCEPTANCE = {")
    for intent in sorted(ACCEPTANCE):
        print(f'    "{intent}": {{{_row(dict(sorted(ACCEPTANCE[intent].items())))}}},')
    print("}")


def _row(table: dict[str, float]) -> str:
    return ", ".join(f'"{key}": {value:.3g}' for key, value in table.items())


if __name__ == "__main__":
    main()
