"""A run's log in few lines, small enough to be kept beside the documents that quote it.

`python -m fastvlm.training.thinned RUN/metrics.jsonl docs/results/logs/NAME.jsonl 60` keeps the means of 60 steps each.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastvlm.files import write_whole

_DIGITS = 5


def thinned(lines: Sequence[dict[str, Any]], every: int) -> Iterator[dict[str, Any]]:
    """The means of so many steps of a log, of each number over the steps that have it; `step` is the last of them."""
    for start in range(0, len(lines), every):
        own = lines[start : start + every]
        names = dict.fromkeys(name for line in own for name in line if name != "step")
        means = {name: statistics.fmean(line[name] for line in own if name in line) for name in names}
        yield {"step": own[-1]["step"], **{name: float(f"{mean:.{_DIGITS}g}") for name, mean in means.items()}}


def main(log: Path, kept: Path, every: int) -> None:
    """Write a thinned log."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, "".join(json.dumps(line) + "\n" for line in thinned(lines, every)))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("Expected a log, the file to write and a number of steps, got something else.")
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
