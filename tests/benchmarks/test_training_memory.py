"""What a training step takes: each way lets learn what it says, and is measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fastvlm.benchmarks import training_memory, training_worker
from fastvlm.benchmarks.report import write_json
from fastvlm.benchmarks.shapes import random_checkpoint, shape_config
from fastvlm.benchmarks.training_memory import (
    MeasuredSteps,
    Parts,
    TrainingPlan,
    TrainingWay,
    measure_training,
    training_markdown,
    training_ways,
)
from fastvlm.benchmarks.training_worker import build_learner, measure_steps, random_batch
from fastvlm.models.vlm import FastVLM
from fastvlm.training import precision
from fastvlm.training.lora import TARGETS, LoraSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    folder = random_checkpoint("tiny", tmp_path_factory.mktemp("shapes") / "tiny")
    return TrainingPlan(
        shape="tiny", folder=folder, size_px=128, batch_size=2, num_text_tokens=7, num_runs=2, num_threads=1
    )


def learning(model: FastVLM) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_every_way_comes_once_and_features_are_not_kept_of_an_encoder_that_learns() -> None:
    ways = [(way.parts, way.pictures) for way in training_ways()]
    assert ways == [
        ("projector", "pixels"), ("projector", "features"), ("language", "pixels"), ("language", "features"),
        ("lora", "pixels"), ("lora", "features"), ("all", "pixels"),
    ]  # fmt: skip
    both = list(training_ways(["all"], activations="both"))
    assert [way.activations for way in both] == ["kept", "recomputed"]


@pytest.mark.parametrize("parts", ["projector", "language", "all"])
def test_what_learns_is_what_the_way_says(parts: Parts, plan: TrainingPlan) -> None:
    model = build_learner(plan, TrainingWay(parts=parts), device=CPU)
    named = {"projector": ("projector.",), "language": ("projector.", "decoder."), "all": ("",)}[parts]
    assert learning(model) == {name for name, _ in model.named_parameters() if name.startswith(named)}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_low_rank_changes_learn_beside_the_projector(plan: TrainingPlan) -> None:
    pytest.importorskip("peft")
    model = build_learner(plan, TrainingWay(parts="lora"), device=CPU)
    others = {name for name in learning(model) if not name.startswith("projector.")}
    assert len(others) == 2 * len(TARGETS) * shape_config("tiny").decoder.num_layers
    assert all("lora_" in name for name in others)
    plain = build_learner(plan, TrainingWay(parts="projector"), device=CPU)
    assert learning(model) - others == learning(plain)
    assert LoraSettings().rank in {parameter.shape[0] for name, parameter in model.named_parameters() if name in others}


def test_activations_are_recomputed_where_the_way_says(plan: TrainingPlan) -> None:
    kept, recomputed = (build_learner(plan, way, device=CPU) for way in training_ways(["all"], activations="both"))
    assert not kept.decoder.recomputes and not kept.vision.recomputes
    assert recomputed.decoder.recomputes and recomputed.vision.recomputes


def test_a_batch_has_a_slot_for_each_visual_token_and_learns_the_later_words(plan: TrainingPlan) -> None:
    width = shape_config("tiny").vision.output_width
    for way in training_ways(["projector"]):
        batch = random_batch(plan, way)
        assert batch.token_ids.shape == (2, 4 + 7) and batch.is_visual.sum() == 2 * 4
        assert batch.supervised.sum(1).tolist() == [3, 3] and batch.supervised[:, -3:].all()
        assert batch.pixels.shape == ((2, 3, 128, 128) if way.pictures == "pixels" else (0, 3, 64, 64))
        assert (batch.features is None) == (way.pictures == "pixels")
        assert batch.features is None or batch.features.shape == (2 * 4, width)


@pytest.mark.usefixtures("same_threads_afterwards")
def test_kept_features_pass_no_encoder(plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*given: object, **options: object) -> FastVLM:
        model = build_learner(*given, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(model.vision, "forward_stages", lambda _: pytest.fail("the encoder was called"))
        return model

    monkeypatch.setattr(training_worker, "build_learner", blind)
    found = measure_steps(plan, TrainingWay(parts="language", pictures="features"))
    assert len(found.times_s) == 2 and all(time_s > 0 for time_s in found.times_s)


@pytest.mark.usefixtures("same_threads_afterwards")
@pytest.mark.parametrize("activations", ["kept", "recomputed"])
def test_steps_are_measured_in_float32_too(
    activations: str, plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: False)
    monkeypatch.setattr(training_worker, "has_fast_bfloat16", lambda _: False)
    found = measure_steps(plan, TrainingWay(parts="all", activations=activations))  # type: ignore[arg-type]
    assert found.products == "float32" and found.device == "the processor" and len(found.times_s) == 2
    assert found.num_learning == sum(parameter.numel() for parameter in FastVLM(shape_config("tiny")).parameters())


def test_a_row_comes_from_a_process_of_its_own_or_says_why_not(
    plan: TrainingPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    way = TrainingWay(parts="projector", pictures="features")
    broken = measure_training(replace(plan, folder=tmp_path / "nothing"), [way])
    assert broken.device is None and broken.rows[0].median_s is None
    assert broken.rows[0].error is not None and "nothing" in broken.rows[0].error

    result = measure_training(plan, [way], report=told.append)
    (row,) = result.rows
    assert told == ["1 of 1: projector from features, activations kept"]
    assert row.error is None and row.median_s is not None and row.peak_memory_mb is not None
    assert row.least_s is not None and row.most_s is not None and row.least_s <= row.median_s <= row.most_s
    assert row.samples_per_second == pytest.approx(2 / row.median_s) and row.peak_memory_mb > 100
    assert result.device == "the processor"

    write_json(result, tmp_path / "training.json")
    stored = json.loads((tmp_path / "training.json").read_text())
    assert stored["rows"][0]["parts"] == "projector" and stored["size_px"] == 128 and "folder" not in stored
    Console(width=160).print(result)
    assert "On the processor, weights in float32" in capsys.readouterr().out
    assert training_markdown(result).startswith("| what learns |")


@pytest.mark.parametrize(
    ("code", "stderr", "told"),
    [(-9, "", "its process was killed (out of memory?)"), (1, "Traceback\nOops: no", "its process ended with 1: Oops")],
)
def test_a_process_that_is_killed_is_a_row(
    code: int, stderr: str, told: str, plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    replies = [
        subprocess.CompletedProcess([], code, "", stderr),
        subprocess.CompletedProcess([], 0, json.dumps(measured([0.3, 0.1, 0.2])), ""),
    ]
    monkeypatch.setattr(training_memory, "run_program", lambda *_, **__: replies.pop(0))
    result = measure_training(plan, list(training_ways(["projector"])))
    failed, row = result.rows
    assert failed.error is not None and failed.error.startswith(told) and failed.num_learning is None
    assert (row.least_s, row.median_s, row.most_s, row.samples_per_second) == (0.1, 0.2, 0.3, 10)
    Console(width=160).print(result)
    printed = capsys.readouterr().out
    assert f"Not had: projector from pixels, kept: {told}" in printed and "0.2 (0.1 to 0.3)" in printed
    assert told in training_markdown(result)


def measured(times_s: list[float]) -> dict[str, object]:
    found = MeasuredSteps(
        num_learning=7, times_s=times_s, loaded_memory_mb=None, peak_memory_mb=None, device="a GPU", products="bfloat16"
    )
    return dict(vars(found))
