"""The system's C++ compiler, where there is one: libraries are compiled where they are first wanted, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastvlm.files import remove_leftovers, replacing, temporary_folder, write_whole
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
    if is_switched_off():
        return f"they are switched off ({SWITCH}={os.environ[SWITCH]})"
    named = os.environ.get("CXX")
    looked_for = f"CXX is {named}" if named else ", ".join(_COMPILERS)
    return None if _compiler() else f"no C++ compiler was found ({looked_for})"


def is_switched_off() -> bool:
    """Whether the user wants nothing that is compiled."""
    return os.environ.get(SWITCH, "").lower() in ("off", "0", "no")


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
    tuning = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    arguments = ["-O3", tuning, "-std=c++20", "-fPIC", *flags]
    compiler, reason = _compiler(), reason_against_compiling()
    try:
        texts = [source.read_text() for source in (*sources, *headers)]
        what = _key(texts, arguments, libraries, depends_on, describe_processor(), platform.libc_ver())
        folder = cache_folder() / "kernels"
        if compiler is None:
            # Where one has been before, as in an image that was built in stages, its library will do.
            found = [] if is_switched_off() else [*filter(_is_whole, sorted(folder.glob(f"{what}-*.so")))]
            if not found:
                raise NoLibraryError(reason)
            return found[0]
        if reason is not None:
            raise NoLibraryError(reason)
        library = folder / f"{what}-{_key(compiler, _version_of(compiler[0]))}.so"
        if not _is_whole(library):
            failure = library.with_suffix(".failed")
            _raise_known(failure)
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile([*compiler, *arguments], sources, libraries, library, failure)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
        raise NoLibraryError(f"{error}; is FASTVLM_CACHE a folder that can be written to?") from error
    return library


def _key(*depends_on: object) -> str:
    return hashlib.sha256(repr(depends_on).encode()).hexdigest()[:24]


def _compile(
    command: Sequence[str], sources: Sequence[Path], libraries: Sequence[str], library: Path, failure: Path
) -> None:
    try:
        remove_leftovers(library.parent)
        with replacing(library) as temporary, temporary_folder(library.parent) as folder:
            objects = [str(folder / f"{number}-{source.stem}.o") for number, source in enumerate(sources)]
            _run_together(
                [*command, "-c", str(source), "-o", name] for source, name in zip(sources, objects, strict=True)
            )
            _run_together([[*command, "-shared", *objects, *libraries, "-o", str(temporary)]])
            # What stands behind a library is not read by whoever loads it.
            digest = hashlib.sha256(temporary.read_bytes()).digest()
            with temporary.open("ab") as stream:
                stream.write(digest)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = str(error.stderr or "").splitlines()
        is_late = isinstance(error, subprocess.TimeoutExpired)
        ending = f"it took longer than {_PATIENCE_S} s" if is_late else "it says no more"
        reason = f"{command[0]} failed: {next((line for line in lines if 'error' in line), ending)}"
        write_whole(failure, reason)
        raise NoLibraryError(reason) from error


def _run_together(commands: Iterable[Sequence[str]]) -> None:
    """Run commands side by side. Where one fails or is late, it is raised, and those after it are given up."""
    ends_s = time.monotonic() + _PATIENCE_S
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            # A compiler that is asked to end ends the programs that it has started, too.
            stack.callback(process.terminate)
        for process in processes:
            _, errors = process.communicate(timeout=max(0, ends_s - time.monotonic()))
            if process.returncode != 0:
                raise subprocess.CalledProcessError(process.returncode, process.args, stderr=errors)


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


def _compiler() -> list[str] | None:
    """A command, which `CXX` may give arguments."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError:  # a quotation mark too many
        return None
    commands = [named] if named else [[name] for name in _COMPILERS]
    return next((command for command in commands if shutil.which(command[0])), None)
