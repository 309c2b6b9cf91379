"""What tasks about other people's pictures share: the list of a folder, and the words of a question."""

from __future__ import annotations

import json
from pathlib import Path

from fastvlm.data.synthetic.documents.phrasings import PHRASINGS
from fastvlm.data.synthetic.documents.questions import Phrasing
from fastvlm.errors import DataError


def first_wording(intent: str, phrasing: Phrasing) -> str:
    """The first template for an intent among those of training or those that only judge."""
    wordings = PHRASINGS[intent]
    return wordings.train[0] if phrasing == "train" else wordings.held_out[0]


def read_entries(path: Path, *, what: str, advice: str = "Give its folder.") -> list[tuple[object, str]]:
    """Read a JSON list; each entry with the words that name it in an error.

    what: of its entries, in the plural. advice: what to do about a file that is not there.

    Raises DataError for a file that is not there, is no JSON, or holds nothing.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Expected {path.name} in {path.parent}, got: {error.strerror}. {advice}") from error
    except ValueError as error:
        raise DataError(f"Expected JSON in {path}, got: {error}. Get the file again.") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"Expected a list of {what} in {path}, got none.")
    return [(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, start=1)]
