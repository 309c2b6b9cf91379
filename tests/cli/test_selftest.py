"""`fastvlm selftest` through the real process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_embedded_model_answers_as_it_should(run: Run, parrot: Path) -> None:
    finished = run("selftest", "--json")
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["is_passed"] and told["num_questions"] == 200
    assert told["interval_95"][0] <= told["num_correct"] / 200 <= told["interval_95"][1]
    assert run("selftest", "--model", parrot).returncode == 2
    refused = run("selftest", "--at-once")
    assert refused.returncode == 2 and "The expected score is one without --at-once." in refused.stderr
