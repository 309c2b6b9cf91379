"""docs/pitfalls.md and the tests tell the same pitfalls."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| B(\d+) \| (.+) \| `(tests/[\w/]+\.py)::(\w+)` \|$",
    (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def numbers_in(test_name: str) -> set[int]:
    """The pitfalls that a test names, such as 3 and 10 for test_pitfall_b3_b10_all_conversations."""
    named = re.match(r"test_pitfall((?:_b\d+)+)_", test_name)
    return {int(number) for number in re.findall(r"\d+", named[1])} if named else set()


def functions_in(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_every_pitfall_has_a_test_that_exists_and_names_it() -> None:
    lines = re.findall(r"^\| B", (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(ROWS) == len(lines) >= 27, "every row has four cells: number, what goes wrong, file::test"
    wrong = [
        f"B{number}: {file}::{name}"
        for number, _, file, name in ROWS
        if int(number) not in numbers_in(name) or name not in functions_in(ROOT / file)
    ]
    assert not wrong


def test_every_pitfall_that_a_test_names_is_in_the_document_once() -> None:
    named = {
        number for path in ROOT.glob("tests/**/test_*.py") for name in functions_in(path) for number in numbers_in(name)
    }
    assert sorted(int(number) for number, *_ in ROWS) == sorted(named)


def test_comments_name_only_pitfalls_of_the_document() -> None:
    known = {int(number) for number, *_ in ROWS}
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py")]
    mentioned = re.compile(r"pitfalls?((?:,? (?:and )?B\d+)+)")
    unknown = {
        (path.name, number)
        for path in sources
        for names in mentioned.findall(path.read_text(encoding="utf-8"))
        for number in map(int, re.findall(r"\d+", names))
        if number not in known
    }
    assert not unknown
