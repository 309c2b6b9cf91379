"""Every measured number of docs/performance.md is that of a stored result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "performance.md").read_text()


def spread(values: dict[str, float]) -> str:
    return f"{values['median']:.0f} ({values['low']:.0f} to {values['high']:.0f})"


def test_first_tokens_are_the_stored_ones() -> None:
    stored = json.loads((ROOT / "docs" / "results" / "bench-0.5b.json").read_text())
    for row in stored["rows"]:
        start = f"| {row['system']} | {row['precision']} | {row['size_px']} | {row['visual_tokens']} | "
        assert start + spread(row["ttft_ms"]) in DOCUMENT
    assert stored["machine"] in DOCUMENT.replace(" (Milan: AVX2, neither bfloat16 nor VNNI)", "")


def test_encoders_are_the_stored_ones() -> None:
    stored = json.loads((ROOT / "docs" / "results" / "bench-encoders.json").read_text())
    for row in stored["encoders"]:
        start = f"| {row['encoder']} | {row['engine']} | {row['precision']} | {row['size_px']} | "
        (line,) = (line for line in DOCUMENT.splitlines() if line.startswith(start))
        assert line.endswith(f"| {row['error'] or spread(row['encode_ms'])} |")
    for row in stored["first_tokens"]:
        (line,) = (line for line in DOCUMENT.splitlines() if line.startswith(f"| {row['name']} | {row['encoder']} |"))
        assert f"| {row['ttft_ms']:.0f} | {row['slower']:.1f} x |" in line


@pytest.mark.parametrize(("place", "name"), [(1, "scenes"), (2, "scenes-int8"), (3, "scenes-int4")])
def test_what_bits_cost_is_the_stored_score(place: int, name: str) -> None:
    stored = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    table = DOCUMENT.split("| family | float32 | int8 | int4 |")[1].splitlines()
    for entry in (*stored["families"], {**stored["overall"], "family": "overall"}):
        (line,) = (line for line in table if line.startswith(f"| {entry['family']} |"))
        assert line.split(" | ")[place].removesuffix(" |") == f"{100 * entry['accuracy']:.1f}"
