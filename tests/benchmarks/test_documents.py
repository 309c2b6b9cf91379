"""The tables of docs/performance.md are those of the stored results."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fastvlm.benchmarks.budgets import BudgetReport, BudgetRow, budget_markdown
from fastvlm.benchmarks.encoder_report import EncoderReport, encoder_markdown
from fastvlm.benchmarks.encoder_runner import EncoderRow, FirstTokenRow
from fastvlm.benchmarks.report import BenchReport, markdown
from fastvlm.benchmarks.runner import Plan, Row, Spread
from fastvlm.benchmarks.starts import StartsReport, StartsRow, starts_markdown
from fastvlm.benchmarks.towers import TowerReport
from fastvlm.benchmarks.training_memory import TrainingPlan, TrainingReport, TrainingRow, training_markdown
from fastvlm.benchmarks.training_steps import GradientDifference, StepRow, TrainingStepsReport, training_steps_markdown

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "performance.md").read_text()
WORDS = " ".join(DOCUMENT.split())
README = " ".join((ROOT / "README.md").read_text().split())
TRAINING = (ROOT / "docs" / "training.md").read_text()
DECISION = " ".join(
    (ROOT / "docs" / "decisions" / "0015-own-kernels-for-training-on-processors.md").read_text().split()
)


def read(name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    return stored


def with_spreads(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{name: Spread(**value) if isinstance(value, dict) else value for name, value in values.items()})


def table_of(stored: dict[str, Any], rows: tuple[Row, ...]) -> str:
    plan = Plan(shape=stored["shape"], folder=Path(), systems=(), sizes_px=())
    return markdown(BenchReport(plan=plan, rows=rows, machine="", versions={}, peak=None))


def rows_of(name: str, *, size_px: int | None = None) -> tuple[Row, ...]:
    rows = read(name)["rows"]
    return tuple(with_spreads(Row, row) for row in rows if size_px in (None, row["size_px"]))


@pytest.mark.parametrize(
    ("name", "size_px"),
    [
        ("bench-0.5b", None), ("bench-0.5b-engines", None), ("bench-0.5b-amx", None), ("bench-0.5b-onnxruntime", None),
        ("bench-0.5b-avx2", 1024),
    ],
)  # fmt: skip
def test_first_tokens_are_the_stored_ones(name: str, size_px: int | None) -> None:
    stored = read(name)
    assert table_of(stored, rows_of(name, size_px=size_px)) in DOCUMENT
    rates = stored["peak"]["tera_ops_per_second"].values()
    assert any(f"{rate:.{digits}f} tera-operations" in WORDS for rate in rates for digits in (2, 3))


def test_ratios_of_our_kernels_are_the_stored_ones() -> None:
    rows = {row.system: row for row in rows_of("bench-0.5b", size_px=1024)}
    first_ms = {name: row.ttft_ms.median for name, row in rows.items() if row.ttft_ms}
    rates = {name: row.decode_tokens_per_second.median for name, row in rows.items() if row.decode_tokens_per_second}
    usual, best = (
        first_ms["transformers"],
        min(first_ms["transformers-channels-last"], first_ms["transformers-compiled"]),
    )
    ours = [f"fastvlm-kernels{bits}" for bits in ("", "-int8", "-int4")]
    graphs = [f"fastvlm-openvino{bits}" for bits in ("", "-int8", "-int4")]
    memory = [(rows[graph].peak_memory_mb or 0) - (rows[own].peak_memory_mb or 0) for own, graph in pairs(ours, graphs)]
    words = [span_of_words(name) for name in ours]
    shares = [row.second_ttft_ms.median / first_ms[name] for name in ours if (row := rows[name]).second_ttft_ms]
    floors = {name: first_ms[name] / (rows[name].floor_ttft_ms or 1) for name in rows}
    told = (
        f"comes {usual / first_ms[ours[0]]:.1f} times as soon as transformers' in bfloat16 and "
        f"{usual / first_ms[ours[1]]:.1f} times in eight bits; against the best of transformers' forms it is "
        f"{best / first_ms[ours[0]]:.1f} and {best / first_ms[ours[1]]:.1f} times.",
        f"Words follow {words[0]} times as fast as transformers' in bfloat16, {words[1]} times with `int8` and "
        f"{words[2]} times with `int4`, over the four sizes",
        "words come {:.1f}, {:.1f} and {:.1f} times as fast".format(
            *(rates[own] / rates[graph] for own, graph in pairs(ours, graphs))
        ),
        "the first token {:.2f}, {:.2f} and {:.2f} times as soon, in {:.0f}, {:.0f} and {:.0f} MB less".format(
            *(first_ms[graph] / first_ms[own] for own, graph in pairs(ours, graphs)), *memory
        ),
        f"ours is at {floors[ours[0]]:.2f} times the floor, and transformers as it comes at "
        f"{floors['transformers']:.1f} times",
        f"ours is at {2 * floors[ours[1]]:.1f} times that one",
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of the first at 1024 px",
    )
    assert [each for each in told if each not in WORDS] == []
    in_readme = (
        f"{usual / first_ms[ours[0]]:.1f} times as soon as transformers' as it is loaded, and in eight bits "
        f"{usual / first_ms[ours[1]]:.1f} times; "
        f"{best / first_ms[ours[0]]:.1f} and {best / first_ms[ours[1]]:.1f} times as soon as its best",
        f"Words follow {words[0]} times as fast, in eight and four bits {words[1]} and {words[2]} times",
    )
    assert [each for each in in_readme if each not in README] == []


def test_ratios_beside_float32_are_the_stored_ones() -> None:
    rows = {row.system: row for row in rows_of("bench-0.5b-float32", size_px=1024)}
    first_ms = {name: row.ttft_ms.median for name, row in rows.items() if row.ttft_ms}
    rates = {name: row.decode_tokens_per_second.median for name, row in rows.items() if row.decode_tokens_per_second}
    float32, ours, eight = "transformers-float32", "fastvlm-kernels", "fastvlm-kernels-int8"
    told = (
        f"comes {first_ms[float32] / first_ms[ours]:.1f} times as soon in bfloat16 and "
        f"{first_ms[float32] / first_ms[eight]:.1f} times in eight bits, and words follow "
        f"{rates[ours] / rates[float32]:.1f} and {rates[eight] / rates[float32]:.1f} times as fast (1024 px"
    )
    assert told in WORDS


def span_of_words(system: str) -> str:
    """How many times as fast as transformers' words come, over all sizes."""
    rates = {
        (row.system, row.size_px): row.decode_tokens_per_second.median
        for row in rows_of("bench-0.5b")
        if row.decode_tokens_per_second
    }
    times = [rate / rates["transformers", size_px] for (name, size_px), rate in rates.items() if name == system]
    return f"{min(times):.1f} to {max(times):.1f}"


def pairs(ours: list[str], graphs: list[str]) -> list[tuple[str, str]]:
    return list(zip(ours, graphs, strict=True))


def test_ratios_of_first_tokens_with_amx_are_the_stored_ones() -> None:
    rows = {row.system: row for row in rows_of("bench-0.5b-amx", size_px=1024)}
    first_ms = {name: row.ttft_ms.median for name, row in rows.items() if row.ttft_ms}
    rates = {name: row.decode_tokens_per_second.median for name, row in rows.items() if row.decode_tokens_per_second}
    ours, eight = first_ms["fastvlm-openvino"], first_ms["fastvlm-openvino-int8"]
    usual, float32 = first_ms["transformers"], first_ms["transformers-float32"]
    best = min(first_ms["transformers-channels-last"], first_ms["transformers-compiled"])
    words = {name: rate / rates["transformers"] for name, rate in rates.items()}
    told = (
        f"comes {usual / ours:.1f} times as soon as transformers' in bfloat16 and {float32 / ours:.1f} times as soon "
        f"as in float32, in eight bits {usual / eight:.1f} and {float32 / eight:.1f} times; against the best of "
        f"transformers' forms it is {best / ours:.1f} and {best / eight:.1f} times.",
        f"Words follow {words['fastvlm-openvino']:.1f} times as fast as transformers' in bfloat16, "
        f"{words['fastvlm-openvino-int8']:.1f} times with `int8` and {words['fastvlm-openvino-int4']:.1f} times with",
    )
    assert all(each in WORDS for each in told)


def test_ratios_beside_other_engines_are_the_stored_ones() -> None:
    rows = {row.system: row for row in rows_of("bench-0.5b-engines", size_px=1024)}
    first_ms = {name: row.ttft_ms.median for name, row in rows.items() if row.ttft_ms}
    rates = {name: row.decode_tokens_per_second.median for name, row in rows.items() if row.decode_tokens_per_second}
    others = [name for name in rows if name.startswith(("onnxruntime", "mnn"))]
    assert len(others) == 5
    late = [
        f"{min(first_ms[name] for name in others) / first_ms[f'fastvlm-kernels{bits}']:.1f}"
        for bits in ("", "-int8", "-int4")
    ]
    versions = read("bench-0.5b-engines")["versions"]
    told = (
        f"comes {late[0]}, {late[1]} and {late[2]} times as late",
        f"writes {max(rates[name] for name in others):.0f} tokens a second",
        f"ours {rates['fastvlm-kernels-int8']:.0f} with `int8` and {rates['fastvlm-kernels-int4']:.0f} with `int4`",
        f"ONNX Runtime {versions['onnxruntime']} and MNN {versions['mnn']}",
    )
    assert all(each in WORDS for each in told)


def test_tokens_beside_onnx_runtime_are_the_stored_ones() -> None:
    rates = {
        row.system: row.decode_tokens_per_second.median
        for row in rows_of("bench-0.5b-onnxruntime", size_px=1024)
        if row.decode_tokens_per_second is not None
    }
    told = f"({rates['onnxruntime-int4']:.0f} tokens a second instead of {rates['fastvlm-openvino-int4']:.0f})"
    assert told in WORDS
    assert f"ONNX Runtime {read('bench-0.5b-onnxruntime')['versions']['onnxruntime']}" in DOCUMENT


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("bench-0.5b", "kernels"),
        ("bench-0.5b-engines", "kernels"),
        ("bench-0.5b-amx", "openvino"),
        ("bench-0.5b-onnxruntime", "openvino"),
    ],
)
def test_ours_is_the_soonest_at_every_size(name: str, engine: str) -> None:
    """What the page says of it: in each precision, beside every peer."""
    for size_px in (512, 768, 1024, 1536):
        first_ms = {row.system: row.ttft_ms.median for row in rows_of(name, size_px=size_px) if row.ttft_ms}
        peers = [value for system, value in first_ms.items() if not system.startswith("fastvlm")]
        ours = [value for system, value in first_ms.items() if system.startswith(f"fastvlm-{engine}")]
        assert len(ours) == 3 and max(ours) < min(peers)


def test_budgets_are_the_stored_ones() -> None:
    stored = read("budgets-0.5b")
    rows = tuple(BudgetRow(**row) for row in stored["rows"])
    described = {field.name: stored[field.name] for field in fields(BudgetReport) if field.name != "rows"}
    report = BudgetReport(**described, rows=rows)
    assert budget_markdown(report) in DOCUMENT
    assert f"{report.num_kept} of {len(rows)} kept within a tenth" in WORDS
    assert report.num_kept == stored["num_kept"]
    elsewhere = read("budgets-0.5b-amx")
    assert f"{elsewhere['num_kept']} of {len(elsewhere['rows'])} (`docs/results/budgets-0.5b-amx.json`)" in WORDS


def test_encoders_are_the_stored_ones() -> None:
    stored = read("bench-encoders")
    report = EncoderReport(
        plan=Plan(shape=stored["decoder"], folder=Path(), systems=(), sizes_px=()),
        encoders=tuple(with_spreads(EncoderRow, row) for row in stored["encoders"]),
        first_tokens=tuple(with_spreads(FirstTokenRow, row) for row in stored["first_tokens"]),
        machine="",
        versions={},
    )
    assert all(table in DOCUMENT for table in encoder_markdown(report))


@pytest.mark.parametrize(("place", "name"), [(1, "float32"), (2, "bfloat16"), (3, "int8"), (4, "int4")])
def test_what_bits_cost_is_the_stored_score(place: int, name: str) -> None:
    stored = read(f"documents-{name}")
    table = DOCUMENT.split("| family | float32 | bfloat16 | int8 | int4 |")[1].splitlines()
    for entry in (*stored["families"], {**stored["overall"], "family": "overall"}):
        (line,) = (line for line in table if line.startswith(f"| {entry['family']} |"))
        assert line.split(" | ")[place].removesuffix(" |") == f"{100 * entry['accuracy']:.1f}"


def test_what_bits_cost_is_told_as_stored() -> None:
    exact = read("documents-float32")["overall"]["accuracy"]

    def told(name: str) -> str:
        points = 100 * (read(f"documents-{name}")["overall"]["accuracy"] - exact)
        return f"{'gains' if points > 0 else 'loses'} {abs(points):.1f}"

    for end, before in (("", "Of 1,600 questions"), ("-openvino", "in either format,")):
        bits = [told(f"{name}{end}") for name in ("bfloat16", "int8", "int4")]
        assert f"{before} bfloat16 {bits[0]} points, `int8` {bits[1]} and `int4` {bits[2]}" in WORDS


def test_what_bits_cost_with_a_closer_look_is_told_as_stored() -> None:
    right = [100 * read(f"documents-{name}-closer")["overall"]["accuracy"] for name in ("bfloat16", "int8", "int4")]
    told = "{:.1f} % are right in bfloat16, {:.1f} in `int8` and {:.1f} in `int4`".format(*right)
    assert told in WORDS and right[0] > 100 * read("documents-bfloat16")["overall"]["accuracy"]


def test_the_embedded_models_times_are_the_stored_ones() -> None:
    stored = read("answers")
    rows = [line.split(" | ")[1:] for line in DOCUMENT.splitlines() if re.match(r"\| (first|whole|the command)", line)]
    spreads = [Spread(**stored[name]) for name in ("first_token_ms", "answer_ms", "command_ms")]
    assert rows == [[f"{one.median:.0f} ({one.low:.0f} to {one.high:.0f})", f"{one.n} |"] for one in spreads]
    on_amx = read("answers-amx")
    first, closer, whole = (Spread(**on_amx[name]) for name in ("first_token_ms", "closer_ms", "command_ms"))
    told = (
        f"{first.median:.0f} ms ({first.low:.0f} to {first.high:.0f}, n {first.n})",
        f"{closer.median:.0f} ms ({closer.low:.0f} to {closer.high:.0f}, n {closer.n})",
        f"{whole.median:.0f} ({whole.low:.0f} to {whole.high:.0f}, n {whole.n}; `answers-amx.json`)",
    )
    assert [each for each in told if each not in WORDS] == []


def test_starts_are_the_stored_ones() -> None:
    stored = read("start-0.5b")
    rows = tuple(with_spreads(StartsRow, row) for row in stored["rows"])
    report = StartsReport(model=stored["model"], num_threads=2, rows=rows, machine="", versions={})
    assert starts_markdown(report) in DOCUMENT
    rest_ms = [row.command_ms.median - row.load_ms.median - row.first_token_ms.median for row in rows]
    assert f"{min(rest_ms):.0f} to {max(rest_ms):.0f} ms, is Python" in WORDS


def test_what_a_tower_is_worth_is_the_stored_result() -> None:
    report = TowerReport(**read("towers"))
    document = TRAINING
    step = report.first_step(report.pretrained, target=0.8)
    last = f"{100 * report.fresh[-1]:.0f} % after {report.steps[-1]} on the fresh encoder"
    assert f"80 % are right after {step} steps on the tower, and {last}" in document
    assert f"{report.num_answers} questions" in document


def test_training_steps_are_the_stored_ones() -> None:
    stored = read("training-steps")
    rows = []
    for row in stored["rows"]:
        spreads = {name: Spread(**value) for name, value in row.items() if isinstance(value, dict) and "n" in value}
        rows.append(StepRow(**(row | spreads | {"gradients": GradientDifference(**row["gradients"])})))
    described = {field.name: stored[field.name] for field in fields(TrainingStepsReport)}
    assert training_steps_markdown(TrainingStepsReport(**(described | {"rows": tuple(rows)}))) in DOCUMENT
    assert f"{rows[-1].over_torch.median:.2f} times as fast" in DECISION
    assert f"{rows[-1].over_channels_last.median:.2f} times as fast" in DECISION


def test_what_a_training_step_takes_is_as_stored() -> None:
    stored = read("training-memory")
    names = {field.name for field in fields(TrainingPlan)} - {"folder"}
    report = TrainingReport(
        plan=TrainingPlan(folder=Path(), **{name: stored[name] for name in names}),
        rows=tuple(TrainingRow(**row) for row in stored["rows"]),
        device=stored["device"],
        products=stored["products"],
        machine=stored["machine"],
        versions=stored["versions"],
    )
    assert training_markdown(report) in TRAINING
