"""The model card's tables come from stored reports, and follow them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastvlm.evaluation.card import main, report_table

ACCURACY = {"n": 200, "correct": 190, "accuracy": 0.95, "interval_95": [0.910, 0.973]}
REPORT: dict[str, Any] = {
    "task": "scenes",
    "model": {"name": "m", "weights": [{"file": "model.safetensors", "sha256": "ab" * 32}]},
    "families": [
        {"family": "count", **ACCURACY, "majority": ACCURACY | {"accuracy": 0.1}, "blind": None, "shuffled": None,
         "unseen_phrasings": ACCURACY | {"accuracy": 0.9}},
    ],
    "overall": {"family": "all", **ACCURACY, "majority": ACCURACY, "blind": None, "shuffled": None,
                "unseen_phrasings": None},
    "questions": {"sha256": "cd" * 32, "frozen_set": None, "generator_version": 1},
    "runtime": "torch cpu float32", "machine": "a machine", "versions": {"torch": "2.13.0"}, "ms_per_question": 12.34,
}  # fmt: skip


def test_table_is_renewed_from_the_report_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(REPORT))
    card = tmp_path / "card.md"
    card.write_text("Before.\n<!-- report: scores.json -->\nold\n<!-- end of report -->\nAfter.\n")
    main(card)
    first = card.read_text()
    assert "| count | 200 | 95.0 | 91.0 to 97.3 | 10.0 |  |  | 90.0 |" in first
    assert first.startswith("Before.\n") and first.endswith("After.\n") and "old" not in first
    main(card)
    assert card.read_text() == first


def test_what_is_read_has_its_own_columns_and_limits_are_told() -> None:
    family = {**REPORT["families"][0], "anls": 0.8765, "character_error_rate": 0.1234}
    report = {
        **REPORT,
        "families": [family],
        "false_refusals": ACCURACY | {"accuracy": 0.031},
        "coverage": [{"confidence": limit, "share": 0.4, **ACCURACY} for limit in (0.0, 0.5)],
    }
    text = report_table(report)
    assert "| ANLS | wrong characters % |" in text
    assert "| 90.0 | 0.876 | 12.3 |" in text
    assert "Refused though the picture has the answer: 3.1 % of 200 questions (91.0 to 97.3)." in text
    assert "Confident (0.5 or more) of 40 % of the answers, 95.0 % of which are right." in text
    assert "Refused" not in report_table(REPORT) and "ANLS" not in report_table(REPORT)
