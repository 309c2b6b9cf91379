"""The machine that this runs on: its processor, and where its user keeps what can be made again."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fastvlm.errors import one_line
from fastvlm.files import remove_leftovers

_LOGGER = logging.getLogger(__name__)

_WARNED_OF: set[Path] = set()

CACHE_VARIABLE = "FASTVLM_CACHE"

MAX_CACHE_BYTES = 16_000_000_000
"""Kept in all: hundreds of small models, a dozen of half a billion parameters."""

_GRAPHS_OF_A_MODEL = 2.5
"""Times its decoder's size: the decoder in its two forms, its head, and the encoder."""


def cache_folder() -> Path:
    """Where compiled graphs, packed weights, tokenizers, libraries and measurements are kept: `FASTVLM_CACHE`, or
    `fastvlm` in the usual folder for caches. Raises RuntimeError for a user who has no home folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    usual = os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "fastvlm"


def cache_folder_if_any() -> Path | None:
    """The same, or None for a user who has no home folder: nothing is kept for one."""
    try:
        return cache_folder()
    except RuntimeError:
        return None


def make_room(newest: Path) -> None:
    """Remove what was used least lately of the cache that `newest` has just come into, until the rest fits.

    As much is always kept as a model needs whose decoder is the largest thing there: two that are thrown out in turn
    would be made again at every start. What a killed process left half-written is removed too.
    """
    remove_leftovers(newest.parent)
    found = {path: status for path in _kept_in(newest.parent) if (status := _status(path)) is not None}
    limit = max([MAX_CACHE_BYTES, *(_GRAPHS_OF_A_MODEL * status.st_size for status in found.values())])
    size = 0
    for path, status in sorted(found.items(), key=lambda entry: entry[1].st_atime_ns, reverse=True):
        size += status.st_size
        if size > limit and path != newest:
            with contextlib.suppress(OSError):  # another process may have been faster or, on Windows, have it open
                path.unlink()


def keep(path: Path, write: Callable[[], object], *, what: str) -> None:
    """Write a file of the cache and make room for it; one that cannot be written is done without.

    The first such file of a folder is warned of: what is wrong with it is wrong for the next ones too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
        make_room(path)
    except (OSError, RuntimeError, MemoryError) as error:
        level = logging.INFO if path.parent in _WARNED_OF else logging.WARNING
        _WARNED_OF.add(path.parent)
        _LOGGER.log(
            level,
            "Cannot keep %s in %s (%s): the next start will make it again. "
            "Free some space, or set FASTVLM_CACHE to a folder that can be written to.",
            what,
            path.parent,
            one_line(error),
        )


def _kept_in(folder: Path) -> list[Path]:
    """Compiled graphs, packed weights, tokenizers and merged weights of adapters, which are what fills a cache."""
    return [path for pattern in ("*.blob", "adapter-*.safetensors") for path in folder.glob(pattern)]


def _status(path: Path) -> os.stat_result | None:
    """None for what another process has just removed."""
    try:
        return path.stat()
    except OSError:
        return None


@cache
def describe_processor() -> str:
    """The processor and its instructions: a graph compiled for one need not run on another."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() + platform.machine()
    lines = re.findall(r"^(?:model name|flags|Features)\s*:.*$", text, re.MULTILINE)
    return "".join(dict.fromkeys(lines))


def has_instruction(name: str) -> bool:
    """Whether the processor says that it has some instructions, by the name that Linux gives them."""
    return name in re.findall(r"\w+", describe_processor())


def num_processors() -> int:
    """Processors that this process may run on, as the system counts them."""
    return len(_allowed_processors())


def num_cores() -> int:
    """Cores that this process may keep busy: two threads of one core count once, and a container has its share."""
    allowed = _allowed_processors()
    cores = set()
    for block in _text_of("/proc/cpuinfo").split("\n\n"):
        values = dict(re.findall(r"^(processor|physical id|core id)\s*:\s*(\d+)$", block, re.MULTILINE))
        if len(values) == 3 and int(values["processor"]) in allowed:
            cores.add((values["physical id"], values["core id"]))
    return max(1, min(len(cores) or len(allowed), _share_of_cores()))


def _allowed_processors() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _share_of_cores() -> int:
    """Of a control group on Linux, in whole cores; very many where there is none."""
    quota, _, period = _text_of("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota, period = (_text_of(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    try:
        return max(1, int(quota) // int(period)) if int(quota) > 0 else sys.maxsize
    except (ValueError, ZeroDivisionError):  # "max", or nothing
        return sys.maxsize


def _text_of(path: str) -> str:
    """Nothing where there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
