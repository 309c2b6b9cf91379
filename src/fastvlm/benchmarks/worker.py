"""One system in a process of its own: `python -m fastvlm.benchmarks.worker`, requests in and replies out as JSON lines.

Apart, systems cannot share memory or threads, each has its own peak of memory, and one that fails spoils no other.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from fastvlm.benchmarks.commands import leave_when_asked
from fastvlm.benchmarks.questions import Question, System
from fastvlm.benchmarks.systems import build_system
from fastvlm.errors import one_line
from fastvlm.inference.timings import peak_memory_mb


def main() -> None:
    """Build the system of the first line, then answer the questions of the others."""
    leave_when_asked()
    replies = reply_stream()
    system: System | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if system is None:
                started_s = time.perf_counter()
                system = build_system(request.pop("system"), **request | {"folder": Path(request["folder"])})
                reply: dict[str, Any] = {"load_ms": (time.perf_counter() - started_s) * 1000}
            else:
                question = Question(request["size_px"], request["num_text_tokens"])
                reply = asdict(system.answer(question, num_tokens=request["num_tokens"]))
            reply["peak_memory_mb"] = peak_memory_mb()
        except Exception as error:  # whatever a system raises is told, and the others go on
            reply = {"error": f"{type(error).__name__}: {one_line(error, max_length=300)}"}
        replies.write(json.dumps(reply) + "\n")


def reply_stream() -> TextIO:
    """Where replies go from now on; what libraries print is none, and goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


if __name__ == "__main__":
    main()
