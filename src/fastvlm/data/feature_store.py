"""What a frozen encoder made of each image, kept on disk: training then costs the decoder alone (paper stage 1)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import to_bfloat16, to_float32
from fastvlm.errors import DataError, one_line
from fastvlm.files import write_whole

IDENTITY_FILE, INDEX_FILE, VALUES_FILE = "identity.txt", "index.jsonl", "features.bf16"


@dataclass(frozen=True)
class _Entry:
    """Where an image's features stand: first row and number of rows."""

    start: int
    num_tokens: int


class FeatureStore:
    """Features of images in bfloat16, num tokens x width for each, by a key; written once, read often.

    folder: made if it does not exist. identity: the encoder and the preprocessing; what another one left is dropped.
    is_writer: False for others than the one process that writes, which open it once it has ended writing.
    A kill at any moment loses the last image at most. Raises DataError where the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, identity: str, width: int, is_writer: bool = True) -> None:
        self.folder, self.width = folder, width
        self._row_bytes = 2 * width
        if not is_writer:
            self._entries = self._read_index()
            self._num_rows = _num_rows(self._entries)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._is_own(identity):
                for name in (INDEX_FILE, VALUES_FILE):
                    (folder / name).unlink(missing_ok=True)
                write_whole(folder / IDENTITY_FILE, identity)
            self._entries = self._read_index()
            self._repair()
        except OSError as error:
            raise _unwritable(folder, error) from error

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return self._num_rows * self._row_bytes

    def add(self, key: str, features: Float32Array) -> None:
        """Append an image's features, num tokens x width. Raises DataError on a full disk; what was there remains."""
        entry = _Entry(self._num_rows, len(features))
        try:
            with (self.folder / VALUES_FILE).open("ab") as file:
                file.write(to_bfloat16(features).tobytes())
            with (self.folder / INDEX_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, entry.start, entry.num_tokens]) + "\n")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._entries[key] = entry
        self._num_rows += entry.num_tokens

    def __getitem__(self, key: str) -> Float32Array:
        entry = self._entries[key]
        count, offset = entry.num_tokens * self.width, entry.start * self._row_bytes
        bits = np.fromfile(self.folder / VALUES_FILE, np.uint16, count=count, offset=offset)
        return to_float32(bits).reshape(entry.num_tokens, self.width)

    def _is_own(self, identity: str) -> bool:
        return kept_identity(self.folder) == identity

    def _read_index(self) -> dict[str, _Entry]:
        """The entries whose line and whose values are whole."""
        values = self.folder / VALUES_FILE
        num_rows = values.stat().st_size // self._row_bytes if values.is_file() else 0
        entries: dict[str, _Entry] = {}
        if (self.folder / INDEX_FILE).is_file():
            for line in (self.folder / INDEX_FILE).read_text(encoding="utf-8").splitlines():
                try:
                    key, start, num_tokens = json.loads(line)
                except ValueError:
                    break
                if start + num_tokens > num_rows:
                    break
                entries[key] = _Entry(start, num_tokens)
        return entries

    def _repair(self) -> None:
        """Cut off what a kill left half-written."""
        self._num_rows = _num_rows(self._entries)
        if (self.folder / VALUES_FILE).is_file():
            with (self.folder / VALUES_FILE).open("r+b") as file:
                file.truncate(self._num_rows * self._row_bytes)
        lines = [json.dumps([key, entry.start, entry.num_tokens]) for key, entry in self._entries.items()]
        write_whole(self.folder / INDEX_FILE, "".join(f"{line}\n" for line in lines))


def _num_rows(entries: dict[str, _Entry]) -> int:
    return max((entry.start + entry.num_tokens for entry in entries.values()), default=0)


def kept_identity(folder: Path) -> str | None:
    """What features in a folder were made with; None where there are none."""
    path = folder / IDENTITY_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"Expected to keep the features of images in {folder}, got: {one_line(error)}. Free some space and resume."
    )
