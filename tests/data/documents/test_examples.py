"""The documents in examples/: written whole, and what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

import fastvlm.data.synthetic.documents.examples as documents
from fastvlm.data.synthetic.documents.examples import EXAMPLES, PAGE, write_examples
from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.evaluation.manifest import DOCUMENTS_PATH, read_manifest

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| (.+?) (?<!\\)\| (.+?) (?<!\\)\|$", re.MULTILINE)


def test_every_kind_has_one_picture_and_its_questions(tmp_path: Path) -> None:
    write_examples(tmp_path / "new")
    page = (tmp_path / "new" / PAGE).read_text()
    names = [f"{example.kind}.png" for example in EXAMPLES]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted([PAGE, *names])
    sections = page.split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == names
    for example, section in zip(EXAMPLES, sections, strict=True):
        assert ROW.findall(section)[1:] == [tuple(map(documents._cell, row)) for row in example.questions()]
        assert len(example.questions()) >= 4
        with Image.open(tmp_path / "new" / f"{example.kind}.png") as picture:
            assert picture.size == example.canvas


def test_bars_of_a_text_do_not_end_its_cell() -> None:
    assert documents._cell("a | b\nc") == "a \\| b / c"


def test_the_page_in_the_repository_shows_all_of_them(tmp_path: Path) -> None:
    folder = ROOT / "examples"
    if not folder.is_dir():
        pytest.skip("examples/ is not here")
    page = (folder / PAGE).read_text()
    if fonts_digest() == read_manifest(DOCUMENTS_PATH).fonts_sha256:
        write_examples(tmp_path)
        assert (tmp_path / PAGE).read_text() == page
    for example in EXAMPLES:
        assert f"![{example.kind}]({example.kind}.png)" in page
        with Image.open(folder / f"{example.kind}.png") as picture:
            assert picture.size == example.canvas
