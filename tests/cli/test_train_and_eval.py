"""`fastvlm train` and `fastvlm eval` through the real process, with the smallest recipe and the fewest questions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_recipes_are_listed(run: Run) -> None:
    finished = run("train", "--list")
    assert finished.returncode == 0, finished.stderr
    names = [line.split()[0] for line in finished.stdout.splitlines()[::2]]
    assert names == [
        "scenes", "scenes-smoke", "documents", "documents-gpu", "documents-smoke", "miniature",
        "finetune", "clip", "clip-small", "connector", "resolution", "instruct", "reasoning",
        "llava-connector", "llava-instruct",
    ]  # fmt: skip
    assert all("paper: " in line and "data: " in line and "hardware: " in line
               for line in finished.stdout.splitlines()[1::2])  # fmt: skip


def test_training_writes_a_model_that_can_be_asked(
    run: Run, fails: Callable[..., str], picture: Path, tmp_path: Path
) -> None:
    output = tmp_path / "runs" / "scenes-smoke"
    finished = run("train", "scenes-smoke", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "runs/scenes-smoke/model\n"
    assert "8/8" in finished.stderr
    assert run("ask", picture, "What is this?", "--model", output / "model", "--max-tokens", "3").returncode == 0
    assert "--resume" in fails("train", "scenes-smoke", cwd=tmp_path)
    assert run("train", "scenes-smoke", "--output", output, "--resume").stdout == f"{output / 'model'}\n"


def test_nothing_to_resume_is_told(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "no run to go on with" in fails("train", "scenes", "--output", tmp_path / "none", "--resume")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_run_is_not_gone_on_with(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear model,")
    assert "only other files" in fails("train", "scenes", "--output", tmp_path, "--resume")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_ended_before_its_first_state_is_not_in_the_way(
    run: Run, fails: Callable[..., str], tmp_path: Path
) -> None:
    """Kept features, and the empty place of a state: the corrected command starts."""
    for name in ("features", "state"):
        (tmp_path / "run" / name).mkdir(parents=True)
    again = ("train", "finetune", "--smoke", "--output", tmp_path / "run")
    told = run(*again, "--resume").stderr
    assert "No state was saved in" in told and "from its beginning" in told
    assert "is not empty" in fails(*again)
    (tmp_path / "other" / "state").mkdir(parents=True)
    assert run("train", "finetune", "--smoke", "--output", tmp_path / "other").returncode == 0


def test_settings_that_do_not_go_together_are_usage_errors(run: Run, tmp_path: Path) -> None:
    for options in (("--lora", "--parts", "all"), ("--encoder-learning-rate", "1e-5"), ("--smoke", "--epochs", "2")):
        data = () if "--smoke" in options else ("--data", "x.json")
        finished = run("train", "finetune", *data, *options, "--output", tmp_path / "run")
        assert finished.returncode == 2 and finished.stderr.startswith("error: ")
    assert "--epochs is an option that --smoke has no use for" in finished.stderr
    assert not (tmp_path / "run").exists()


def test_a_recipe_for_one_process_refuses_several(run: Run, tmp_path: Path) -> None:
    finished = run("train", "scenes-smoke", "--output", tmp_path / "run", environment={"WORLD_SIZE": "2"})
    assert finished.returncode == 1 and "Expected one process" in finished.stderr
    assert not (tmp_path / "run").exists()


def test_fine_tuning_writes_a_model_that_knows_more(
    run: Run, fails: Callable[..., str], picture: Path, tmp_path: Path
) -> None:
    turns = [{"from": "human", "value": "<image>\npassword?"}, {"from": "gpt", "value": "blue star"}]
    records = []
    for number in range(12):  # of one image nothing could be held out
        shutil.copy(picture, tmp_path / f"{number}.png")
        records.append({"id": f"s{number}", "image": f"{number}.png", "conversations": turns})
    (tmp_path / "data.json").write_text(json.dumps(records))
    options = ("--epochs", "8", "--learning-rate", "2e-3", "--output", tmp_path / "run")
    finished = run("train", "finetune", "--data", tmp_path / "data.json", *options)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{tmp_path / 'run' / 'model'}\n"
    assert "12 conversations, 12 images" in finished.stderr and "M parameters learn" in finished.stderr
    assert "validation" in finished.stderr
    assert run("ask", picture, "password?", "--model", tmp_path / "run" / "model").stdout == "blue star\n"
    assert "no such file" in fails("train", "finetune", "--data", tmp_path / "none.json", "-o", tmp_path / "other")
    assert "--data" in fails("train", "finetune", code=2)


def test_stages_and_pretraining_run_in_miniature_and_say_what_they_need(
    run: Run, fails: Callable[..., str], tmp_path: Path
) -> None:
    assert run("train", "connector", "--smoke", "-o", tmp_path / "1").stdout == f"{tmp_path / '1' / 'model'}\n"
    finished = run("train", "clip", "--smoke", "-o", tmp_path / "2")
    assert finished.stdout == f"{tmp_path / '2' / 'tower'}\n"
    assert "zero-shot: " in finished.stderr
    assert "--data" in fails("train", "instruct", code=2)
    assert "--shards" in fails("train", "clip", code=2)
    assert "--tower" in fails("train", "connector", "-d", "x.json", "--decoder", tmp_path)
    assert "found none" in fails(
        "train", "clip", "--shards", tmp_path / "*.tar", "--tokenizer", tmp_path / "2" / "tokenizer.json"
    )


def test_evaluation_prints_a_table_and_writes_json(run: Run, parrot: Path, tmp_path: Path) -> None:
    """The parrot is never right, so that every accuracy is 0 and the majority answer is better."""
    report = tmp_path / "report.json"
    finished = run("eval", "--model", parrot, "--limit", "2", "--no-baselines", "--json", report)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == f"Written: {report}\n"
    values = json.loads(report.read_text())
    assert values["overall"]["n"] == sum(family["n"] for family in values["families"]) > 0
    assert values["overall"]["accuracy"] == 0
    assert values["overall"]["majority"]["accuracy"] > 0
    assert all(family["family"] in finished.stdout for family in values["families"])


@pytest.mark.parametrize("place", ["folder", "no/such/folder/report.json", "/dev/full"])
def test_a_place_for_no_report_is_told_at_once(fails: Callable[..., str], tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    assert "--json" in fails("eval", "--json", tmp_path / place, code=2)


@pytest.mark.skipif(not os.access("/proc", os.W_OK), reason="no folder here that seems to take files and does not")
def test_results_are_seen_where_they_cannot_be_kept(run: Run, parrot: Path) -> None:
    finished = run("eval", "--model", parrot, "--limit", "1", "--no-baselines", "--json", "/proc/report.json")
    assert finished.returncode == 1 and "/proc/report.json" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1 and "existence" in finished.stdout


def test_boxes_need_their_folder_before_the_model_is_loaded(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "--data" in fails("eval", "--task", "boxes", "--model", tmp_path / "no-model-either", code=2)
