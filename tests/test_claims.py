"""What docs/claims.md says was found is what the stored results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CLAIMS = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def lines(name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (RESULTS / "logs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_there_are_ten_each_with_a_command() -> None:
    rows = [line.split(" | ") for line in CLAIMS.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row[0] for row in rows] == [f"| {number}" for number in range(1, 11)]
    assert all(row[2].startswith(("`fastvlm ", "`python -m ")) for row in rows)


def test_kernels_and_steps_are_the_stored_ones() -> None:
    ours, plain = (
        next(row for row in read("training-steps")["rows"] if row["way"] == way)
        for way in ("ours", "torch, as it comes")
    )
    faster = f"{ours['over_torch']['median']:.2f} times as it comes, {ours['over_channels_last']['median']:.2f} times"
    nearer = f"{ours['gradients']['relative']:.1e} instead of {plain['gradients']['relative']:.1e}"
    assert faster in CLAIMS and nearer in CLAIMS
    kept, again = (
        next(
            row for row in read("training-memory")["rows"] if (row["parts"], row["activations"]) == ("all", activations)
        )
        for activations in ("kept", "recomputed")
    )
    told = [f"{row['peak_memory_mb'] / 1000:.1f} GB and {row['median_s']:.3g} s" for row in (kept, again)]
    assert told[0] in CLAIMS and told[1] in CLAIMS


def test_shares_are_the_stored_ones() -> None:
    towers = read("towers")
    after_80, after_240 = (towers["steps"].index(step) for step in (80, 240))
    assert f"{100 * towers['pretrained'][after_80]:.1f} % after 80 steps" in CLAIMS
    assert f"{100 * towers['fresh'][after_240]:.1f} % after 240" in CLAIMS
    assert f"tell {100 * lines('documents-1-see')[-1]['told']:.1f} %" in CLAIMS
    assert f"{100 * lines('embedded-2-see-on')[-1]['told']:.1f} % after 157 thousand in two rounds" in CLAIMS
    assert lines("clip-small")[-1]["step"] == 1499
    found = {row["family"]: row["accuracy"] for row in read("recipe-scenes")["families"]}
    told = [f"{name} {100 * found[family]:.1f} %" for name, family in (("existence", "existence"), ("colour", "color"))]
    told += [f"{family} {100 * found[family]:.1f} %" for family in ("shape", "relation", "comparison", "count")]
    assert all(text in CLAIMS for text in told), told
