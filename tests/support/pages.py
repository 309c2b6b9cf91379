"""What of a file is in this process's memory."""

from __future__ import annotations

import re
from pathlib import Path


def resident_bytes(name: str) -> int:
    """How much of a mapped file is in this process's memory now."""
    text = Path("/proc/self/smaps").read_text(encoding="ascii")
    found = re.search(rf"^\S+ \S+ \S+ \S+ \S+ +\S*{re.escape(name)}\n(?:.*\n)*?Rss: +(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) * 1024
