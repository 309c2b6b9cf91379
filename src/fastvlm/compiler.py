"""The system's C++ compiler, where there is one: libraries are compiled where they are first wanted, and kept."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from fastvlm.files import replacing, write_whole
from fastvlm.machine import cache_folder, describe_processor

SWITCH = "FASTVLM_KERNELS"
"""An environment variable: `off` does without anything that is compiled."""

_COMPILERS = ("c++", "g++", "clang++")
_PATIENCE_S = 300
_FAILURE_LASTS_S = 24 * 3600


class NoLibraryError(Exception):
    """Says why there is no library; whoever wanted one does without."""


def reason_against_compiling() -> str | None:
    """Why nothing is to be compiled: it is switched off, or there is no compiler; None where it can be."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return f"{SWITCH} says so"
    return None if _compiler() else f"no C++ compiler was found ({os.environ.get('CXX') or ', '.join(_COMPILERS)})"


def compiled_library(
    sources: Sequence[Path],
    *,
    headers: Sequence[Path] = (),
    flags: Sequence[str],
    libraries: Sequence[str] = (),
    depends_on: str = "",
) -> Path:
    """Compile sources, which include the headers, for this very processor, or take the library from the cache.

    depends_on: what else the library must be made anew for. A compiler that fails is not asked again for a day; a
    library that is not as it was written is made anew. Raises NoLibraryError.
    """
    compiler, reason = _compiler(), reason_against_compiling()
    if reason is not None or compiler is None:
        raise NoLibraryError(reason)
    tuning = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [compiler, "-O3", tuning, "-std=c++20", "-shared", "-fPIC", *flags, *map(str, sources), *libraries]
    try:
        texts = [source.read_text() for source in (*sources, *headers)]
        depends = (texts, depends_on, describe_processor(), platform.libc_ver(), _version_of(compiler), command)
        place = cache_folder() / "kernels" / hashlib.sha256(repr(depends).encode()).hexdigest()[:24]
        library, failure = place.with_suffix(".so"), place.with_suffix(".failed")
        if not _is_whole(library):
            _raise_known(failure)
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile(command, library, failure)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
        raise NoLibraryError(str(error)) from error
    return library


def _compile(command: Sequence[str], library: Path, failure: Path) -> None:
    try:
        with replacing(library) as temporary:
            subprocess.run(
                [*command, "-o", str(temporary)], check=True, capture_output=True, text=True, timeout=_PATIENCE_S
            )
            # What stands behind a library is not read by whoever loads it.
            digest = hashlib.sha256(temporary.read_bytes()).digest()
            with temporary.open("ab") as stream:
                stream.write(digest)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        told = str(error.stderr or "").splitlines()
        reason = f"{command[0]} failed: {next((line for line in told if 'error' in line), error)}"
        write_whole(failure, reason)
        raise NoLibraryError(reason) from error


def _raise_known(failure: Path) -> None:
    if failure.is_file() and time.time() - failure.stat().st_mtime < _FAILURE_LASTS_S:
        raise NoLibraryError(failure.read_text(encoding="utf-8", errors="replace"))


def _is_whole(library: Path) -> bool:
    if not library.is_file():
        return False
    data = library.read_bytes()
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


def _version_of(compiler: str) -> tuple[str, int, int]:
    path = Path(shutil.which(compiler) or compiler).resolve()
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(shutil.which, [named] if named else _COMPILERS), None)
