"""`fastvlm read` and `fastvlm caption` through the real process: files, folders, PDFs, and going on after a stop."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fastvlm.cli.inputs import pages_of
from fastvlm.errors import ImageError, MissingExtraError
from fastvlm.evaluation.kept import FOLDER as KEPT
from fastvlm.processing import pdf

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, one that is cut off, a PDF of two pages, and what is no input."""
    inputs = tmp_path / "inputs"
    (inputs / "deeper").mkdir(parents=True)
    pages = [Image.new("RGB", (120, 80), color) for color in ("red", "blue")]
    pages[0].save(inputs / "a.png")
    pages[0].save(inputs / "deeper" / "b.pdf", save_all=True, append_images=pages[1:])
    (inputs / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (inputs / "notes.txt").write_text("nothing to look at")
    return inputs


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_picture_is_read_as_text(run: Run, parrot: Path, folder: Path) -> None:
    for command in ("read", "caption"):
        finished = run(command, folder / "a.png", "--model", parrot, "--max-tokens", "4")
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.strip() and str(folder) not in finished.stdout
        assert finished.stderr.startswith(f"{folder / 'a.png'}: Cut short.")
        as_json = records(run(command, folder / "a.png", "--model", parrot, "--max-tokens", "4", "--json").stdout)
        assert 0 < float(str(as_json[0].pop("confidence"))) <= 1
        assert as_json == [
            {
                "file": str(folder / "a.png"),
                "wanted": {"read": "text", "caption": "caption"}[command],
                "model": str(parrot),
                "text": finished.stdout.rstrip("\n"),
                "is_unsure": False,
                "finish_reason": "length",
                "max_tokens": 4,
            }
        ]


def test_a_text_that_the_model_is_unsure_of_says_so(
    run: Run, unsure_parrot: Path, folder: Path, tmp_path: Path
) -> None:
    for command in ("read", "caption"):
        asked = (command, folder / "a.png", "--model", unsure_parrot, "--max-tokens", "4")
        finished = run(*asked)
        assert finished.stdout == "baaa\n"
        assert "Unsure: these words have a probability of less than 1 %" in finished.stderr
        (record,) = records(run(*asked, "--json").stdout)
        assert record["is_unsure"] is True and float(str(record["confidence"])) < 0.01
        assert "Unsure of 1:" in run(*asked, "--output", tmp_path / f"{command}.jsonl").stderr
    asked = ("read", folder / "a.png", "--model", unsure_parrot, "--field", "sum=What is the total?")
    finished = run(*asked)
    assert json.loads(finished.stdout) == {"sum": None} and "Unsure, and left out: sum" in finished.stderr
    (record,) = records(run(*asked, "--json").stdout)
    assert record["fields"] == {"sum": None} and record["unsure_fields"] == ["sum"] and record["is_unsure"] is True


def test_fields_that_are_cut_short_are_asked_again_where_more_is_allowed(
    run: Run, parrot: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "fields.jsonl"
    asked = ("read", folder / "a.png", "--model", parrot, "--field", "sum=What is the total?", "--output", output)
    finished = run(*asked, "--max-tokens", "2")
    assert finished.returncode == 0 and "Cut short." in finished.stderr
    (short,) = records(output.read_text())
    assert (short["finish_reason"], short["max_tokens"]) == ("length", 2)
    assert run(*asked, "--max-tokens", "4", "--resume").returncode == 0
    (longer,) = records(output.read_text())
    assert longer["max_tokens"] == 4 and longer["fields"] != short["fields"]


def test_questions_for_fields_are_different_ones_and_instead_of_the_usual(
    fails: Callable[..., str], parrot: Path, folder: Path
) -> None:
    asked = ("read", folder / "a.png", "--model", parrot, "--field", "sum=What is the total?")
    assert "two questions for 'sum'" in fails(*asked, "--field", "sum=How much is it?", code=2)
    assert "got both" in fails(*asked, "--fields", code=2)


def test_a_folder_is_read_file_by_file_and_page_by_page(run: Run, parrot: Path, folder: Path) -> None:
    finished = run("read", folder, "--model", parrot, "--max-tokens", "2", "--json")
    assert finished.returncode == 1
    assert "c.jpg" in finished.stderr and "1 of 4 could not be read" in finished.stderr
    assert "Traceback" not in finished.stderr
    found = records(finished.stdout)
    assert [(Path(str(one["file"])).name, one.get("page")) for one in found] == [
        ("a.png", None), ("c.jpg", None), ("b.pdf", 1), ("b.pdf", 2),
    ]  # fmt: skip
    assert ["error" in one for one in found] == [False, True, False, False]


def test_one_bad_picture_is_told_in_one_line(fails: Callable[..., str], parrot: Path, folder: Path) -> None:
    assert "c.jpg: " in fails("read", folder / "c.jpg", "--model", parrot)


def test_results_grow_and_are_gone_on_with(
    run: Run, fails: Callable[..., str], parrot: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    again = ("read", folder, "--model", parrot, "--max-tokens", "2", "--output", output)
    assert run(*again).returncode == 1
    whole = output.read_text()
    assert len(records(whole)) == 4
    assert "--resume" in fails(*again)
    assert output.read_text() == whole
    # A kill in the middle of a line leaves a part of it.
    first = whole.splitlines(keepends=True)[0]
    output.write_text(first.replace('"text": "', '"text": "kept ') + '{"file": "')
    Image.new("RGB", (30, 30), "green").save(folder / "c.jpg")
    finished = run(*again, "--resume")
    assert finished.returncode == 0, finished.stderr
    found = records(output.read_text())
    assert len(found) == 4 and str(found[0]["text"]).startswith("kept ") and "error" not in output.read_text()
    before = output.read_bytes()
    assert run(*again, "--resume").returncode == 0
    longer = run("read", folder, "--model", parrot, "--max-tokens", "3", "--output", output, "--resume")
    assert longer.returncode == 0 and [one["max_tokens"] for one in records(output.read_text())] == [3] * 4
    before = output.read_bytes()
    assert run(*again, "--resume").returncode == 0 and output.read_bytes() == before, "what is longer is enough"
    told = fails(*again, "--resume", "--fields")
    assert "go with wanted 'fields', got 'text'" in told
    assert output.read_bytes() == before


def test_what_is_there_stays_until_something_better_comes(
    run: Run, fails: Callable[..., str], parrot: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    again = ("read", "--model", parrot, "--output", output)
    assert run(*again, folder / "a.png", "--max-tokens", "2").returncode == 0
    cut = output.read_bytes()
    longer = (*again, "--resume", "--max-tokens", "3")
    assert "cuda:7" in fails(*longer, folder / "a.png", "--device", "cuda:7")
    assert output.read_bytes() == cut, "a model that cannot be loaded costs nothing"
    assert run(*longer, folder / "deeper" / "b.pdf").returncode == 0
    assert output.read_bytes().startswith(cut), "nor do other pages"
    (folder / "a.png").write_bytes(b"broken")
    assert run(*longer, folder / "a.png").returncode == 1
    assert output.read_bytes().startswith(cut), "nor a picture that can no longer be read"
    assert len(records(output.read_text())) == 3


def test_fields_are_asked_for_one_by_one(run: Run, parrot: Path, folder: Path) -> None:
    asked = ("--field", "sum=What is the total?", "--field", "day=Which date?")
    finished = run("read", folder / "a.png", "--model", parrot, *asked, "--json")
    (found,) = records(finished.stdout)
    assert list(found["fields"]) == ["sum", "day"]  # type: ignore[call-overload]
    of_its_kind = run("read", folder / "a.png", "--model", parrot, "--fields")
    assert "kind" in json.loads(of_its_kind.stdout)


def test_what_cannot_start_is_told(run: Run, fails: Callable[..., str], parrot: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 cut off")
    for words, told in (
        ((tmp_path / "broken.pdf", "--resume"), "--output"),
        ((tmp_path / "broken.pdf", "--field", "total"), "NAME=QUESTION"),
        ((tmp_path / "broken.pdf", "--output", tmp_path / "no" / "x.jsonl"), "no place for a file"),
        ((tmp_path / "broken.pdf", "--output", tmp_path / "x.jsonl", "--json"), "leave --json out"),
    ):
        finished = run("read", *words, "--model", parrot)
        assert finished.returncode == 2 and told in finished.stderr, words
    for place, told in (("none.png", "Expected a file or folder at"), ("empty", "Expected pictures or PDFs in")):
        assert told in fails("read", tmp_path / place, "--model", parrot)
    broken = run("read", tmp_path / "broken.pdf", "--model", parrot, "--json")
    assert broken.returncode == 1 and "Cannot open the PDF" in records(broken.stdout)[0]["error"]  # type: ignore[operator]
    for mine in (b"Dear diary,\n", b"Dear diary,", b'{"a": 1}', b"\x00\x01"):
        (tmp_path / "mine.txt").write_bytes(mine)
        told = fails("read", tmp_path / "broken.pdf", "--model", parrot, "--output", tmp_path / "mine.txt", "--resume")
        assert "Expected results" in told and (tmp_path / "mine.txt").read_bytes() == mine


def test_what_comes_by_a_pipe_is_new_each_time(run: Run, parrot: Path, folder: Path, tmp_path: Path) -> None:
    asked = ("read", "-", "--model", parrot, "--max-tokens", "1", "--output", tmp_path / "x.jsonl", "--resume")
    for _ in range(2):
        assert run(*asked, input=(folder / "a.png").read_bytes()).returncode == 0
    assert len(records((tmp_path / "x.jsonl").read_text())) == 2


def test_the_embedded_model_reads_a_page_line_by_line(run: Run) -> None:
    page = KEPT / "documents-4-test-175.jpg"
    (record,) = records(run("read", page, "--json").stdout)
    lines = record["lines"]
    assert isinstance(lines, list) and len(lines) > 10
    assert {"text", "box", "confidence"} == set(lines[0])
    assert "0.08" in [line["text"] for line in lines]
    assert str(record["text"]).count("\n") < len(lines)  # rows hold several
    assert (record["finish_reason"], record["file"]) == ("stop", str(page))
    printed = run("read", page)
    assert printed.stdout == f"{record['text']}\n"
    (at_once,) = records(run("read", page, "--json", "--at-once").stdout)
    assert "lines" not in at_once and at_once["text"] != record["text"]


def test_results_of_one_look_are_not_gone_on_with_line_by_line(
    run: Run, fails: Callable[..., str], parrot: Path, folder: Path, tmp_path: Path
) -> None:
    asked = ("read", folder / "a.png", "--model", parrot, "--max-tokens", "4", "-o", tmp_path / "results.jsonl")
    assert run(*asked, "--at-once").returncode == 0
    assert "go with at_once False, got True" in fails(*asked, "--resume")
    assert run(*asked, "--resume", "--at-once").returncode == 0
    line_by_line = (*asked[:-1], tmp_path / "other.jsonl")
    assert run(*line_by_line).returncode == 0
    assert "go with at_once True, got False" in fails(*line_by_line, "--resume", "--at-once")


def test_without_what_draws_pdfs_the_rest_of_a_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, extra: str) -> None:
        raise MissingExtraError(f"This needs {package}: pip install 'fastvlm[{extra}]'")

    monkeypatch.setattr(pdf, "require_extra", missing)
    picture, broken, document = pages_of([str(folder)])
    assert [Path(page.file).name for page in (picture, broken, document)] == ["a.png", "c.jpg", "b.pdf"]
    with pytest.raises(ImageError, match="This needs pypdfium2"):
        document.picture()


def test_a_scan_of_several_pages_is_read_page_by_page(run: Run, parrot: Path, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (120, 80), color) for color in ("red", "blue", "white")]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "single.tiff")
    found = records(run("read", tmp_path, "--model", parrot, "--max-tokens", "2", "--json").stdout)
    assert [(Path(str(one["file"])).name, one.get("page")) for one in found] == [
        ("scan.tif", 1), ("scan.tif", 2), ("scan.tif", 3), ("single.tiff", None),
    ]  # fmt: skip
    asked = run("ask", tmp_path / "scan.tif", "What is this?", "--model", parrot, "--max-tokens", "2")
    assert asked.returncode == 0
    assert asked.stderr.count("scan.tif has 3 pages, and the first is looked at; `fastvlm read` reads all.\n") == 1
