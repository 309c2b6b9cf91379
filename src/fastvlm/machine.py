"""The machine that this runs on: its processor, and where its user keeps what can be made again."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "FASTVLM_CACHE"


def cache_folder() -> Path:
    """Where compiled graphs and measurements are kept: `FASTVLM_CACHE`, or `fastvlm` in the usual folder for caches."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    usual = os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "fastvlm"


@cache
def describe_processor() -> str:
    """The processor and its instructions: a graph compiled for one need not run on another."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() + platform.machine()
    lines = re.findall(r"^(?:model name|flags|Features)\s*:.*$", text, re.MULTILINE)
    return "".join(dict.fromkeys(lines))
