"""The documents keep their promises: links lead somewhere, named commands exist, nothing of one workplace is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastvlm.evaluation.card import renewed

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


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


# Written so that this file does not hold what it looks for.
FOREIGN_WORDS = re.compile(
    r"/[w]ork/|/tmp/[b]ash|\b[p]aper\.md|\b[h]elper-|[t]his sitting|[s]ub-?agent"
    r"|(?<!docs/)(?<!\"docs\" / \")(?<!\]\()(?<!\]\(\.\./)\b(?:[e]mbedded_model|[p]erformance)\.md"
)
FOLDER_BESIDE = re.compile(r"\.\./[s]hared")


def test_no_tracked_file_tells_of_one_workplace() -> None:
    """The card of the embedded model and the page on speed are ours; files of these names anywhere else are not."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no checkout of git")
    names = [name for name in listing.split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 100
    found = []
    for name in names:
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        may_name_the_folder = name.startswith("tests/") or name == "CONTRIBUTING.md"
        for number, line in enumerate(lines, start=1):
            if FOREIGN_WORDS.search(line) or (FOLDER_BESIDE.search(line) and not may_name_the_folder):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


@pytest.mark.parametrize(
    ("line", "is_foreign"),
    [
        ("/wo" + "rk/main", True),
        ("see reference/embedded" + "_model.md", True),
        ("see docs/embedded_model.md", False),
        ("[card](embedded_model.md)", False),
        ("as in pap" + "er.md 1.2", True),
        ("the whitepaper.mdx", False),
    ],
)
def test_the_words_of_a_workplace_are_told_from_ours(line: str, is_foreign: bool) -> None:
    assert bool(FOREIGN_WORDS.search(line)) == is_foreign


def test_tables_of_the_model_card_are_those_of_the_stored_reports() -> None:
    card = ROOT / "docs" / "embedded_model.md"
    text = card.read_text(encoding="utf-8")
    assert text.count("<!-- report: ") >= 2
    assert renewed(text, card.parent) == text
