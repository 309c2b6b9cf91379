"""What can go wrong around compiled graphs: the answer is the same, and nothing half-written is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.runtimes.openvino import engine as engine_module
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.tiles import TileLayout
from support.asking import finished, start
from support.runtimes import CONFIG, greedy, prompt, random_model, stored_tensors, tiles

OPENVINO = {"runtime": "openvino", "dtype": "float32"}


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredTensor]:
    return stored_tensors(random_model(), tmp_path_factory.mktemp("weights"))


def answer_of(runtime: OpenVINORuntime, width_px: int = 128) -> list[int]:
    encoded = runtime.encode(tiles(TileLayout(64, width_px)))
    words = prompt([5], (0, encoded.num_tokens), [7])
    return greedy(runtime, [runtime.embed(words, [encoded])], num_tokens=8)[0].tolist()


def test_a_cache_that_is_deleted_while_it_is_in_use(tensors: Mapping[str, StoredTensor], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cold = OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=cache)
    expected, wider = answer_of(cold), answer_of(cold, 192)
    warm = OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=cache)
    shutil.rmtree(cache)
    assert answer_of(warm) == expected
    assert answer_of(warm, 192) == wider
    # What was compiled after that is kept again, and a new start finds nothing broken.
    assert list(cache.glob("encoder-*.blob"))
    assert answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=cache)) == expected


def test_a_graph_that_is_gone_as_soon_as_it_is_kept_is_used_all_the_same(
    tensors: Mapping[str, StoredTensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path / "whole"))
    monkeypatch.setattr(engine_module, "write_whole", lambda path, data: None)
    assert answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path / "gone")) == expected
    monkeypatch.setattr(engine_module, "write_whole", lambda path, data: path.write_bytes(bytes(data[:99])))
    assert answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path / "cut")) == expected


def test_two_processes_compile_at_once(tmp_path: Path) -> None:
    both = [start(tmp_path, **OPENVINO), start(tmp_path, **OPENVINO)]
    (first, errors), (second, more_errors) = (finished(process) for process in both)
    assert first == second and not errors and not more_errors
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 3 and all(name.endswith(".blob") for name in kept)
    again, _ = finished(start(tmp_path, **OPENVINO))
    assert again == first
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_full_disk_is_told_once_and_done_without(tmp_path: Path) -> None:
    expected, _ = finished(start(tmp_path / "roomy", **OPENVINO))
    no_room = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    )
    answer, errors = finished(start(tmp_path / "full", before=no_room, **OPENVINO))
    assert answer == expected
    assert errors.count("Cannot keep a compiled graph") == errors.count("\n") == 1
    assert not any((tmp_path / "full").iterdir())


def test_a_processor_without_bfloat16_answers_in_float32(
    tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32"))
    monkeypatch.setattr(engine_module, "has_bfloat16", lambda: False)
    runtime = OpenVINORuntime(CONFIG, tensors)
    assert runtime.name == "openvino cpu float32"
    assert answer_of(runtime) == expected


def test_ctrl_c_while_a_graph_is_kept_leaves_nothing_half_written(
    tensors: Mapping[str, StoredTensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path)
    assert not any(tmp_path.iterdir())
    runtime = OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=tmp_path)
    np.testing.assert_array_equal(
        answer_of(runtime), answer_of(OpenVINORuntime(CONFIG, tensors, dtype="float32", cache_folder=None))
    )
