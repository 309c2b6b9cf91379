"""Worker processes end with the run that they work for, however it ends, and only then."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvlm.errors import DataError
from fastvlm.training import workers
from fastvlm.training.workers import prepared

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="signals of Linux")


class Numbers:
    """Each batch is its number; one of them cannot be made."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 64

    def __getitem__(self, step: int) -> int:
        if step == self.broken:
            raise DataError("sample-3: Expected a picture, got none.")
        return step


def alive() -> list[multiprocessing.process.BaseProcess]:
    return multiprocessing.active_children()


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    assert not alive()


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_come_in_order(num_workers: int) -> None:
    with prepared(Numbers(), range(3, 40, 2), num_workers) as batches:
        assert list(batches) == list(range(3, 40, 2))


class Schedules:
    """Each batch is how the process that makes it shares the processors with others."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, step: int) -> tuple[int, int]:
        return os.sched_getscheduler(0), os.nice(0)


def refuse(*_: object) -> None:
    raise PermissionError


@pytest.mark.parametrize("system", ["linux", "another", "sandbox"])
def test_workers_take_what_training_leaves_of_the_processors(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such policy, or none may be chosen, they have the weakest priority instead."""
    idle, own = os.SCHED_IDLE, (os.sched_getscheduler(0), os.nice(0))
    if system == "another":
        monkeypatch.delattr(os, "SCHED_IDLE")
    elif system == "sandbox":
        monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with prepared(Schedules(), range(2), 2) as batches:
        assert list(batches) == [(idle, own[1]) if system == "linux" else (own[0], 19)] * 2
    assert (os.sched_getscheduler(0), os.nice(0)) == own


@dataclass(frozen=True)
class Pictures:
    """Batches with arrays of several kinds, one of them without elements."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, step: int) -> dict[str, object]:
        if step == 7:
            raise DataError("sample-7: Expected a picture, got none.")
        levels = np.random.default_rng(step).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
        return {"levels": levels, "ids": np.arange(step), "nothing": np.zeros((0, 4), np.float32), "name": f"{step}"}


@pytest.mark.parametrize(("least", "is_shared"), [(0, True), (2**62, False)])
def test_for_a_gpu_arrays_are_shared_where_there_is_memory_for_it(
    least: int, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(workers, "_LEAST_SHARED", least)
    opened: list[object] = []
    open_packed = workers._Packed.open
    monkeypatch.setattr(workers._Packed, "open", lambda packed: opened.append(packed) or open_packed(packed))
    with prepared(Pictures(), range(8), 2) as batches:
        for step in range(7):
            batch = next(batches)
            assert batch.keys() == Pictures()[step].keys() and batch["name"] == f"{step}"
            for name in ("levels", "ids", "nothing"):
                assert np.array_equal(batch[name], Pictures()[step][name])  # type: ignore[arg-type]  # an array
            assert batch["levels"].dtype == np.uint8 and batch["nothing"].shape == (0, 4)
            assert len(opened) == (step + 1 if is_shared else 0)
        with pytest.raises(DataError, match="sample-7"):
            next(batches)


def test_workers_end_with_an_error_that_is_still_held() -> None:
    with pytest.raises(DataError, match="sample-3") as caught, prepared(Numbers(broken=5), range(64), 2) as batches:
        for _ in batches:
            assert alive()
    assert caught.value.__traceback__ is not None
    assert not alive()


def test_workers_end_where_not_all_is_read() -> None:
    with prepared(Numbers(), range(64), 2) as batches:
        assert next(batches) == 0
    assert not alive()


def test_a_stop_request_to_the_whole_job_ends_no_worker() -> None:
    with prepared(Numbers(), range(64), 2) as batches:
        assert next(batches) == 0
        for worker in alive():
            os.system(f"kill -TERM {worker.pid}")  # from another process than the parent
        time.sleep(0.3)
        assert len(alive()) == 2
        assert list(batches) == list(range(1, 64))


def test_the_end_of_the_interpreter_ends_workers_that_were_never_closed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import itertools
        from fastvlm.training.workers import prepared

        class Numbers:
            def __len__(self):
                return 64
            def __getitem__(self, step):
                return step

        context = prepared(Numbers(), range(64), 2)
        batches = context.__enter__()
        print(next(batches))
        __builtins__.kept = (context, batches)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "0\n"


@pytest.mark.parametrize("kind", ["error", "killed"])
def test_nothing_is_left_of_a_process_with_workers(kind: str, tmp_path: Path) -> None:
    end = "raise SystemExit(3)" if kind == "error" else "os.kill(os.getpid(), 9)"
    program = textwrap.dedent(
        f"""
        import os
        from fastvlm.training.workers import prepared

        class Numbers:
            def __len__(self):
                return 64
            def __getitem__(self, step):
                return step

        with prepared(Numbers(), range(64), 1) as batches:
            next(batches)
            {end}
        """
    )
    # A worker holds the other ends of the pipes: this returns only once it has ended too.
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert process.returncode == (3 if kind == "error" else -9), process.stderr
