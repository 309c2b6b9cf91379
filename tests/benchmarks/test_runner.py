"""Systems measured in turn, each in its own process, on a tiny model with random weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.benchmarks import mnn_peer
from fastvlm.benchmarks.questions import Question
from fastvlm.benchmarks.report import BenchReport, write_json, write_plot
from fastvlm.benchmarks.runner import Plan, Row, Spread, measure
from fastvlm.benchmarks.shapes import IMAGE_TOKEN_ID, SHAPES, random_checkpoint, shape_config, tensors_of
from fastvlm.benchmarks.systems import build_system
from fastvlm.checkpoints.stored import RANGES_FILE
from fastvlm.checkpoints.strict import check_tensors, fused_shapes
from fastvlm.errors import CheckpointError, GenerationError

CONFIG = SHAPES["tiny"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return Plan(
        shape="tiny",
        folder=random_checkpoint("tiny", tmp_path_factory.mktemp("shapes") / "tiny"),
        systems=(("fastvlm-openvino", "float32"), ("fastvlm-torch", "float32")),
        sizes_px=(128, 192),
        num_text_tokens=6,
        num_decoded_tokens=3,
        num_runs=3,
        num_warm_ups=1,
        num_threads=1,
    )


def test_a_random_checkpoint_is_whole(plan: Plan) -> None:
    check_tensors(fused_shapes(CONFIG), tensors_of(plan.folder), plan.folder)
    assert random_checkpoint("tiny", plan.folder) == plan.folder
    with pytest.raises(CheckpointError, match=r"one of the shapes fastvlm-0\.5b.*got 'huge'"):
        shape_config("huge")


@pytest.mark.usefixtures("same_threads_afterwards")
def test_both_runtimes_compute_the_same_on_it(plan: Plan) -> None:
    """Numbers that are not near zero: denormal ones would make every measurement worthless."""
    question = Question(128, 6)
    logits = []
    for name in ("fastvlm-openvino", "fastvlm-torch"):
        system: Any = build_system(name, shape="tiny", folder=plan.folder, precision="float32", num_threads=1)
        runtime = system._runtime
        encoded = runtime.encode(question.pixels())
        assert 1e-3 < np.abs(np.asarray(encoded.data)).mean() < 1e3
        prompt = question.prompt(vocabulary_size=CONFIG.decoder.vocabulary_size)
        logits.append(runtime.prefill([runtime.embed(prompt, [encoded])])[0])
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)


def test_a_prompt_has_a_slot_for_each_visual_token() -> None:
    prompt = Question(256, 30).prompt(vocabulary_size=1000)
    assert prompt.num_visual_tokens == 16 and prompt.num_text_tokens == 30
    assert (prompt.token_ids == IMAGE_TOKEN_ID).sum() == 16


def test_every_system_is_measured_at_every_size(plan: Plan, tmp_path: Path) -> None:
    told: list[str] = []
    rows = measure(plan, CONFIG, None, report=told.append)
    assert [(row.system, row.size_px, row.visual_tokens) for row in rows] == [
        ("fastvlm-openvino", 128, 4), ("fastvlm-torch", 128, 4),
        ("fastvlm-openvino", 192, 9), ("fastvlm-torch", 192, 9),
    ]  # fmt: skip
    for row in rows:
        assert row.error is None and row.ttft_ms is not None and row.decode_tokens_per_second is not None
        assert 0 < row.ttft_ms.low <= row.ttft_ms.median <= row.ttft_ms.high and row.ttft_ms.n == 3
        assert row.second_ttft_ms is not None and row.second_ttft_ms.n == 3
        assert row.peak_memory_mb is not None and row.peak_memory_mb > 30
    runs = [text.rpartition(" ")[2] for text in told if text.startswith("128 px")]
    assert runs == ["fastvlm-openvino", "fastvlm-torch"] * 4, "systems take turns"
    kept = {path.name.partition("-")[0] for path in (plan.folder / "compiled").glob("*.blob")}
    assert kept == {"encoder", "projector", "decoder"}, "memory is that of a start with graphs kept from before"
    report = BenchReport(plan=plan, rows=tuple(rows), machine="a machine", versions={"python": "3"}, peak=None)
    write_json(report, tmp_path / "bench.json")
    stored = json.loads((tmp_path / "bench.json").read_text())
    assert {"system", "precision", "size_px", "visual_tokens", "text_tokens", "ttft_ms", "decode_tokens_per_second",
            "peak_memory_mb", "floor_ttft_ms"} <= stored["rows"][0].keys()  # fmt: skip
    assert stored["rows"][0]["ttft_ms"].keys() == {"median", "low", "high", "n"}


@pytest.mark.parametrize("name", ["fastvlm-openvino-int8", "fastvlm-openvino-int4"])
def test_fewer_bits_are_systems_of_their_own(plan: Plan, name: str) -> None:
    system: Any = build_system(name, shape="tiny", folder=plan.folder, precision="float32", num_threads=1)
    assert system._runtime.name == f"openvino cpu float32 encoder int8 decoder {name[-4:]}"
    answered = system.answer(Question(128, 6), num_tokens=3)
    assert len(answered.times_ms) == 3 and answered.second_ms > 0
    ranges = json.loads((plan.folder / RANGES_FILE).read_text())
    assert ranges and min(ranges.values()) > 0


@pytest.mark.usefixtures("same_threads_afterwards")
@pytest.mark.parametrize(
    ("engine", "package", "rounded"),
    [("onnxruntime", "onnxruntime", ["onnxruntime-int4"]), ("mnn", "MNN", ["mnn-int8", "mnn-int4"])],
)
def test_other_engines_compute_the_same_tokens(plan: Plan, engine: str, package: str, rounded: list[str]) -> None:
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    if importlib.util.find_spec(package) is None:  # not imported here: it may print
        pytest.skip(f"{package} is not installed")
    question, chosen = Question(128, 6), {}
    for name in ("fastvlm-torch", engine, *rounded):
        system: Any = build_system(name, shape="tiny", folder=plan.folder, precision="float32", num_threads=1)
        chosen[name] = _greedy_tokens(system, question, num_tokens=6)
        # A second answer knows nothing of the first.
        assert _greedy_tokens(system, question, num_tokens=6) == chosen[name]
    assert chosen[engine] == chosen["fastvlm-torch"]
    assert all(len(chosen[name]) == 6 for name in rounded)


def test_a_program_that_fails_is_told() -> None:
    with pytest.raises(GenerationError, match=r"Expected MNN's files to be written, got: .*no such size"):
        mnn_peer._run([sys.executable, "-c", "raise SystemExit('no such size')"])


def test_what_another_engines_converter_refuses_is_told(tmp_path: Path) -> None:
    """It ends as if nothing had happened."""
    if importlib.util.find_spec("MNN") is None:
        pytest.skip("MNN is not installed")
    (tmp_path / "broken.onnx").write_bytes(b"no graph at all")
    for source in ("broken.onnx", "missing.onnx"):
        with pytest.raises(GenerationError, match="Expected MNN's files to be written, got: "):
            mnn_peer._convert(tmp_path / source, tmp_path / "model.mnn")


def _greedy_tokens(system: Any, question: Question, *, num_tokens: int) -> list[int]:
    """What a system answers, seen where it steps."""
    tokens: list[int] = []
    if hasattr(system, "_runtime") and hasattr(system._runtime, "prefill"):
        runtime = system._runtime
        prompt = question.prompt(vocabulary_size=CONFIG.decoder.vocabulary_size)
        logits, cache = runtime.prefill([runtime.embed(prompt, [runtime.encode(question.pixels())])])
        while len(tokens) < num_tokens:
            tokens.append(int(logits[0].argmax()))
            logits = runtime.decode(np.array(tokens[-1:]), cache)
        return tokens
    step = system._step
    system._step = lambda *given: tokens.append(step(*given)) or tokens[-1]
    assert len(system.answer(question, num_tokens=num_tokens).times_ms) == num_tokens
    system._step = step
    return tokens


def test_a_second_question_shares_the_picture() -> None:
    question = Question(256, 30)
    first = question.prompt(vocabulary_size=1000)
    second = question.another(first)
    assert np.array_equal(first.image_index, second.image_index)
    assert np.array_equal(first.token_ids[: question.num_kept], second.token_ids[: question.num_kept])
    assert (first.image_index[question.num_kept :] == -1).all() and question.num_kept == 14 + 16
    assert not np.array_equal(first.token_ids, second.token_ids)


def test_a_system_that_fails_spoils_no_other(plan: Plan) -> None:
    broken = replace(
        plan, systems=(("abacus", "float32"), ("fastvlm-openvino", "float32")), sizes_px=(128,), num_runs=1
    )
    failed, measured = measure(broken, CONFIG, None)
    assert failed.error is not None and "Expected one of the systems" in failed.error and failed.ttft_ms is None
    assert measured.error is None
    with pytest.raises(GenerationError, match="No system could be measured: abacus"):
        measure(replace(broken, systems=broken.systems[:1]), CONFIG, None)


def test_a_spread_is_the_median_and_the_quarter_points() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 1)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)


def test_the_table_compares_with_transformers(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    def row(system: str, ttft_ms: float) -> Row:
        return Row(
            system=system, precision="float32", size_px=1024, visual_tokens=256, text_tokens=30,
            ttft_ms=Spread(ttft_ms, ttft_ms, ttft_ms, 1), decode_tokens_per_second=Spread(20, 20, 20, 1),
            floor_ttft_ms=50.0,
        )  # fmt: skip

    rows = (row("fastvlm-openvino", 100), row("transformers", 250))
    report = BenchReport(plan=plan, rows=rows, machine="a machine", versions={}, peak=None)
    Console(width=160).print(report)
    lines = [line for line in capsys.readouterr().out.splitlines() if "1024" in line]
    assert "2.5 x" in lines[0] and "2.00" in lines[0] and "1.0 x" in lines[1] and "5.00" in lines[1]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_plot_is_drawn(suffix: str, plan: Plan, tmp_path: Path) -> None:
    row = Row(
        system="fastvlm-openvino", precision="float32", size_px=1024, visual_tokens=256, text_tokens=30,
        ttft_ms=Spread(100, 90, 120, 5), decode_tokens_per_second=Spread(20, 19, 21, 5), floor_ttft_ms=50.0,
    )  # fmt: skip
    rows = (replace(row, size_px=512, ttft_ms=Spread(30, 29, 31, 5), floor_ttft_ms=15.0), row)
    path = tmp_path / f"bench{suffix}"
    write_plot(BenchReport(plan=plan, rows=rows, machine="a machine", versions={}, peak=None), path)
    start = path.read_bytes()[:6]
    assert start.startswith(b"\x89PNG") if suffix == ".png" else start.startswith(b"<?xml")
