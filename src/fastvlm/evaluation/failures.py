"""A page of what a model got wrong, with the pictures: chosen by the hash of the questions' names, not by taste.

`python -m fastvlm.evaluation.failures docs/results/documents.json docs/failures.md` writes the page, and its pictures
beside it. The questions are made anew, so that the typefaces must be those of the report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastvlm.errors import DataError
from fastvlm.evaluation.questions import Picture
from fastvlm.evaluation.suite import question_set
from fastvlm.files import write_whole

_GREATEST_SIDE_PX = 448
_QUALITY = 85
"""Of JPEG: documents are noisy, and without loss their noise would be most of the page."""

_COLUMNS = "| picture | asked | expected | answered |\n| --- | --- | --- | --- |"


def write_failures(report: Mapping[str, Any], page: Path) -> None:
    """Write the mistakes of a report (the JSON of `fastvlm eval`) as a Markdown page with a folder of pictures.

    Raises DataError where a question of the report is not among those that this machine makes.
    """
    largest = max(family["n"] for family in report["families"])
    asked = question_set(report["task"], data=None, limit_per_family=largest).asked
    known = {question.question_id: question for question in asked}
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    sections: dict[str, list[str]] = {}
    for mistake in report["mistakes"]:
        question = known.get(mistake["question_id"])
        if question is None or question.text != mistake["question"]:
            raise DataError(
                f"Expected the question {mistake['question_id']} of the report among those of this machine. "
                "Measure anew with the typefaces that are installed here."
            )
        name = _picture_file(question.picture, folder)
        cells = (f"![picture]({folder.name}/{name})", *(_plain(mistake[key]) for key in _SHOWN))
        sections.setdefault(question.family, []).append(f"| {' | '.join(cells)} |")
    write_whole(page, _page(report, sections))


_SHOWN = ("question", "expected", "answered")


def _picture_file(picture: Picture, folder: Path) -> str:
    name = picture.picture_id.replace("/", "-") + ".jpg"
    if not (folder / name).is_file():
        image = Image.fromarray(np.ascontiguousarray(picture.load()))
        image.thumbnail((_GREATEST_SIDE_PX, _GREATEST_SIDE_PX))
        image.save(folder / name, quality=_QUALITY)
    return name


def _plain(text: str) -> str:
    """A text that a cell of a table can hold."""
    return " / ".join(text.replace("|", "\\|").splitlines()) or "(nothing)"


def _page(report: Mapping[str, Any], sections: Mapping[str, Sequence[str]]) -> str:
    wrong = {family["family"]: (family["n"] - family["correct"], family["n"]) for family in report["families"]}
    parts = [
        f"# What the model got wrong: {report['task']}\n\n"
        "The first mistakes of each family in the order of the hashes of their questions' names: nobody chose them. "
        f"Weights sha256 `{report['model']['weights'][0]['sha256'][:16]}`, questions sha256 "
        f"`{report['questions']['sha256'][:16]}`. Made by `python -m fastvlm.evaluation.failures`.\n"
    ]
    for family, rows in sections.items():
        number, of = wrong[family]
        parts.append(f"\n## {family}: {number} of {of} wrong\n\n{_COLUMNS}\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def main(report: Path, page: Path) -> None:
    """Write the page of one report."""
    write_failures(json.loads(report.read_text(encoding="utf-8")), page)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Expected the file of a report and the page to write, got something else.")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
