"""Two processes that train together come to what one does alone (gloo, on processors)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fastvlm.errors import TrainingError
from fastvlm.training.loop import LoopSettings, train
from fastvlm.training.optimizer import OptimizerSettings, build_optimizer
from fastvlm.training.sharding import only_one
from fastvlm.training.task import TaskLoss

Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor]]

WORKER = Path(__file__).resolve().parents[1] / "support" / "parallel_worker.py"


class Linear:
    """A task that is never come to."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"matrix": nn.Linear(4, 4)})

    def loss(self, batch: object) -> TaskLoss:
        raise AssertionError

    def weight(self, batch: object) -> float:
        return 1.0

    def describe(self, batch: object) -> str:
        return ""


def trained(
    task: str, folder: Path, *, num_processes: int, is_sharded: bool = False, interrupted_after: int = 0
) -> Trained:
    """The logged steps and the weights of a run of 3 steps of two batches each."""
    finished = train_in(folder, task, num_processes, is_sharded=is_sharded, interrupted_after=interrupted_after)
    assert finished.returncode == 0, finished.stderr  # what ended first comes first, the launcher's report last
    lines = [json.loads(line) for line in (folder / "state" / "metrics.jsonl").read_text().splitlines()]
    return lines, load_file(folder / "weights.safetensors")


def train_in(
    folder: Path,
    task: str,
    num_processes: int,
    *,
    is_sharded: bool = False,
    interrupted_after: int = 0,
    largest_file: int = 0,
) -> subprocess.CompletedProcess[str]:
    """A run in processes of its own; largest_file: in bytes, 0 for no limit, as a disk that is full."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    how = ["pieces" if is_sharded else "copies", str(interrupted_after), str(largest_file)]
    alone = [sys.executable, str(WORKER), task, str(folder), "2", *how]
    together = [sys.executable, *launch, str(WORKER), task, str(folder), "1", *how]
    return subprocess.run(
        together if num_processes > 1 else alone,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        check=False,
    )


def assert_same(one: Trained, other: Trained) -> None:
    """Losses, gradients (by their norm) and weights, step by step; BatchNorm keeps its statistics."""
    (lines, weights), (other_lines, other_weights) = one, other
    assert [line["step"] for line in other_lines] == [0, 1, 2]
    for line, other_line in zip(lines, other_lines, strict=True):
        assert other_line.keys() == line.keys()
        assert other_line["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other_line == pytest.approx(line, rel=1e-4), "parts of the loss are means over both processes"
        assert other_line["gradient_norm"] == pytest.approx(line["gradient_norm"], rel=1e-4)
    assert weights.keys() == other_weights.keys()
    for name, value in weights.items():
        # Adam divides by gradients: where these are nearly 0, their last digits decide over a step's direction.
        assert float((value - other_weights[name]).abs().median()) < 1e-5, name


@pytest.mark.parametrize("task", ["instruct", "contrastive", "dense", "symbols"])
def test_two_processes_are_as_one(task: str, tmp_path: Path) -> None:
    alone = trained(task, tmp_path / "alone", num_processes=1)
    assert_same(alone, trained(task, tmp_path / "together", num_processes=2))


@pytest.mark.parametrize("task", ["instruct", "contrastive", "mixed"])
def test_a_model_in_pieces_is_as_one(task: str, tmp_path: Path) -> None:
    """FSDP2, DDP and one process come to the same; also where one batch of a step has words alone."""
    alone = trained(task, tmp_path / "alone", num_processes=1)
    if task == "mixed":
        assert_same(alone, trained(task, tmp_path / "copies", num_processes=2))
    assert_same(alone, trained(task, tmp_path / "pieces", num_processes=2, is_sharded=True))


def test_a_run_in_pieces_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = trained("instruct", tmp_path / "whole", num_processes=2, is_sharded=True)
    pieces = trained("instruct", tmp_path / "pieces", num_processes=2, is_sharded=True, interrupted_after=2)
    assert pieces[0] == whole[0]
    assert all((pieces[1][name] == value).all() for name, value in whole[1].items())
    state = tmp_path / "pieces" / "state"
    assert sorted(path.name for path in state.iterdir()) == ["metrics.jsonl", "shards-3", "shards.json"]


def test_pieces_need_several_processes_and_one_optimizer(tmp_path: Path) -> None:
    task = Linear()
    settings = LoopSettings(optimizer=OptimizerSettings(learning_rate=1e-3, warmup_steps=0), is_sharded=True)
    with pytest.raises(TrainingError, match=r"several processes.*got one.*torchrun"):
        train(task, [0, 1], settings, tmp_path)
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"in pieces\. Resume with --shard"):
        train(task, [0, 1], replace(settings, is_sharded=False), tmp_path)
    both = build_optimizer(task.module, OptimizerSettings(learning_rate=1e-3, warmup_steps=0, muon_parts=("matrix",)))
    with pytest.raises(TrainingError, match=r"AdamW alone.*Muon"):
        only_one(both)


def test_pieces_that_cannot_be_written_are_told_and_leave_nothing(tmp_path: Path) -> None:
    finished = train_in(tmp_path / "run", "instruct", 2, is_sharded=True, largest_file=20_000)
    assert finished.returncode != 0
    line = next(line for line in finished.stderr.splitlines() if "TrainingError: Cannot write" in line)
    assert "File too large" in line and line.endswith("no state was saved before.") and "Traceback" not in line
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["metrics.jsonl"]


def test_a_process_that_is_left_alone_says_so(tmp_path: Path) -> None:
    """The other one ends without a word, as one that is killed does."""
    program = (
        "import os, sys\n"
        "from fastvlm.training.parallel import from_first, processes\n"
        "with processes():\n"
        "    from_first(lambda: None)\n"
        "    if os.environ['RANK'] == '1':\n"
        "        os._exit(9)\n"
        "    from_first(lambda: None)\n"
        "    from_first(lambda: None)\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    first, other = (
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    assert other.wait(timeout=120) == 9
    _, told = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "TrainingError: Another process has stopped" in told.splitlines()[-1]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_what_the_first_process_finds_all_have(num_processes: int, tmp_path: Path) -> None:
    """So do its failures: the others end too, and say whose they were."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fastvlm.errors import DataError, FastVLMError\n"
        "from fastvlm.training.parallel import from_first, process_number, processes, totals\n"
        "def fail():\n"
        "    raise DataError('no pictures')\n"
        "with processes():\n"
        "    number = process_number()\n"
        "    found = from_first(lambda: {'first': number})\n"
        "    sums = totals({'all': 1.5, f'only_{number}': 2.0})\n"
        "    try:\n"
        "        from_first(fail)\n"
        "    except FastVLMError as error:\n"
        "        told = str(error)\n"
        "    Path(sys.argv[1], f'{number}.txt').write_text(repr((found, sums, told)))\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    subprocess.run([sys.executable, *launch, str(program), str(tmp_path)], check=True, timeout=120, capture_output=True)
    sums = {"all": 1.5 * num_processes, **{f"only_{number}": 2.0 for number in range(num_processes)}}
    for number in range(num_processes):
        told = "no pictures" if number == 0 else "Another process could not go on, and says why."
        assert (tmp_path / f"{number}.txt").read_text() == repr(({"first": 0}, sums, told))
