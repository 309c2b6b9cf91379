"""Killed at any moment, a run goes on to the same losses, as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastvlm.data.scene_conversations import write_scene_conversations

STEPS = {"clip": 192, "instruct": 48}
"""Enough for ten kills."""


def arguments(kind: str, folder: Path) -> list[str]:
    """A run whose state is saved every few steps."""
    common = ["--output", str(folder / "run"), "--save-every", "3"]
    if kind == "clip":
        return ["clip", "--smoke", "--steps", str(STEPS[kind]), *common]
    data = write_scene_conversations(folder / "data", num_scenes=12, is_captioned=False)
    options = ["--batch-size", "4", "--epochs", str(STEPS[kind] // 3), "--validation", "0", "--learning-rate", "1e-4"]
    return ["finetune", "--data", str(data), *options, *common]


def start(kind: str, folder: Path) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if (folder / "run").exists() else []
    return subprocess.Popen(
        [sys.executable, "-m", "fastvlm", "train", *arguments(kind, folder), *resume],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(kind: str, folder: Path) -> list[float]:
    process = start(kind, folder)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told.decode()[-2000:]
    lines = (folder / "run" / "state" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [line["step"] for line in steps] == list(range(STEPS[kind]))
    return [line["loss"] for line in steps]


def kill_in_the_middle(kind: str, folder: Path, *, delay_s: float) -> bool:
    """Start or go on, and kill once it has been saving for a while; False where it ended before."""
    process = start(kind, folder)
    state = folder / "run" / "state" / "state.safetensors"
    before = state.stat().st_mtime_ns if state.exists() else 0
    while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
        time.sleep(0.01)
    time.sleep(delay_s)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)  # ends once no worker holds the other end any more
    return was_running


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "instruct"])
def test_ten_kills_change_nothing(kind: str, tmp_path: Path) -> None:
    generator = random.Random(0)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = finish(kind, tmp_path / "whole")
    kills = 0
    for _ in range(10):
        kills += kill_in_the_middle(kind, tmp_path / "killed", delay_s=generator.uniform(0, 0.4))
    assert kills == 10
    assert finish(kind, tmp_path / "killed") == whole
