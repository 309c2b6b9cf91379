"""Programs of their own: how they are run and ended, and how long `fastvlm ask` takes from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from fastvlm.errors import GenerationError

_PATIENCE_S = 5.0


def run_program(
    command: Sequence[str], *, text_in: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. environment: variables beside this process's own.

    Where this process is told to end before, so is the program, which takes what it has begun with it.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            said, errors = process.communicate(text_in)
        except BaseException:  # Ctrl-C and SIGTERM too
            end(process)
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a program to end, and end it where it does not within seconds, or where this one must not wait any more."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    except BaseException:  # a second Ctrl-C or SIGTERM
        process.kill()
        raise


def leave_when_asked() -> None:
    """Have a SIGTERM end this program in good order, so that what it has begun goes with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def timed_ask(arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """Ask for one token; returns what is printed, and milliseconds. environment: variables beside this process's own.

    Raises GenerationError where the program fails.
    """
    command = [sys.executable, "-m", "fastvlm", "ask", *arguments, "--max-tokens", "1"]
    started_s = time.perf_counter()
    finished = run_program(command, environment=environment)
    elapsed_ms = 1000 * (time.perf_counter() - started_s)
    if finished.returncode:
        said = " ".join(finished.stderr.split()).removeprefix("error: ").rstrip(".")
        raise GenerationError(f"Expected an answer from `fastvlm ask`, got: {said}. Run that command by itself.")
    return finished.stdout, elapsed_ms
