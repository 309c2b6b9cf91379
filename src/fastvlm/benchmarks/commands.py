"""`fastvlm ask` as a program of its own, and how long it takes from its start to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from fastvlm.errors import GenerationError


def timed_ask(arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """Ask for one token; returns what is printed, and milliseconds. environment: variables beside this process's own.

    Raises GenerationError where the program fails.
    """
    command = [sys.executable, "-m", "fastvlm", "ask", *arguments, "--max-tokens", "1"]
    started_s = time.perf_counter()
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    elapsed_ms = 1000 * (time.perf_counter() - started_s)
    if finished.returncode:
        said = " ".join(finished.stderr.split()).removeprefix("error: ").rstrip(".")
        raise GenerationError(f"Expected an answer from `fastvlm ask`, got: {said}. Run that command by itself.")
    return finished.stdout, elapsed_ms
