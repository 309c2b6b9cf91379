"""The tables of the model card, made from stored reports so that no number in it is typed by hand.

`python -m fastvlm.evaluation.card docs/embedded_model.md` renews every table between its two marks:
`<!-- report: results/FILE.json -->` and `<!-- end of report -->`, with the path relative to the document.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvlm.files import write_whole

_MARKED = re.compile(r"(<!-- report: (?P<file>\S+) -->\n)(?P<table>.*?)(<!-- end of report -->)", re.DOTALL)

_HEADINGS = ("family", "n", "right %", "95 % interval", "majority %", "blind %", "shuffled %", "unseen phrasings %")


_READ_HEADINGS = ("ANLS", "wrong characters %")

_SURE = 0.5
"""The confidence from which on answers are told of."""


def renewed(document: str, folder: Path) -> str:
    """Return the text of a document with its tables made anew from the reports below `folder`."""

    def table(match: re.Match[str]) -> str:
        report = json.loads((folder / match["file"]).read_text(encoding="utf-8"))
        return f"{match[1]}\n{report_table(report)}\n\n{match[4]}"

    return _MARKED.sub(table, document)


def report_table(report: Mapping[str, Any]) -> str:
    """Write a report (the JSON of `fastvlm eval`) as a Markdown table with what its numbers stand on."""
    families = [*report["families"], report["overall"]]
    is_read = any("anls" in family for family in families)
    headings = (*_HEADINGS, *(_READ_HEADINGS if is_read else ()))
    rows = [(*_row(family), *(_read_cells(family) if is_read else ())) for family in families]
    lines = [headings, tuple("---" if index == 0 else "--:" for index in range(len(headings))), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    weights = ", ".join(f"`{file['file']}` sha256 `{file['sha256'][:16]}`" for file in report["model"]["weights"])
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    questions = report["questions"]
    return (
        f"{table}\n\n"
        f"{_limits(report)}"
        f"Task `{report['task']}`, questions {questions['frozen_set'] or 'in no frozen set'} "
        f"(sha256 `{questions['sha256'][:16]}`, generator version {questions['generator_version']}); "
        f"weights {weights}; {report['runtime']}; {report['machine']}; {versions}; "
        f"{report['ms_per_question']:.1f} ms a question."
    )


def _row(family: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = family["interval_95"]
    others = (family[name] for name in ("majority", "blind", "shuffled", "unseen_phrasings"))
    return (
        family["family"],
        str(family["n"]),
        f"{100 * family['accuracy']:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        *("" if other is None else f"{100 * other['accuracy']:.1f}" for other in others),
    )


def _read_cells(family: Mapping[str, Any]) -> tuple[str, ...]:
    """How near answers come that are read letter by letter."""
    if "anls" not in family:
        return "", ""
    return f"{family['anls']:.3f}", f"{100 * family['character_error_rate']:.1f}"


def _limits(report: Mapping[str, Any]) -> str:
    """How well a model knows what it does not know, where that was measured."""
    told = []
    if (refusals := report.get("false_refusals")) is not None:
        low, high = refusals["interval_95"]
        told.append(
            f"Refused though the picture has the answer: {100 * refusals['accuracy']:.1f} % of {refusals['n']} "
            f"questions ({100 * low:.1f} to {100 * high:.1f})."
        )
    for point in report.get("coverage", ()):
        if point["confidence"] == _SURE:
            told.append(
                f"Confident ({_SURE:g} or more) of {100 * point['share']:.0f} % of the answers, "
                f"{100 * point['accuracy']:.1f} % of which are right."
            )
    return " ".join(told) + "\n\n" if told else ""


def main(path: Path) -> None:
    """Renew the tables of one document in place."""
    write_whole(path, renewed(path.read_text(encoding="utf-8"), path.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
