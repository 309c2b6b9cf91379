"""Many pictures and pages as input: files, folders and PDFs, and results as lines of JSON that can be gone on with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fastvlm.cli.options import (
    EMBEDDED,
    STANDARD_INPUT,
    ModelOptions,
    load_assistant,
    num_pages_of,
    picture_source,
)
from fastvlm.cli.output import (
    check_place,
    described_resolution,
    note,
    note_if_cut,
    note_if_unsure,
    note_resolution,
    print_json,
)
from fastvlm.errors import DataError, ImageError, MissingExtraError
from fastvlm.files import PICTURE_SUFFIXES, write_whole

if TYPE_CHECKING:
    from fastvlm.inference.answers import Answer
    from fastvlm.inference.assistant import Assistant
    from fastvlm.inference.reading import Asks, ReadText

Work = Callable[[object], Mapping[str, object]]
"""What is done to one picture, as an assistant takes it; what it returns is its record."""

_START_OF_RECORD = b'{"file": "'

MAX_TOKENS = 512
"""A page of text is longer than an answer."""

_INPUT_OPTIONS = (
    click.argument("words", nargs=-1, required=True, metavar="FILE|FOLDER..."),
    click.option(
        "--output",
        "-o",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="JSONL",
        help="Write one JSON object a line for each page, as it is done.",
    ),
    click.option("--resume", is_flag=True, help="Go on with --output: what is in it is not done again."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each page."),
    click.option(
        "--max-tokens", type=click.IntRange(min=1), default=MAX_TOKENS, show_default=True, help="Longest answer."
    ),
)


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what commands share that do the same to many pages."""
    for option in reversed(_INPUT_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Page:
    """A picture, or a page of a PDF or of a TIFF file with several, numbered from 1.

    picture: gives it as an assistant takes it, a file by its path, so that it is decoded no larger than it is looked
    at. Raises ImageError.
    """

    file: str
    number: int | None
    picture: Callable[[], object]

    @property
    def name(self) -> str:
        """How a person calls it."""
        return self.file if self.number is None else f"{self.file}, page {self.number}"

    @property
    def key(self) -> tuple[str, int | None]:
        """What it is known by in results."""
        return self.file, self.number


def pages_of(words: Sequence[str]) -> list[Page]:
    """Every picture and page that arguments name: files as they are, folders with all that is below them, in order.

    A file whose pages cannot be counted is one page, whose loading says why. Raises DataError for a word that names
    nothing.
    """
    found: list[Page] = []
    for word in words:
        path = Path(word)
        if word != STANDARD_INPUT and not path.exists():
            raise DataError(f"Expected a file or folder at {word}, found none. Check the path.")
        found += _of_folder(path) if path.is_dir() else _of_file(word)
    if not found:
        raise DataError(f"Expected pictures or PDFs in {', '.join(words)}, found none. Check the path.")
    return found


def _of_folder(folder: Path) -> Iterator[Page]:
    from fastvlm.processing.pdf import PDF_SUFFIX

    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in {*PICTURE_SUFFIXES, PDF_SUFFIX}:
            yield from _of_file(str(path))


def _of_file(word: str) -> Iterator[Page]:
    from fastvlm.processing import images, pdf

    path = Path(word)
    try:
        if path.suffix.lower() == pdf.PDF_SUFFIX:
            for number in range(pdf.count_pages(path)):
                yield Page(word, number + 1, partial(pdf.read_page, path, number))
            return
        num_pages = num_pages_of(word)
        if num_pages == 1:
            yield Page(word, None, partial(picture_source, word))
            return
        for number in range(num_pages):
            yield Page(word, number + 1, partial(images.read_image, path, page=number))
    except (ImageError, MissingExtraError) as error:
        yield Page(word, None, partial(_refuse, ImageError(str(error))))


def _refuse(error: ImageError) -> NoReturn:
    raise error


def text_work(assistant: Asks, question: str, *, max_tokens: int) -> Work:
    """The work of asking one question: its records tell the answer, how sure the model is, and whether that is all."""

    def work(image: object) -> dict[str, object]:
        return _text_record(assistant.ask(question, images=image, max_new_tokens=max_tokens), max_tokens=max_tokens)

    return work


def _text_record(answer: Answer | ReadText, *, max_tokens: int) -> dict[str, object]:
    resolution = described_resolution(answer.resolution)
    return {
        "text": answer.text,
        "confidence": float(f"{answer.confidence:.3g}"),
        "is_unsure": answer.is_unsure,
        "finish_reason": answer.finish_reason,
        "max_tokens": max_tokens,
        **({} if resolution is None else {"resolution": resolution}),
    }


def page_work(assistant: Assistant, *, max_tokens: int) -> Work:
    """The work of reading all text: its records tell it as `text_work` does, and each line where they were read so."""
    from fastvlm.inference.reading import read_text

    def work(image: object) -> dict[str, object]:
        read = read_text(assistant, image, assistant.closer_look, max_new_tokens=max_tokens)
        record = _text_record(read, max_tokens=max_tokens)
        if read.lines:
            record["lines"] = [
                {"text": line.text, "box": line.box, "confidence": float(f"{line.confidence:.3g}")}
                for line in read.lines
            ]
        return record

    return work


def fields_work(assistant: Asks, questions: Mapping[str, str] | None, *, max_tokens: int) -> Work:
    """The work of asking for fields: its records tell them, of which the model is unsure, and whether one is cut."""
    from fastvlm.inference.reading import read_fields

    def work(image: object) -> dict[str, object]:
        fields = read_fields(assistant, image, questions, max_new_tokens=max_tokens)
        return {
            "fields": dict(fields.values),
            "unsure_fields": list(fields.unsure),
            "is_unsure": bool(fields.unsure),
            "finish_reason": fields.finish_reason,
            "max_tokens": max_tokens,
        }

    return work


class Results:
    """A file of JSON lines that grows with each page; what an earlier call has written is not done again.

    What could not be read is tried again, and so is what was cut short where more is allowed now. What is there stays
    until something better has come in its place.
    asked: what is said of each page beside its place, and has to be the same in what is gone on with.
    """

    def __init__(self, path: Path, *, asked: Mapping[str, object], max_tokens: int, resume: bool) -> None:
        self.path, self.asked, self._max_tokens = path, asked, max_tokens
        self.done: set[tuple[object, object]] = set()
        if path.exists() and not resume:
            raise DataError(f"{path} exists. Go on with it by --resume, or choose another --output.")
        if path.exists():
            self._read()

    def _read(self) -> None:
        """Take up what is there; a last line that a kill cut off is dropped."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        try:
            _require_start_of_record(data[end:])
            for key, (_, record) in _latest(data[:end]).items():
                self._require_same(record)
                if self._is_whole(record):
                    self.done.add(key)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"Expected results in {self.path}, one JSON object a line. Choose another --output."
            ) from error
        if end < len(data):
            write_whole(self.path, data[:end])

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        """Whether a page needs no second try."""
        is_cut = record.get("finish_reason") == "length" and record["max_tokens"] < self._max_tokens
        return "error" not in record and not is_cut

    def _require_same(self, record: Mapping[str, object]) -> None:
        said = {"at_once": False, **record}
        for name, value in {"at_once": False, **self.asked}.items():
            if said[name] != value:
                raise DataError(
                    f"Expected results in {self.path} that go with {name} {value!r}, got {said[name]!r}. "
                    "Choose another --output."
                )

    @contextmanager
    def writer(self) -> Iterator[Callable[[Mapping[str, object]], None]]:
        """Give a function that writes a line and sees to it that it is on its way to the disk.

        In the end, lines in whose place another has come are taken out.
        """
        with self.path.open("a", encoding="utf-8") as file:

            def write(record: Mapping[str, object]) -> None:
                file.write(json.dumps(record) + "\n")
                file.flush()

            yield write
        data = self.path.read_bytes()
        kept = b"".join(line for line, _ in _latest(data).values())
        if kept != data:
            write_whole(self.path, kept)


def _latest(data: bytes) -> dict[tuple[object, object], tuple[bytes, dict[str, Any]]]:
    """The last line of each page, in the order of the first, and what it says; no error takes the place of a text."""
    found: dict[tuple[object, object], tuple[bytes, dict[str, Any]]] = {}
    for number, line in enumerate(data.splitlines(keepends=True)):
        record = json.loads(line)
        # What comes in by a pipe is new each time.
        key = (record["file"], number if record["file"] == STANDARD_INPUT else record.get("page"))
        if key not in found or "error" not in record:
            found[key] = line, record
    return found


def _require_start_of_record(line: bytes) -> None:
    """Raise ValueError for a line without an end that is none of ours, so that nobody's file is taken for a result."""
    start = _START_OF_RECORD[: len(line)]
    if not line.startswith(start):
        raise ValueError(f"Expected a line that begins with {start!r}.")


def print_record(record: Mapping[str, Any], *, shows_name: bool) -> None:
    """Print a record for people: its text or its fields on stdout, the rest on stderr; an error was told already."""
    if "error" in record:
        return
    if shows_name:
        page = record.get("page")
        note(f"{record['file']}" + (f", page {page}:" if page is not None else ":"))
    if "fields" in record:
        click.echo(json.dumps(record["fields"], indent=2, ensure_ascii=False))
        if record["unsure_fields"]:
            note("Unsure, and left out: " + ", ".join(record["unsure_fields"]))
    else:
        click.echo(str(record["text"]))
        if not record["text"]:
            note("There is no text.")
        note_if_unsure(record["confidence"], is_unsure=record["is_unsure"])
        note_resolution(record.get("resolution"))


@dataclass
class Outcome:
    """How many pages could not be read, what was wrong with the last one, and of how many the model is unsure."""

    num_failed: int = 0
    last_error: str = ""
    num_unsure: int = 0


def process(
    pages: Sequence[Page],
    work: Work,
    write: Callable[[Mapping[str, object]], None],
    *,
    asked: Mapping[str, object],
    done: Collection[tuple[object, object]],
    report: Callable[[int, int], None],
) -> Outcome:
    """Do all pages that are not done, and go on past those that cannot be read."""
    outcome = Outcome()
    for count, page in enumerate(pages, start=1):
        if page.key not in done:
            place = {"file": page.file} if page.number is None else {"file": page.file, "page": page.number}
            try:
                record = work(page.picture())
                note_if_cut(record.get("finish_reason"), place=f"{page.name}: ")
                write({**place, **asked, **record})
                outcome.num_unsure += bool(record.get("is_unsure"))
            except ImageError as error:
                outcome.last_error = f"{page.name}: {error}"
                outcome.num_failed += 1
                if len(pages) > 1:
                    note(f"error: {outcome.last_error}")
                write({**place, **asked, "error": str(error)})
        report(count, len(pages))
    return outcome


def run_over_pages(
    words: tuple[str, ...],
    output: Path | None,
    work_of: Callable[[Any], Work],
    options: ModelOptions,
    *,
    wanted: str,
    max_tokens: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Load the model and do the work of a command to every page.

    work_of: from the assistant to the work, whose answers have at most `max_tokens`. wanted: what the work is for,
    which results are marked with. Raises UsageError for flags that do not go together, DataError where nothing is
    there to be read, and in the end where pages could not be.
    """
    context = click.get_current_context()
    if resume and output is None:
        raise click.UsageError("--resume needs the file to go on with: --output.", context)
    if as_json and output is not None:
        raise click.UsageError("--output writes JSON anyway: leave --json out.", context)
    check_place(output, flag="--output")
    pages = pages_of(words)
    asked: dict[str, object] = {"wanted": wanted, "model": options["model"] or EMBEDDED}
    if options["at_once"]:
        asked["at_once"] = True
    results = None if output is None else Results(output, asked=asked, max_tokens=max_tokens, resume=resume)
    work = work_of(load_assistant(options))
    writing = (
        results.writer()
        if results is not None
        else nullcontext(print_json if as_json else partial(print_record, shows_name=len(pages) > 1))
    )
    with writing as write, _progress(is_wanted=results is not None) as report:
        done = results.done if results is not None else set()
        outcome = process(pages, work, write, asked=asked, done=done, report=report)
    if results is not None:
        note(f"Written: {results.path}")
        if outcome.num_unsure:
            note(f'Unsure of {outcome.num_unsure}: "is_unsure" tells which. More such answers were wrong than right.')
    if outcome.num_failed:
        is_alone = len(pages) == 1
        raise DataError(outcome.last_error if is_alone else f"{outcome.num_failed} of {len(pages)} could not be read.")


@contextmanager
def _progress(*, is_wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing otherwise."""
    if not is_wanted or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("pages", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
