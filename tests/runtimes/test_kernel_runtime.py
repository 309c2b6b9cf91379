"""Our own kernels as a runtime: answers, packed weights on disk, and what can go wrong with either."""

from __future__ import annotations

import ctypes
import mmap
import os
import queue
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.benchmarks.shapes import random_checkpoint, shape_config, tensors_of
from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.compiler import SWITCH, NoLibraryError, compiled_library
from fastvlm.errors import CheckpointError, GenerationError, PromptError
from fastvlm.machine import num_processors
from fastvlm.runtimes.kernels import library, packed
from fastvlm.runtimes.kernels import runtime as runtime_module
from fastvlm.runtimes.kernels.decoder import KernelDecoder
from fastvlm.runtimes.kernels.decoder_packing import decoder_packing
from fastvlm.runtimes.kernels.encoder import KernelEncoder
from fastvlm.runtimes.kernels.packed import packed_weights
from fastvlm.runtimes.kernels.packing import Matrix, Packing
from fastvlm.runtimes.kernels.runtime import KernelRuntime
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.tiles import TileLayout
from support.asking import finished, start
from support.pages import resident_bytes
from support.runtimes import greedy, prompt, tiles

REASON = library.reason_against()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=f"no kernels here: {REASON}")

CONFIG = shape_config("tiny")
FORMATS: tuple[WeightFormat | None, ...] = (None, "int8", "int4")


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredTensor]:
    return tensors_of(random_checkpoint("tiny", tmp_path_factory.mktemp("weights") / "tiny"))


class AnyRange(dict[str, float]):
    """Every layer's inputs go as far."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> float:
        return 6.0


def runtime(
    tensors: dict[str, StoredTensor], folder: Path | None = None, weight_format: WeightFormat | None = None
) -> KernelRuntime:
    return KernelRuntime(
        CONFIG, tensors, cache_folder=folder, weight_format=weight_format, encoder_ranges=AnyRange(), num_threads=2
    )


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@needs_kernels
@pytest.mark.parametrize(("weight_format", "limit"), [(None, 0.03), ("int8", 0.06), ("int4", 0.45)])
def test_answers_are_those_of_openvino_in_float32(
    tensors: dict[str, StoredTensor], weight_format: WeightFormat | None, limit: float
) -> None:
    ours, exact = runtime(tensors, None, weight_format), OpenVINORuntime(CONFIG, tensors, dtype="float32")
    image = tiles(TileLayout(128, 192))
    logits = []
    for engine in (ours, exact):
        encoded = engine.encode(image)
        first = engine.embed(prompt([5, 6], (0, 6), [7, 8, 9, 10]), [encoded])
        other = engine.embed(prompt([5, 6], (0, 6), [11, 12, 13]), [encoded])
        found, cache = engine.prefill([first])
        rows = [found, engine.decode(np.array([3]), cache)]
        found, cache = engine.resume(cache, other, num_kept=8)
        logits.append(np.concatenate([*rows, found, engine.decode(np.array([4]), cache)]))
        assert cache.num_positions == 12
    for found, expected in zip(*logits, strict=True):
        assert 0 < distance(found, expected) < limit
    assert ours.name.startswith("kernels cpu bfloat16") and ours.name.count(weight_format or "int") == (
        0 if weight_format is None else 2 if weight_format == "int8" else 1
    )


@needs_kernels
@pytest.mark.parametrize("weight_format", FORMATS)
def test_pitfall_b9_batched_left_padded_answers_are_single_ones_over_64_tokens(
    tensors: dict[str, StoredTensor], weight_format: WeightFormat | None
) -> None:
    ours = runtime(tensors, None, weight_format)
    encoded = ours.encode(tiles(TileLayout(64, 192)))
    embeddings = [
        ours.embed(prompt([5, 6], (0, 3), [7]), [encoded]),
        ours.embed(prompt([1]), []),
        ours.embed(prompt([*range(30, 40)], (0, 3), [40, 41]), [encoded]),
    ]
    together = greedy(ours, embeddings, num_tokens=64)
    alone = np.concatenate([greedy(ours, [one], num_tokens=64) for one in embeddings])
    np.testing.assert_array_equal(together, alone)


@needs_kernels
def test_what_is_refused_is_refused_as_by_the_others(tensors: dict[str, StoredTensor]) -> None:
    ours = runtime(tensors)
    with pytest.raises(PromptError):
        ours.embed(prompt([5], (0, 3)), [ours.encode(tiles(TileLayout(64, 64)))])
    with pytest.raises(PromptError):
        ours.prefill([])
    with pytest.raises(GenerationError, match="at least 1 thread"):
        KernelRuntime(CONFIG, tensors, num_threads=0)
    huge = replace(tiles(TileLayout(64, 64)), table=np.full((3, 256), 3e38, np.float32))
    with pytest.raises(GenerationError, match="finite visual tokens"):
        ours.encode(huge)
    with pytest.raises(PromptError, match="256 levels"):
        ours.encode(replace(huge, table=huge.table[0]))


@needs_kernels
@pytest.mark.parametrize("weight_format", FORMATS)
def test_nothing_is_read_beyond_pixels_and_no_number_is_hidden(
    tensors: dict[str, StoredTensor], weight_format: WeightFormat | None
) -> None:
    ours = runtime(tensors, None, weight_format)
    for height_px, width_px in ((100, 100), (64, 76), (72, 64)):
        with pytest.raises(PromptError, match=rf"multiples of 64 px, got {width_px} x {height_px}"):
            ours.encode(tiles(TileLayout(height_px, width_px)))
    for value in (np.nan, np.inf):
        with pytest.raises(PromptError, match="finite value for each level"):
            ours.encode(replace(tiles(TileLayout(64, 64)), table=np.full((3, 256), value, np.float32)))


@needs_kernels
@pytest.mark.parametrize("weight_format", ["int8", "int4"])
@pytest.mark.parametrize("engine", [KernelRuntime, OpenVINORuntime])
@pytest.mark.parametrize(
    "name",
    [
        "vision.stem.blocks.0.fused.weight", "decoder.layers.1.feed_forward.up.weight", "decoder.norm.weight",
        "decoder.layers.0.attention_norm.weight", "decoder.layers.1.attention.query.bias",
        "decoder.embed_tokens.weight",
    ],
)  # fmt: skip
def test_weights_that_are_not_finite_are_told_where_rounding_would_hide_them(
    tensors: dict[str, StoredTensor], tmp_path: Path, name: str, weight_format: WeightFormat, engine: Any
) -> None:
    values = Weights(tensors).exact(name).copy()
    values[-1] = np.nan
    (tmp_path / "broken.bin").write_bytes(values.tobytes())
    broken = StoredTensor(name, tmp_path / "broken.bin", values.shape, "F32", 0, values.nbytes)
    formats: dict[str, Any] = {"weight_format": weight_format, "encoder_ranges": AnyRange(), "num_threads": 2}
    with pytest.raises(CheckpointError, match="Expected finite weights"):
        ours = engine(CONFIG, tensors | {name: broken}, cache_folder=tmp_path / "cache", **formats)
        # OpenVINO's graphs are built when they are needed first.
        image = ours.encode(tiles(TileLayout(64, 64)))
        last = CONFIG.decoder.vocabulary_size - 1
        ours.prefill([ours.embed(prompt([last], (0, image.num_tokens), [7]), [image])])


@needs_kernels
def test_pictures_of_two_threads_do_not_disturb_each_other(tensors: dict[str, StoredTensor]) -> None:
    ours = runtime(tensors)
    images = [tiles(TileLayout(64 * rows, 64 * columns)) for rows, columns in ((2, 3), (3, 1), (1, 1), (4, 2))]
    expected = [ours.encode(image).data for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda number: ours.encode(images[number % 4]).data, range(200))]
    for number, data in enumerate(found):
        np.testing.assert_array_equal(data, expected[number % 4])


@needs_kernels
def test_what_is_prepared_is_what_the_picture_needs(
    tensors: dict[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = queue.Queue[tuple[int, ...]]()

    class Spy:
        """The library, which is seen to prepare."""

        def __getattr__(self, name: str) -> object:
            return getattr(library.load().functions, name)

        def fastvlm_prepare(self, handle: int, *size: int) -> int:
            status = int(library.load().functions.fastvlm_prepare(handle, *size))
            prepared.put((*size, status))
            return status

    ours = runtime(tensors)
    monkeypatch.setattr(ours._encoder, "_library", Spy())
    ours.prepare(TileLayout(128, 192))
    assert prepared.get(timeout=30) == (1, 128, 192, 0)


@needs_kernels
def test_weights_are_fetched_as_soon_as_they_are_there(
    tensors: dict[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = {KernelEncoder: threading.Event(), KernelDecoder: threading.Event()}
    for part, event in fetched.items():
        monkeypatch.setattr(part, "fetch", lambda _, event=event: event.set())
    runtime(tensors)
    assert all(event.wait(timeout=30) for event in fetched.values())


@needs_kernels
def test_one_thread_at_most_waits_to_prepare_what_is_wanted_last(
    tensors: dict[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, fetching, prepared = threading.Event(), threading.Event(), queue.Queue[tuple[int, ...]]()

    def fetch(_: KernelEncoder) -> None:
        fetching.set()
        go_on.wait(timeout=30)

    monkeypatch.setattr(KernelEncoder, "fetch", fetch)
    monkeypatch.setattr(KernelEncoder, "prepare", lambda _, *size: prepared.put(size))
    ours = runtime(tensors)
    assert fetching.wait(timeout=30)
    num_threads = threading.active_count()
    for width in range(1, 21):
        ours.prepare(TileLayout(64, 64 * width))
    assert threading.active_count() == num_threads + 1
    assert len(ours.encode(tiles(TileLayout(64, 64))).data) == 1, "nobody waits for what is done ahead"
    go_on.set()
    assert prepared.get(timeout=30) == (1, 64, 64 * 20)


@needs_kernels
def test_without_a_thread_to_work_ahead_pictures_are_encoded_all_the_same(
    tensors: dict[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tiles(TileLayout(64, 128))
    expected = runtime(tensors).encode(image).data

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)
    ours = runtime(tensors)
    ours.prepare(image.layout)
    np.testing.assert_array_equal(ours.encode(image).data, expected)
    # What could not be fetched ahead holds up nothing that is prepared later.
    prepared = threading.Event()
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(KernelEncoder, "prepare", lambda *_: prepared.set())
    ours.prepare(image.layout)
    assert prepared.wait(timeout=30)


@needs_kernels
def test_a_library_that_is_damaged_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path))
    source = tmp_path / "source.cpp"
    source.write_text('extern "C" int answer() { return 42; }')
    library = compiled_library([source], flags=[])
    assert ctypes.CDLL(str(library)).answer() == 42
    whole, written_ns = library.read_bytes(), library.stat().st_mtime_ns
    assert compiled_library([source], flags=[]) == library and library.stat().st_mtime_ns == written_ns
    for damaged in (whole[: len(whole) // 2], whole[:-1], b""):
        library.unlink()  # this process has the one that it loaded
        library.write_bytes(damaged)
        assert compiled_library([source], flags=[]).read_bytes() == whole


@needs_kernels
def test_a_library_serves_where_its_compiler_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path))
    source = tmp_path / "source.cpp"
    source.write_text('extern "C" int answer() { return 42; }')
    monkeypatch.setenv("CXX", "c++ -DUNUSED")  # which may have arguments
    library_path = compiled_library([source], flags=[])
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert compiled_library([source], flags=[]) == library_path
    for flags, switch in ((["-O1"], "on"), ([], "off")):
        monkeypatch.setenv(SWITCH, switch)
        with pytest.raises(NoLibraryError, match=r"CXX is /nowhere/c\+\+" if switch == "on" else SWITCH):
            compiled_library([source], flags=flags)


@needs_kernels
def test_more_threads_than_processors_are_not_taken(
    tensors: dict[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int]] = []
    for name in ("KernelEncoder", "KernelDecoder"):
        real = getattr(runtime_module, name)

        def part(*rest: object, num_threads: int, real: Any = real, name: str = name, **named: object) -> object:
            given.append((name, num_threads))
            return real(*rest, num_threads=num_threads, **named)

        monkeypatch.setattr(runtime_module, name, part)
    for asked in (1, 4096):
        KernelRuntime(CONFIG, tensors, num_threads=asked)
    assert set(given) == {(name, n) for name in ("KernelEncoder", "KernelDecoder") for n in (1, num_processors())}


def test_a_compiler_that_fails_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path))
    source, compiler, log = tmp_path / "source.cpp", tmp_path / "compiler", tmp_path / "log"
    source.write_text("nonsense")
    compiler.write_text(f"#!/bin/sh\necho asked >> {log}\necho 'error: nonsense' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    for _ in range(3):
        with pytest.raises(NoLibraryError, match="error: nonsense"):
            compiled_library([source], flags=[])
    assert log.read_text() == "asked\n"
    (failure,) = tmp_path.rglob("*.failed")
    os.utime(failure, (0, 0))
    with pytest.raises(NoLibraryError, match="error: nonsense"):
        compiled_library([source], flags=[])
    assert log.read_text() == "asked\nasked\n"


@needs_kernels
def test_sources_of_one_name_do_not_take_each_others_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    sources = []
    for number, name in enumerate(("first", "second")):
        (tmp_path / name).mkdir()
        sources.append(tmp_path / name / "source.cpp")
        sources[-1].write_text(f'extern "C" int {name}() {{ return {number}; }}')
    compiled = ctypes.CDLL(str(compiled_library(sources, flags=[])))
    assert (compiled.first(), compiled.second()) == (0, 1)
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 1


@pytest.fixture
def slow_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that takes a minute, but for what it refuses at once; the file it writes its processes' ids to."""
    compiler, log = tmp_path / "compiler", tmp_path / "log"
    compiler.write_text(
        f"#!/bin/sh\ncase $* in *broken*) sleep 0.5; echo 'error: nonsense' >&2; exit 1;; esac\n"
        f"echo $$ >> {log}\nexec sleep 60\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    for name in ("broken.cpp", "slow.cpp"):
        (tmp_path / name).write_text("")
    return log


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_sources_are_compiled_side_by_side_and_given_up_together(tmp_path: Path, slow_compiler: Path) -> None:
    started_s = time.monotonic()
    with pytest.raises(NoLibraryError, match="error: nonsense"):
        compiled_library([tmp_path / "broken.cpp", tmp_path / "slow.cpp"], flags=[])
    assert time.monotonic() - started_s < 20
    assert has_ended(int(slow_compiler.read_text()))


def test_ctrl_c_while_compiling_leaves_nothing_behind(tmp_path: Path, slow_compiler: Path) -> None:
    def interrupt() -> None:
        for _ in range(600):
            if slow_compiler.is_file() and slow_compiler.read_text():
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.1)

    user = threading.Thread(target=interrupt, daemon=True)
    # What a shell starts in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        user.start()
        with pytest.raises(KeyboardInterrupt):
            compiled_library([tmp_path / "slow.cpp"], flags=[])
        user.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert has_ended(int(slow_compiler.read_text()))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()], "nor is it remembered as a failure"


@pytest.mark.skipif(sys.platform != "linux", reason="pages are let go on Linux alone")
@pytest.mark.parametrize("is_kept", [True, False])
def test_all_files_of_a_checkpoint_are_let_go_while_they_are_packed(tmp_path: Path, is_kept: bool) -> None:
    rows, columns = 2048, 4096
    given = {}
    for number in range(3):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes(4 * rows * columns))
        given[str(number)] = StoredTensor(str(number), path, (rows, columns), "F32", 0, 4 * rows * columns)
    weights = Weights(given)
    assert len(weights.maps) == 3
    held = []

    def slowly(number: int) -> np.ndarray:
        values = weights.exact(str(number))
        assert not values.any(), "which reads all of it"
        deadline_s = time.monotonic() + 10
        while resident_bytes(f"{number}.bin") and time.monotonic() < deadline_s:
            time.sleep(0.01)
        held.append(resident_bytes(f"{number}.bin"))
        return np.zeros((32, 64), np.float32)

    matrices = [Matrix(str(number), 32, 64, 16, partial(slowly, number)) for number in range(3)]
    packed_weights(Packing(matrices), weights, tmp_path / "packed.blob" if is_kept else None, num_threads=1)
    assert held == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone is asked for pages")
def test_fetched_weights_are_in_reach(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((512, 4096)).astype(np.float32)
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    given = {"matrix": StoredTensor("matrix", tmp_path / "weights.bin", values.shape, "F32", 0, values.nbytes)}
    weights, path = Weights(given), tmp_path / "packed.blob"
    packing = Packing([Matrix("matrix", *values.shape, 16, lambda: weights.exact("matrix"))])
    packed_weights(packing, weights, path, num_threads=1)  # another process's, so to say: what reads it is mapped anew
    ours = packed.Packed(packing, weights, path, num_threads=1)
    ours._values.madvise(mmap.MADV_DONTNEED)
    before = resident_bytes("packed.blob")
    ours.fetch()
    assert before < packing.num_bytes / 2
    assert resident_bytes("packed.blob") >= packing.num_bytes


@pytest.mark.parametrize("weight_format", FORMATS)
def test_packed_weights_are_taken_from_their_file_where_it_is_whole(
    tensors: dict[str, StoredTensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weight_format: WeightFormat | None,
) -> None:
    weights, path = Weights(tensors), tmp_path / "cache" / "packed.blob"
    packing = decoder_packing(CONFIG.decoder, weights, weight_format)
    expected = bytes(packed_weights(packing, weights, None, num_threads=1))
    assert len(expected) == packing.num_bytes and any(expected)
    num_made = []
    pack = Packing.write
    monkeypatch.setattr(Packing, "write", lambda self, into, **how: (num_made.append(1), pack(self, into, **how)))

    def flipped(data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:]

    for damage in (None, lambda data: data, lambda data: data[:-1], lambda _: b"", lambda data: data[:99], flipped):
        if damage is not None:
            path.write_bytes(damage(path.read_bytes()))
        assert bytes(packed_weights(packing, weights, path, num_threads=3))[: packing.num_bytes] == expected
    assert len(num_made) == 5, "once for nothing and once for each file that is not whole"
    assert [file.name for file in path.parent.iterdir()] == ["packed.blob"]


def test_weights_are_packed_where_no_thread_can_be_started(
    tensors: dict[str, StoredTensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = Weights(tensors)
    packing = decoder_packing(CONFIG.decoder, weights, "int8")
    expected = bytes(packed_weights(packing, weights, None, num_threads=2))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr("fastvlm.runtimes.pages._SMALLEST_BYTES", 0)
    found = packed_weights(packing, weights, tmp_path / "cache" / "packed.blob", num_threads=2)
    assert bytes(found)[: packing.num_bytes] == expected and not caplog.records


def test_packed_weights_that_cannot_be_kept_are_told_of_and_done_without(
    tensors: dict[str, StoredTensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = Weights(tensors)
    packing = decoder_packing(CONFIG.decoder, weights, "int8")
    (tmp_path / "file").write_text("")
    expected = bytes(packed_weights(packing, weights, None, num_threads=1))
    assert bytes(packed_weights(packing, weights, tmp_path / "file" / "packed.blob", num_threads=2)) == expected
    assert len(caplog.messages) == 1 and "FASTVLM_CACHE" in caplog.text

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packed, "_digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed_weights(packing, weights, tmp_path / "cache" / "packed.blob", num_threads=2)
    assert not any((tmp_path / "cache").iterdir())


@needs_kernels
def test_a_cache_that_is_deleted_while_it_is_in_use(tensors: dict[str, StoredTensor], tmp_path: Path) -> None:
    def answer(ours: KernelRuntime) -> list[int]:
        encoded = ours.encode(tiles(TileLayout(64, 128)))
        return greedy(ours, [ours.embed(prompt([5], (0, 2), [7]), [encoded])], num_tokens=8)[0].tolist()

    cold = runtime(tensors, tmp_path / "cache")
    expected = answer(cold)
    assert len(list((tmp_path / "cache").glob("packed-*.blob"))) == 2
    warm = runtime(tensors, tmp_path / "cache")
    assert warm.compile_ms < cold.compile_ms
    shutil.rmtree(tmp_path / "cache")
    assert answer(warm) == answer(runtime(tensors, tmp_path / "cache")) == expected


@needs_kernels
def test_two_processes_compile_and_pack_at_once_without_torch_or_openvino(tmp_path: Path) -> None:
    without = "import sys\nsys.modules.update(torch=None, openvino=None)\n"
    both = [start(tmp_path, before=without, runtime="kernels") for _ in range(2)]
    first, second = map(finished, both)
    assert first == second and not first[1], "nothing is warned of"
    kept = sorted(path.name for path in tmp_path.rglob("*.*"))
    assert len(kept) == 3 and sum(name.endswith(".blob") for name in kept) == 2
    assert finished(start(tmp_path, before=without, runtime="kernels")) == first
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == kept


@pytest.mark.parametrize(
    ("variable", "value", "flags", "reason"),
    [
        (SWITCH, "off", "avx512_vnni avx512_bf16", "they are switched off"),
        ("CXX", "/nowhere/c++", "avx512_vnni avx512_bf16", "no C\\+\\+ compiler was found"),
        ("CXX", "c++ 'half", "avx512_vnni avx512_bf16", "no C\\+\\+ compiler was found"),
        ("CXX", "false", "avx512_vnni avx512_bf16", "false failed"),
        ("CXX", "false", "avx512_vnni", "this processor has no avx512_bf16"),
    ],
)
def test_without_kernels_there_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, flags: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("FASTVLM_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "has_instruction", lambda name: name in flags.split())
    library.load.cache_clear()
    with pytest.raises(NoLibraryError, match=reason):
        library.load()
    library.load.cache_clear()
