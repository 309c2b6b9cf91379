"""Words of English, and which of them one may be that was misread."""

from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from fastvlm.processing.english import english


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ("Caplain", "Captain"), ("Yeliow", "Yellow"), ("DOCLOR", "DOCTOR"), ("potaio", "potato"),
        ("esimate", "estimate"), ("summner", "summer"), ("Aleged", "Alleged"),
    ],
)  # fmt: skip
def test_a_word_may_be_the_nearest_one_written_alike(read: str, expected: str) -> None:
    assert english().nearest(read, 1) == [expected]


@pytest.mark.parametrize(
    "read", ["captain", "July", "abc", "caPLain", "qqqxzvw", "c4ptain", "naïf", "x" * 40, "", "Paris", "Mary"]
)
def test_words_and_what_is_written_like_none_have_no_nearest(read: str) -> None:
    assert english().nearest(read, 3) == []


def test_no_more_than_asked_for_and_common_ones_first() -> None:
    assert len(english().nearest("Caplain", 2)) == 2
    assert english().nearest("thete", 1) in (["there"], ["these"])


def test_the_list_is_large_small_to_ship_and_comes_with_its_notice() -> None:
    folder = files("fastvlm.processing")
    data = (folder / "english_words.txt.gz").read_bytes()
    sizes = [part.split() for part in gzip.decompress(data).decode().split("\n\n")]
    assert len(sizes) == 5 and sum(map(len, sizes)) > 60_000 and len(data) < 300_000
    assert all(word.isalpha() and word.islower() for part in sizes for word in part)
    assert "Kevin Atkinson" in (folder / "english_words.LICENCE.txt").read_text()


def test_another_folder_than_scowls_is_refused_in_one_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fastvlm.processing.english", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0 and run.stderr.count("\n") == 1 and "SCOWL" in run.stderr
