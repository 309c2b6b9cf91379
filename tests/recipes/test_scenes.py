"""The recipe `scenes` in miniature: it learns, survives a kill to the same losses, and its result answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fastvlm.data.synthetic.labels import TOKEN_CELL_PX
from fastvlm.inference.loading import load
from fastvlm.recipes.scenes import RECIPES, smoke
from fastvlm.tiles import fit_grid
from fastvlm.training.loop import METRICS_FILE
from fastvlm.training.resume import STATE_FILE


def _losses(folder: Path) -> list[list[float]]:
    return [
        [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob(f"*/{METRICS_FILE}"))
    ]


def _start(folder: Path, *flags: str, num_threads: int) -> subprocess.Popen[bytes]:
    """Train in a process of its own: its number of threads is known, whatever other tests did to this one."""
    command = [sys.executable, "-m", "fastvlm", "train", "scenes-smoke", "--output", str(folder), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert _start(folder, num_threads=2).wait() == 0
    return folder


def test_every_stage_runs_and_the_first_learns_words(finished: Path) -> None:
    """The whole loss of eight steps says more of their pictures, which differ in size, than of what was learnt."""
    assert [len(stage) for stage in _losses(finished)] == [8, 8, 8]
    words = [json.loads(line)["words"] for line in (finished / "1-reason" / METRICS_FILE).read_text().splitlines()]
    assert words[-1] < words[0]


def test_the_encoder_learns_in_the_second_stage_alone(finished: Path) -> None:
    learned = [
        any(".vision." in name for name in load_file(finished / f"{number}-{stage.name}" / STATE_FILE))
        for number, stage in enumerate(smoke().stages, start=1)
    ]
    assert learned == [False, True, False]


def test_the_checkpoint_answers(finished: Path) -> None:
    picture = np.full((90, 200, 3), 200, np.uint8)
    answer = load(finished / "model").ask("How many stars are there?", images=picture, max_new_tokens=4)
    assert answer.usage.visual_tokens == 60
    assert answer.finish_reason in ("stop", "length") and answer.usage.completion_tokens <= 4


def test_kill_and_resume_gives_the_same_losses(finished: Path, tmp_path: Path) -> None:
    """To the last bit, although the process that goes on would by itself use another number of threads.

    With AMX it may not: products in bfloat16 then depend on the number that the process was started with.
    """
    num_threads = 2 if torch.cpu.get_capabilities().get("amx_bf16") else 1
    folder = tmp_path / "killed"
    process = _start(folder, num_threads=2)
    second_stage = folder / f"2-{smoke().stages[1].name}" / STATE_FILE
    deadline = time.monotonic() + 600
    while not second_stage.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert second_stage.exists() and not (folder / "model").exists()
    assert _start(folder, "--resume", num_threads=num_threads).wait() == 0
    assert _losses(folder) == _losses(finished)


def test_recipes_are_complete() -> None:
    for build in RECIPES.values():
        recipe = build()
        assert recipe.vision.form == "train"
        for width, height in set(recipe.canvases):
            # The labels of cells fit only what the processor leaves as it is.
            rows, columns = fit_grid(width, height, recipe.processing.max_visual_tokens)
            assert (columns * TOKEN_CELL_PX, rows * TOKEN_CELL_PX) == (width, height)
