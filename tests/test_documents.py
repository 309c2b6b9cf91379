"""The documents keep their promises: links lead somewhere, named commands exist, nothing of one workplace is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastvlm.evaluation.card import renewed

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (document.parent / target.split("#")[0]).exists()
    ]
    assert not missing, f"{document.name} links to what is not there: {missing}"


def test_readme_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"`fastvlm ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    listing = subprocess.run(
        [sys.executable, "-m", "fastvlm", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    offered = set(re.findall(r"^  ([a-z]+)  ", listing, flags=re.MULTILINE))
    assert named == offered


def test_readme_pictures_exist() -> None:
    named = set(re.findall(r"examples/[\w.-]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_every_room_is_in_the_picture_and_in_the_table() -> None:
    rooms = {path.parent.name for path in ROOT.glob("src/fastvlm/*/__init__.py")}
    for document in ("docs/architecture.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        assert not [room for room in rooms if f"{room}/" not in text], f"{document} lacks a room"


def test_tables_of_the_model_card_are_those_of_the_stored_reports() -> None:
    card = ROOT / "docs" / "embedded_model.md"
    text = card.read_text(encoding="utf-8")
    assert text.count("<!-- report: ") >= 2
    assert renewed(text, card.parent) == text
