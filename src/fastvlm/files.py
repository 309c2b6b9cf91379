"""Files and folders that appear whole or not at all, and which of them have the names of pictures."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PICTURE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"))
"""What names of pictures end with, in lower case; whether one can be read is told when it is."""


PAGED_SUFFIXES = frozenset((".tif", ".tiff"))
"""Those of pictures that may have several pages."""

_HIDDEN = ".fastvlm-"
"""How names begin of what is not whole yet."""

_LONGEST_WRITE_S = 3600.0
_NUM_SAMPLES, _SAMPLE_BYTES = 64, 4096


def pictures_in(folder: Path) -> list[Path]:
    """The files of a folder that have the name of a picture, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; it takes that place once the block ends without an error.

    It is flushed to the disk first, and removed on any failure, which leaves an existing file as it was. The
    permissions of an existing file are kept, and a new one gets the usual. A link stays a link to the new content.
    Raises OSError, with `path` as its file, for a folder or a device in that place and where writing fails.
    """
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f"{_HIDDEN}{secrets.token_hex(6)}.tmp")
    try:
        mode = _mode_of_file(place)
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, place)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, data: bytes | memoryview | str) -> None:
    """Write bytes, or text as UTF-8, as a file that appears whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def samples(path: Path, num_bytes: int) -> Iterator[bytes]:
    """Pieces from all over the first `num_bytes` of a file, which tell it from another at a glance."""
    with path.open("rb") as stream:
        for start in range(0, num_bytes, max(_SAMPLE_BYTES, num_bytes // _NUM_SAMPLES)):
            stream.seek(start)
            yield stream.read(min(_SAMPLE_BYTES, num_bytes - start))


def fingerprint(files: Iterable[Path]) -> str:
    """What tells files from others: sizes, times and samples. To read gigabytes at every start would take too long."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(repr((str(file.resolve()), status.st_size, status.st_mtime_ns)).encode())
        for sample in samples(file, status.st_size):
            digest.update(sample)
    return digest.hexdigest()


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a hidden folder in another, removed in the end; that of a killed process is found by `remove_leftovers`."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=_HIDDEN) as folder:
        yield Path(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half-written in a folder, an hour or longer ago."""
    for path in folder.glob(f"{_HIDDEN}*"):
        with contextlib.suppress(OSError):  # another process may have been faster
            if time.time() - path.stat().st_mtime > _LONGEST_WRITE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_free(folder: Path) -> bool:
    """Whether a new folder can come into a place: nothing is there, or an empty folder.

    What a killed process has left there half-written, under a hidden name, is nothing that anybody would miss.
    """
    return not folder.exists() or (folder.is_dir() and all(path.name.startswith(_HIDDEN) for path in folder.iterdir()))


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a hidden folder to write files into; they are at `path` once the block ends without an error.

    Its files are flushed to the disk first, and it is removed on any failure. What is missing above `path` is made.
    An empty folder that is there stays the same one, with its permissions: it may be where a shell stands, a link or
    a mounted disk. The weights come into it first and the configuration last, by which others know a checkpoint.
    Raises OSError where writing fails, or where `path` is a file or a folder with content.
    """
    place = Path(os.path.realpath(path))
    _require_free(place)
    is_there = place.is_dir()
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place if is_there else place.parent, prefix=_HIDDEN))
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        if is_there:
            _require_free(place)
            _move_into(place, temporary)
        else:
            temporary.chmod(0o777 & ~umask())
            os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_free(place: Path) -> None:
    if not is_free(place):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(place))


def _move_into(place: Path, temporary: Path) -> None:
    """Move all files, or none where something comes between."""
    remove_leftovers(place)
    moved: list[Path] = []
    try:
        for file in sorted(temporary.iterdir(), key=lambda file: (file.suffix == ".json", file.name == "config.json")):
            moved.append(place / file.name)
            os.replace(file, place / file.name)
    except BaseException:  # Ctrl-C too: half a folder is worse than none
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    # Some systems only flush what is open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _mode_of_file(path: Path) -> int | None:
    """The permissions of a file, None where there is nothing; raises OSError for what is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return stat.S_IMODE(status.st_mode)


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe with a name, which gives what it has only once; False for what is no path at all."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
