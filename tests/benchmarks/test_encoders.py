"""Other encoders have the sizes that their papers give, and are put together to the models that the paper names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.benchmarks import encoder_runner, encoders, systems
from fastvlm.benchmarks.encoder_report import EncoderReport, encoder_markdown, write_encoder_plot
from fastvlm.benchmarks.encoder_runner import DECODER, measure_encoders, measure_first_tokens
from fastvlm.benchmarks.encoders import OTHERS, ConvNeXtShape, RandomEncoder, ViTShape, other_shape
from fastvlm.benchmarks.questions import Answered, Question
from fastvlm.benchmarks.report import write_json
from fastvlm.benchmarks.runner import Plan, Spread
from fastvlm.benchmarks.shapes import SHAPES, random_checkpoint
from fastvlm.benchmarks.systems import PARTS, build_system
from fastvlm.errors import GenerationError
from fastvlm.runtimes.openvino.engine import Engine

SMALL = {
    "vit": ViTShape(width=32, num_layers=2, num_heads=2, feed_forward_width=48, has_class_token=True),
    "siglip": ViTShape(width=32, num_layers=2, num_heads=2, feed_forward_width=48),
    "convnext": ConvNeXtShape(depths=(1, 1, 2, 1), widths=(8, 16, 16, 32)),
}


@pytest.mark.parametrize(
    ("name", "size_px", "visual_tokens", "million_parameters", "giga_macs"),
    [
        # Table 4 of CLIP, appendix of SigLIP without its pooling head, table 9 of ConvNeXt without its classifier (34.4
        # GMAC at 224 px); ConvLLaVA adds six blocks of 3072 channels.
        ("vit-l-14", 336, 576, 303.5, 191),
        ("siglip-so400m-14", 384, 729, 412.6, 336),
        ("convnext-l", 224, 49, 196.2, 34.4),
        ("convllava", 768, 144, 196.2 + 472, None),
    ],
)
def test_shapes_have_the_published_sizes(
    name: str, size_px: int, visual_tokens: int, million_parameters: float, giga_macs: float | None
) -> None:
    counted = RandomEncoder(other_shape(name), size_px=size_px, precision="float32", is_empty=True)
    counted.build()
    assert OTHERS[name].num_tokens(size_px) == visual_tokens
    assert counted.num_parameters / 1e6 == pytest.approx(million_parameters, rel=0.01)
    if giga_macs is not None:
        assert counted.macs / 1e9 == pytest.approx(giga_macs, rel=0.02)


@pytest.mark.parametrize("name", SMALL)
def test_graphs_give_a_vector_for_each_token(name: str) -> None:
    shape, size_px = SMALL[name], 128
    graph = RandomEncoder(shape, size_px=size_px, precision="float32")
    request = Engine([], about="", precision="float32").compiled(name, graph.build).request()
    tokens = request.infer([Question(size_px, 2).pixels().pixels])[0]
    has_class_token = isinstance(shape, ViTShape) and shape.has_class_token
    assert tokens.shape == (1, shape.num_tokens(size_px) + has_class_token, 32)
    assert 1e-2 < np.abs(tokens).mean() < 1e2, "numbers that are not near zero, which would take longer"


@pytest.mark.parametrize("engine", ["encoder", "encoder-transformers"])
@pytest.mark.parametrize("name", [*SMALL, "fastvithd"])
@pytest.mark.usefixtures("same_threads_afterwards")
def test_encoders_are_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, name: str) -> None:
    if not PARTS[engine].is_installed:
        pytest.skip("transformers and timm are not installed")
    monkeypatch.setattr(encoders, "OTHERS", SMALL)
    folder = random_checkpoint("tiny", tmp_path / "tiny")
    monkeypatch.setattr(systems, "ENCODERS", {"fastvithd": SHAPES["tiny"].vision})
    size_px = 128 if name == "fastvithd" else 112
    system = build_system(engine, shape=name, folder=folder, precision="float32", num_threads=1)
    for side in (size_px, 2 * size_px):
        (milliseconds,) = system.answer(Question(side, 2), num_tokens=1).times_ms
        assert milliseconds > 0


def test_a_decoder_alone_reads_as_many_positions_as_asked(tmp_path: Path) -> None:
    folder = random_checkpoint("tiny", tmp_path / "tiny")
    system: Any = build_system("prefill", shape="tiny", folder=folder, precision="float32", num_threads=1)
    prefill, lengths = system._runtime.prefill, []

    def noted(prompts: list[Any]) -> Any:
        lengths.extend(prompt.num_positions for prompt in prompts)
        return prefill(prompts)

    system._runtime.prefill = noted
    assert len(system.answer(Question(0, 40), num_tokens=1).times_ms) == 1
    assert len(system.answer(Question(128, 40), num_tokens=1).times_ms) == 1
    assert lengths == [40, 44]


def test_an_unknown_encoder_is_told() -> None:
    with pytest.raises(GenerationError, match="one of the encoders fastvithd, vit-l-14"):
        other_shape("eye")


class ScriptedWorker:
    """Takes as many milliseconds as a picture is wide, and as a prompt is long; notes who was asked."""

    asked: list[tuple[str, int]] = []  # noqa: RUF012 - one list for all workers is the point

    def __init__(self, system: str, precision: str, plan: Plan) -> None:
        self.system, self.precision, self.shape, self.error = system, precision, plan.shape, None

    def answer(self, question: Question, *, num_tokens: int) -> Answered:
        assert num_tokens == 1
        ScriptedWorker.asked.append((self.shape, question.size_px))
        return Answered([float(question.size_px or question.num_text_tokens)])

    def __enter__(self) -> ScriptedWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        shape=DECODER, folder=tmp_path, systems=(("encoder", "float32"),), sizes_px=(), num_runs=2, num_warm_ups=1
    )


def test_encoders_take_turns_and_make_models(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encoder_runner, "Worker", ScriptedWorker)
    ScriptedWorker.asked.clear()
    rows = measure_encoders(plan, "encoder")
    first_round = [("fastvithd", 1024), ("vit-l-14", 336), ("siglip-so400m-14", 384), ("convnext-l", 1024)]
    assert ScriptedWorker.asked[:4] == ScriptedWorker.asked[5:9] == first_round, "encoders take turns"
    assert {(row.encoder, row.size_px) for row in rows} == {
        (name, size_px) for name, sizes in encoder_runner.SIZES_PX.items() for size_px in sizes
    }
    by_size = {(row.encoder, row.size_px): row for row in rows}
    ours = by_size["fastvithd", 1024]
    assert ours.visual_tokens == 256 and ours.million_parameters == pytest.approx(122.7, abs=0.3)
    assert ours.giga_macs == pytest.approx(243, rel=0.02) and ours.encode_ms == Spread(1024, 1024, 1024, 2)

    models = {row.name: row for row in measure_first_tokens(plan, rows)}
    assert models["FastVLM"].ttft_ms == 1024 + 256 + 30 and models["FastVLM"].slower == 1
    many = models["LLaVA-OneVision"]
    assert many.ttft_ms == 10 * 384 + 7290 + 30 and many.paper == 85
    assert many.slower == pytest.approx(many.ttft_ms / models["FastVLM"].ttft_ms)

    report = EncoderReport(
        plan=plan, encoders=tuple(rows), first_tokens=tuple(models.values()), machine="a machine", versions={}
    )
    write_json(report, tmp_path / "encoders.json")
    stored = json.loads((tmp_path / "encoders.json").read_text())
    assert len(stored["encoders"]) == len(rows) and stored["first_tokens"][0]["slower"] == 1
    from rich.console import Console

    Console(width=160).print(report)
    printed = capsys.readouterr().out
    assert "siglip-so400m-14" in printed and "LLaVA-OneVision" in printed and "85 x" in printed
    first, second = encoder_markdown(report)
    assert first.count("\n") == 2 + len(rows) and "| LLaVA-OneVision | siglip-so400m-14 | 384 | 10 | 7290 |" in second
    write_encoder_plot(report, tmp_path / "encoders.svg")
    drawn = (tmp_path / "encoders.svg").read_text()
    assert "Vision encoders: time over resolution" in drawn and "siglip-so400m-14, openvino" in drawn


def test_an_encoder_that_fails_is_told_in_its_row(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(ScriptedWorker):
        def answer(self, question: Question, *, num_tokens: int) -> Answered:
            if self.shape == "convllava":
                self.error = "out of memory"  # type: ignore[assignment]
                return Answered([])
            return super().answer(question, num_tokens=num_tokens)

    monkeypatch.setattr(encoder_runner, "Worker", Failing)
    rows = measure_encoders(plan, "encoder")
    failed = [row for row in rows if row.encoder == "convllava"]
    assert all(row.error == "out of memory" and row.encode_ms is None for row in failed)
    assert "ConvLLaVA" not in {row.name for row in measure_first_tokens(plan, rows)}
    assert all(row.error is None and row.encode_ms is not None for row in rows if row.encoder != "convllava")
