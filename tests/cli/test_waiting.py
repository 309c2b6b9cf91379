"""Somebody at a terminal is told what is being waited for, once it takes a while; a program never is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

PROGRAM = """
import sys, time
from fastvlm.cli.output import waiting
with waiting("Getting it ready"):
    time.sleep(float(sys.argv[1]))
print("done", file=sys.stderr)
"""


def shown(seconds: float) -> str:
    """What a terminal shows of a wait."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds)], stderr=follower, stdin=follower)
    os.close(follower)
    text = b""
    try:
        while part := os.read(leader, 4096):
            text += part
    except OSError:  # how a pseudo-terminal says that nobody is left at the other end
        pass
    assert process.wait(timeout=60) == 0
    return text.decode()


def test_a_long_wait_is_explained_and_a_short_one_is_not() -> None:
    assert "Getting it ready" in shown(3.0)
    assert shown(0.0).strip() == "done"


def test_a_program_sees_nothing_of_it() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM, "1.5"], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "done\n")
