"""Logs in few lines: means over the steps that have a number."""

from __future__ import annotations

import json
from pathlib import Path

from fastvlm.training.thinned import main, thinned


def test_each_line_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": float(step)} | ({"told": 0.5} if step == 3 else {}) for step in range(7)]
    expected = [{"step": 3, "loss": 1.5, "told": 0.5}, {"step": 6, "loss": 5.0}]
    assert list(thinned(lines, 4)) == expected
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(tmp_path / "metrics.jsonl", tmp_path / "logs/kept.jsonl", 4)
    assert [json.loads(line) for line in (tmp_path / "logs/kept.jsonl").read_text().splitlines()] == expected
