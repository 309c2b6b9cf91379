"""The embedded model asked in a process of its own, which keeps what it compiles in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import json, sys
from PIL import Image
from fastvlm.inference.loading import load
assistant = load("embedded", **json.loads(sys.argv[1]))
picture = Image.radial_gradient("L").resize((160, 120))
print(json.dumps(list(assistant.ask("What is it?", images=picture, max_new_tokens=6).token_ids)))
"""


def start(cache: Path, *, before: str = "", **chosen: str) -> subprocess.Popen[str]:
    """Start it. before: what the process does first; chosen: arguments of `load`."""
    return subprocess.Popen(
        [sys.executable, "-c", before + _PROGRAM, json.dumps(chosen)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FASTVLM_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it answered and what it said besides."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output, errors
