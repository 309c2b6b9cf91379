"""`fastvlm bench` on a tiny model."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastvlm.runtimes.kernels.library import reason_against

Run = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]


def test_bench_prints_a_table_and_writes_rows(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    arguments = ["--shape", "tiny", "--size", "128", "--precision", "float32", "--peers", "none", "--runs", "2"]
    finished = run("bench", *arguments, "--threads", "1", "--decode-tokens", "2", "--text-tokens", "5", "--json", file)
    assert finished.returncode == 0, finished.stderr
    assert "fastvlm-openvino" in finished.stdout and "fastvlm-torch" in finished.stdout
    rows = json.loads(file.read_text())["rows"]
    engines = ["openvino"] if reason_against() else ["kernels", "openvino"]
    names = [f"fastvlm-{engine}{bits}" for engine in engines for bits in ("", "-int8", "-int4")]
    assert [row["system"] for row in rows] == [*names, "fastvlm-torch"]
    assert all(row["floor_ttft_ms"] > 0 and row["ttft_ms"]["n"] == 2 for row in rows)


def test_wrong_flags_are_told_in_one_line(run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    assert "one of the shapes" in fails("bench", "--shape", "huge")
    for arguments, words in ((["--size", "100"], "multiple of 64"), (["--plot", tmp_path / "plot.jpg"], ".png, .svg")):
        finished = run("bench", "--shape", "tiny", *arguments)
        assert finished.returncode == 2 and words in finished.stderr


def test_a_system_that_will_not_be_measured_is_told(run: Run) -> None:
    asked = ("bench", "--shape", "tiny", "--system", "fastvlm-torch", "--system", "transformers", "--peers", "none")
    finished = run(*asked)
    assert finished.returncode == 2
    assert re.search(r"transformers (is not installed|is a peer, which --peers none leaves out)\.", finished.stderr)


def test_options_before_the_subcommand_are_not_lost_silently(run: Run) -> None:
    finished = run("bench", "--size", "512", "encoders")
    assert finished.returncode == 2 and "Options of encoders stand behind it: --size." in finished.stderr


def test_budgets_are_drawn_and_judged(run: Run, tmp_path: Path) -> None:
    """What takes the tiny model milliseconds is in time for a minute, and late for a thousandth of one."""
    file, table = tmp_path / "budgets.json", tmp_path / "budgets.md"
    arguments = ["budgets", "--shape", "tiny", "--count", "2", "--threads", "1", "--json", file, "--markdown", table]
    environment = {"FASTVLM_CACHE": str(tmp_path / "cache")}
    for span, num_kept in ((["--from", "60s", "--to", "61s"], 2), (["--from", "0.001", "--to", "0.002ms"], 0)):
        finished = run("bench", *arguments, *span, environment=environment)
        assert finished.returncode == 0, finished.stderr
        assert f"{num_kept} of 2 budgets kept" in finished.stdout
        written = json.loads(file.read_text())
        assert written["num_kept"] == num_kept and len(written["rows"]) == 2
        assert all(row["ttft_ms"] > 0 and row["is_possible"] == bool(num_kept) for row in written["rows"])
        assert table.read_text().count("(none in time)") == 2 - num_kept
    assert not (tmp_path / "cache").exists(), "what nobody will load again is not kept"


def test_a_span_of_budgets_that_is_none(run: Run) -> None:
    finished = run("bench", "budgets", "--shape", "tiny", "--from", "2s", "--to", "150ms")
    assert finished.returncode == 2 and "--from to be at most --to" in finished.stderr
    finished = run("bench", "budgets", "--from", "soon")
    assert finished.returncode == 2 and "'soon' is no time above zero; write it as 400ms or 1.5s." in finished.stderr


def test_answers_and_starts_are_timed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    finished = run("bench", "answers", "--questions", "2", "--starts", "1", "--threads", "1", "--json", file)
    assert finished.returncode == 0, finished.stderr
    assert "first token, model loaded" in finished.stdout
    written = json.loads(file.read_text())
    first, answer, command = (written[name] for name in ("first_token_ms", "answer_ms", "command_ms"))
    closer = written["closer_ms"]
    assert closer is None or (0 < closer["low"] <= closer["high"] and 1 <= closer["n"] <= 2)
    assert (first["n"], answer["n"], command["n"]) == (2, 2, 1)
    assert 0 < first["median"] <= answer["median"] and first["low"] < command["median"]
    assert written["num_threads"] == 1 and 1 <= written["visual_tokens"]["median"] <= 128


def test_the_whole_command_is_timed_with_and_without_what_was_kept(run: Run, tmp_path: Path) -> None:
    file, table = tmp_path / "start.json", tmp_path / "start.md"
    arguments = ["start", "--shape", "tiny", "--starts", "2", "--quantize", "none", "--quantize", "int8"]
    finished = run(
        "bench", *arguments, "--threads", "1", "--json", file, "--markdown", table,
        environment={"FASTVLM_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "tiny: from the command to the first token, 1 threads" in finished.stdout
    written = json.loads(file.read_text())
    assert [row["quantize"] for row in written["rows"]] == [None, "int8"] and "encoder int8" in written["rows"][1][
        "runtime"
    ]
    for row in written["rows"]:
        load, first, command, empty = (
            row[f"{name}_ms"] for name in ("load", "first_token", "command", "empty_command")
        )
        assert 0 < load["median"] + first["median"] < command["median"] and empty["median"] > 0
        assert (command["n"], empty["n"]) == (2, 1) and row["peak_memory_mb"] > 20
        assert row["prompt_tokens"] == written["rows"][0]["prompt_tokens"] > 20
    assert table.read_text().count("\n") == 4 and "| int8 |" in table.read_text()
    assert not (tmp_path / "cache").exists(), "what nobody will load again is not kept"


def test_a_model_that_is_there_is_started_in_one_format(run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "start.json"
    arguments = ["--model", "embedded", "--starts", "1", "--empty", "0", "--quantize", "none", "--json", file]
    finished = run("bench", "start", *arguments)
    assert finished.returncode == 0, finished.stderr
    written = json.loads(file.read_text())
    assert written["model"] == "embedded" and len(written["rows"]) == 1
    assert written["rows"][0]["empty_command_ms"] is None and written["rows"][0]["empty_peak_memory_mb"] is None
    assert "got both" in fails("bench", "start", "--shape", "tiny", "--model", "embedded", code=2)
    assert "Expected an answer from `fastvlm ask`" in fails("bench", "start", "--model", str(tmp_path))


@pytest.mark.parametrize("arguments", [["start", "--starts", "500"], ["--runs", "5000", "--size", "64"]])
def test_a_measurement_that_is_told_to_end_leaves_nothing(start: Start, tmp_path: Path, arguments: list[str]) -> None:
    """As `timeout` and a system that shuts down tell it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = {"TMPDIR": str(temporary), "FASTVLM_CACHE": str(tmp_path / "cache")}
    process = start("bench", *arguments, "--shape", "tiny", "--threads", "1", environment=places)
    deadline_s = time.monotonic() + 120
    while not any(path.is_file() for path in temporary.rglob("*")):
        assert process.poll() is None and time.monotonic() < deadline_s, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert process.stderr.read().splitlines()[-1] == "Terminated."
    assert not [*temporary.iterdir()]


@pytest.mark.parametrize(
    "arguments",
    [["start", "--starts", "1", "--quantize", "none"], ["--size", "64", "--runs", "1", "--system", "fastvlm-kernels"]],
)
def test_what_a_measurement_compiles_ends_with_it(start: Start, tmp_path: Path, arguments: list[str]) -> None:
    if reason_against() is not None:
        pytest.skip(f"no kernels here: {reason_against()}")
    compiler, asked = tmp_path / "compiler", tmp_path / "asked"
    # One that goes on for an hour if nobody ends it.
    compiler.write_text(f"#!/bin/sh\necho $$ >> {asked}\nexec sleep 3600\n")
    compiler.chmod(0o755)
    chosen = {"CXX": str(compiler), "FASTVLM_CACHE": str(tmp_path / "cache")}
    process = start("bench", *arguments, "--shape", "tiny", "--threads", "1", environment=chosen)
    deadline_s = time.monotonic() + 120
    while not (asked.is_file() and len(asked.read_text().split()) >= 2):
        assert process.poll() is None and time.monotonic() < deadline_s, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 143
    for number in asked.read_text().split():
        assert not Path(f"/proc/{number}").exists()
    assert not any(tmp_path.rglob(".fastvlm-*"))


def test_more_questions_than_there_are_pictures_are_told(fails: Callable[..., str]) -> None:
    assert "at most 47 questions" in fails("bench", "answers", "--questions", "48")
