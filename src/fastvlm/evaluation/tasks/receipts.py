"""Questions about scanned receipts of other people: a folder in the layout of ICDAR 2019 SROIE.

A folder holds `receipts.json`, a list of objects with `image` (a file beside it), `total`, `date` and `lines`, each
with its `text` and its `box` (left, top, right, bottom in pixels), and the pictures. Short lines are cut out of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.documents.questions import Phrasing
from fastvlm.errors import DataError
from fastvlm.evaluation.questions import EvaluationQuestion, Picture
from fastvlm.evaluation.tasks.documents import SHORT_LINE_CHARACTERS
from fastvlm.evaluation.tasks.entries import first_wording, read_entries
from fastvlm.processing.images import read_image

RECEIPTS_FILE = "receipts.json"
LINE_FAMILY = "short line"

_MARGIN = 0.2
"""Left around a line that is cut out, by its height."""


@dataclass(frozen=True)
class Line:
    """A line of a receipt. box: left, top, right, bottom in pixels."""

    text: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class ScannedReceipt:
    """A picture with what is known of it."""

    image: Path
    total: str
    date: str
    lines: tuple[Line, ...]


def read_receipts(folder: Path) -> list[ScannedReceipt]:
    """Read the receipts of a folder in the order of their pictures' names.

    Raises DataError, which names the entry, for a folder that is not in this layout.
    """
    found = [_receipt(entry, folder, place) for entry, place in read_entries(folder / RECEIPTS_FILE, what="receipts")]
    return sorted(found, key=lambda receipt: receipt.image.name)


def _receipt(entry: object, folder: Path, place: str) -> ScannedReceipt:
    match entry:
        case {"image": str(image), "total": str(total), "date": str(date), "lines": list(lines)}:
            return ScannedReceipt(folder / image, total, date, tuple(_line(line, place) for line in lines))
    raise DataError(f"Expected image, total, date and lines in {place}.")


def _line(entry: object, place: str) -> Line:
    match entry:
        case {"text": str(text), "box": [int(left), int(top), int(right), int(bottom)]} if (
            left < right and top < bottom
        ):
            return Line(text, (left, top, right, bottom))
    raise DataError(f"Expected lines with text and box (left, top, right, bottom) in {place}.")


def receipt_questions(folder: Path, *, limit_per_family: int, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Ask for short lines, cut out and chosen by their digests, and for totals and dates of whole receipts.

    Raises DataError.
    """
    receipts = read_receipts(folder)
    lines = [
        (receipt, number)
        for receipt in receipts
        for number, line in enumerate(receipt.lines)
        if 0 < len(line.text.strip()) <= SHORT_LINE_CHARACTERS
    ]
    lines.sort(key=lambda one: hashlib.sha256(f"{one[0].image.name}/{one[1]}".encode()).hexdigest())
    questions = [_about_line(receipt, number, phrasing) for receipt, number in lines[:limit_per_family]]
    for receipt in receipts[:limit_per_family]:
        questions += _about_whole(receipt, phrasing)
    return questions


def _about_line(receipt: ScannedReceipt, number: int, phrasing: Phrasing) -> EvaluationQuestion:
    name = f"receipts/{receipt.image.stem}/{number}"
    picture = Picture(name, "resized", partial(_cut_out, receipt.image, receipt.lines[number].box))
    text = first_wording("says", phrasing).format(doc="line")
    return EvaluationQuestion(
        f"{name}/{phrasing}", picture, LINE_FAMILY, "says", text, receipt.lines[number].text.strip()
    )


def _about_whole(receipt: ScannedReceipt, phrasing: Phrasing) -> Iterator[EvaluationQuestion]:
    name = f"receipts/{receipt.image.stem}"
    picture = Picture(name, "resized", partial(read_image, receipt.image))
    for intent, answer in (("total", receipt.total), ("date", receipt.date)):
        text = first_wording(intent, phrasing).format(doc="receipt")
        yield EvaluationQuestion(f"{name}/{intent}/{phrasing}", picture, f"receipt {intent}", intent, text, answer)


def _cut_out(image: Path, box: tuple[int, int, int, int]) -> UInt8Array:
    """A line with a little of what is around it."""
    picture = read_image(image)
    left, top, right, bottom = box
    margin = round(_MARGIN * (bottom - top))
    height, width = picture.shape[:2]
    part = picture[
        max(0, top - margin) : min(height, bottom + margin), max(0, left - margin) : min(width, right + margin)
    ]
    if not part.size:
        raise DataError(f"Expected a box inside of {image}, got {box}.")
    return np.ascontiguousarray(part)
