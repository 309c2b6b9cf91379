"""A wrong command line: one line on stderr, exit code 2, before anything heavy is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from fastvlm.cli.options import milliseconds

Fails = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], "No such option '--nope'"),
        (["aks"], "No such command 'aks'. Did you mean 'ask'? See: fastvlm --help"),
        (["bench", "strat"], "No such command 'strat'. Did you mean 'start'? See: fastvlm bench --help"),
        (["serve"], "No such command 'serve'. See: fastvlm --help"),
        (["ask"], "Missing the question"),
        (["ask", "missing.png"], "Missing the question"),
        (["ask", "-"], "Missing the question"),
        (["ask", "a.png", ""], "question is empty"),
        (["ask", "a.png", "  \n"], "question is empty"),
        (["ask", "-", "-", "What?"], "Only one picture"),
        (["ask", "What?", "--colour"], "No such option"),
        (["ask", "What?", "--temperature", "-1"], "temperature"),
        (["ask", "What?", "--temperature", "nan"], "temperature"),
        (["ask", "What?", "--temperature", "warm"], "not a valid float"),
        (["ask", "What?", "--max-tokens", "0"], "max_new_tokens"),
        (["ask", "What?", "--max-ttft", "0"], "is no time above zero"),
        (["ask", "What?", "--max-ttft", "soon"], "is no time above zero"),
        (["ask", "What?", "--max-ttft", "4 min"], "is no time above zero"),
        (["ask", "What?", "--max-new-tokens", "many"], "not a valid integer"),
        (["ask", "What?", "--top-p", "1.5"], "top_p"),
        (["ask", "What?", "--top-k", "-3"], "top_k"),
        (["ask", "What?", "--min-p", "2"], "min_p"),
        (["ask", "--image", "a.png"], "Missing the question"),
        (["ask", "--image", "a.png", "--prompt", " "], "question is empty"),
        (["ask", "-", "--image", "-", "--prompt", "What?"], "Only one picture"),
        (["ask", "What?", "--device", "cuda:x"], "'cuda:x' is not one of"),
        (["ask", "What?", "--repetition-penalty", "0"], "repetition_penalty"),
        (["ask", "What?", "--seed", "-1"], "seed"),
        (["ask", "What?", "--stop", ""], "stop"),
        (["ask", "What?", "--threads", "0"], "--threads"),
        (["ask", "What?", "--device", "abacus"], "'abacus' is not one of"),
        (["ask", "What?", "--dtype", "int3"], "'int3' is not one of"),
        (["ask", "--model"], "requires an argument"),
        (["chat", "--temperature", "-1"], "temperature"),
        (["convert", "only-one"], "Missing argument"),
        (["convert", "a", "b", "--to", "pickle"], "'pickle' is not one of"),
        (["train", "nothing", "--output", "x"], "No such command 'nothing'. See: fastvlm train --help"),
        (["eval", "--limit", "0"], "--limit"),
        (["eval", "--task", "boxes"], "--data"),
        (["eval", "--task", "boxes", "--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_wrong_usage_is_told_in_one_line(fails: Fails, arguments: list[str], words: str) -> None:
    assert words in fails(*arguments, code=2)


def test_a_question_that_is_a_file_is_told(fails: Fails, picture: Path) -> None:
    line = fails("ask", picture, code=2)
    assert "Missing the question" in line and picture.name in line


def test_bytes_that_are_no_text_are_told(fails: Fails) -> None:
    broken = os.fsdecode(b"What \xff?")
    assert "The question is not valid text" in fails("ask", broken, code=2)
    assert "The text of --system is not valid text" in fails("ask", "--system", broken, "What?", code=2)


def test_usage_errors_come_before_torch() -> None:
    program = (
        "import sys; sys.argv = ['fastvlm', 'ask', 'What?', '--temperature', '-1']\n"
        "from fastvlm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as leaving: print(leaving.code, 'torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "2 False"


def test_without_arguments_the_help_is_shown(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    finished = run()
    assert finished.returncode == 0
    assert finished.stdout.startswith("Usage: fastvlm")


def test_a_full_disk_under_the_output_is_told(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with open("/dev/full", "w") as full:
        finished = run("--help", stdout=full, stderr=subprocess.PIPE)
    assert finished.returncode == 1
    assert finished.stderr == "error: No space left on device. Free some space or write elsewhere.\n"


def test_a_closed_pipe_ends_quietly(start: Callable[..., subprocess.Popen[str]]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start("--help", stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 141
    assert errors == ""


def test_closed_streams_from_the_start_are_survived() -> None:
    command = f"{sys.executable} -m fastvlm --help >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


def test_debug_shows_where_an_error_comes_from(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    asked = ("inspect", "no-such-picture.png")
    assert "Traceback" not in run(*asked).stderr
    assert "Traceback" in run(*asked, "--debug").stderr
    assert "Traceback" in run("--debug", *asked).stderr
    assert "Traceback" in run(*asked, environment={"FASTVLM_DEBUG": "1"}).stderr


@pytest.mark.parametrize("arguments", ["ask - 'What is this?'", "chat", "inspect -"])
def test_a_closed_stdin_is_told_in_one_line(arguments: str) -> None:
    """Before a model is loaded."""
    command = f"{sys.executable} -m fastvlm {arguments} <&-"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: Nothing can be read from stdin, which is closed.")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected_ms"), [("400", 400), ("400ms", 400), ("1.5s", 1500), (" 2 s ", 2000), (".5", 0.5), (None, None)]
)
def test_times_are_read_with_their_units(text: str | None, expected_ms: float | None) -> None:
    command = click.Command("ask")
    assert milliseconds(click.Context(command), click.Option(["--max-ttft"]), text) == expected_ms
