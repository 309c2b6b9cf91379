"""`fastvlm ask` through the real process, with a model whose answer is known."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fastvlm.cli.output import described_resolution, note_resolution
from fastvlm.evaluation.kept import FOLDER as KEPT
from fastvlm.inference.latency import ChosenResolution

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_answer_goes_to_stdout_and_what_cut_it_short_to_stderr(run: Run, parrot: Path, picture: Path) -> None:
    finished = run("ask", picture, "What is this?", "--model", parrot, "--max-tokens", "4")
    assert (finished.returncode, finished.stdout) == (0, "aaaa\n")
    assert finished.stderr == "Cut short. A larger --max-tokens shows more, where the model has room.\n"


def test_choices_of_sampling_that_change_nothing_are_told(run: Run, parrot: Path, picture: Path) -> None:
    asked = ("ask", picture, "What is this?", "--model", parrot, "--max-tokens", "1", "--top-p", "0.9", "--seed", "3")
    assert "warning: no effect of --top-p, --seed while" in run(*asked).stderr
    assert "warning" not in run(*asked, "--temperature", "0.5").stderr


def test_json_is_one_object(run: Run, parrot: Path, picture: Path) -> None:
    finished = run("ask", picture, "What is this?", "--model", parrot, "--max-new-tokens", "4", "--json")
    answer = json.loads(finished.stdout)
    assert finished.stderr == ""
    told = {
        "answer",
        "usage",
        "timings",
        "model",
        "runtime",
        "finish_reason",
        "confidence",
        "is_unsure",
        "box",
        "resolution",
    }
    assert set(answer) == told and " cpu " in answer["runtime"]
    assert (answer["answer"], answer["finish_reason"], answer["model"]) == ("aaaa", "length", str(parrot))
    usage = answer["usage"]
    assert usage["completion_tokens"] == 4
    assert usage["visual_tokens"] == 2  # 200 x 100 px fit exactly into 1 x 2 cells
    assert usage["prompt_tokens"] > usage["visual_tokens"]
    assert answer["timings"]["total_ms"] > 0
    assert 50 < answer["timings"]["peak_memory_mb"] < 50_000  # Python with numpy alone is more than the lower bound


def test_an_unsure_answer_says_so_on_stderr(run: Run, unsure_parrot: Path, picture: Path, tmp_path: Path) -> None:
    calibrated = tmp_path / "calibrated"
    shutil.copytree(unsure_parrot, calibrated)
    config = json.loads((calibrated / "config.json").read_text())
    asked = ("ask", picture, "What is this?", "--model", calibrated, "--max-tokens", "4")
    finished = run(*asked)
    assert (finished.returncode, finished.stdout) == (0, "baaa\n")
    assert re.search(r"^Unsure: these words have a probability of .* %, and .*\.$", finished.stderr, re.MULTILINE)
    assert json.loads(run(*asked, "--json").stdout)["is_unsure"]
    told = run("chat", picture, "--model", calibrated, "--max-tokens", "4", input="What is this?\n").stderr
    assert "Unsure: these words" in told
    config["calibration"]["unsure_below"] = 2
    (calibrated / "config.json").write_text(json.dumps(config))
    refused = run(*asked)
    assert refused.returncode == 1 and "unsure_below to be from 0 to 1, got 2" in refused.stderr
    config["calibration"] = {"refusal_token_id": 99_999}
    (calibrated / "config.json").write_text(json.dumps(config))
    refused = run(*asked)
    assert refused.returncode == 1 and re.search(r"one of \d+ tokens, got 99999", refused.stderr)


def test_several_pictures_and_none(run: Run, parrot: Path, picture: Path) -> None:
    def num_visual_tokens(*words: object) -> int:
        finished = run("ask", *words, "--model", parrot, "--max-tokens", "1", "--json")
        return int(json.loads(finished.stdout)["usage"]["visual_tokens"])

    assert num_visual_tokens("What is this?") == 0
    assert num_visual_tokens(picture, picture, "Are they the same?") == 4


def test_flags_stand_for_arguments(run: Run, parrot: Path, picture: Path) -> None:
    def usage(*words: object) -> object:
        finished = run("ask", *words, "--model-path", parrot, "--max-tokens", "1", "--json")
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)["usage"]

    expected = usage(picture, picture, "What is this?")
    assert usage("--image", picture, "--image-file", picture, "--prompt", "What is this?") == expected
    assert usage("--image", picture, picture, "What is this?") == expected
    assert usage(picture, picture, "--prompt", "What is this?") == expected


def test_a_device_by_its_number_and_min_p_are_taken(run: Run, parrot: Path) -> None:
    asked = ("ask", "What is this?", "--model", parrot, "--max-tokens", "3")
    assert run(*asked, "--temperature", "0.5", "--min-p", "0.9").stdout == "aaa\n"
    finished = run(*asked, "--device", "cuda:99")
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: Expected a device that this machine has")


def test_picture_from_stdin(run: Run, parrot: Path, picture: Path) -> None:
    arguments = ("ask", "-", "What is this?", "--model", parrot, "--max-tokens", "1", "--json")
    finished = run(*arguments, input=picture.read_bytes())
    assert json.loads(finished.stdout)["usage"]["visual_tokens"] == 2


def test_two_dashes_end_the_flags(run: Run, parrot: Path, picture: Path) -> None:
    finished = run("ask", "--model", parrot, "--max-tokens", "2", "--", picture, "--help me?")
    assert finished.stdout == "aa\n"


def test_system_message_and_stop_string(run: Run, parrot: Path) -> None:
    asked = ("ask", "What is this?", "--model", parrot, "--max-tokens", "5", "--json")
    plain = json.loads(run(*asked).stdout)
    stopped = json.loads(run(*asked, "--system", "Be brief.", "--stop", "zz", "--stop", "aaa").stdout)
    assert stopped["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    assert (stopped["answer"], stopped["finish_reason"]) == ("", "stop")


def test_timings_are_told_on_stderr(run: Run, parrot: Path, picture: Path) -> None:
    finished = run("ask", picture, "What is this?", "--model", parrot, "--max-tokens", "3", "--timings")
    assert finished.stdout == "aaa\n"
    prompt, generation, phases, total = finished.stderr.splitlines()
    assert re.fullmatch(r"Prompt: \d+ tokens \(2 visual\), [\d.]+ tokens-per-sec, first token after \d+ ms", prompt)
    assert re.fullmatch(r"Generation: 3 tokens, [\d.]+ tokens-per-sec, ended by length", generation)
    assert "prefill" in phases
    assert re.fullmatch(
        r"Total: \d+ ms by \w+ cpu [\w ]+, after \d+ ms of loading \(\d+ of them compiling and packing\), "
        r"at most \d+ MB of memory",
        total,
    )


def test_answers_stream_as_they_come(start: Callable[..., subprocess.Popen[str]], parrot: Path) -> None:
    """The first character is there long before the last one could be."""
    process = start("ask", "What is this?", "--model", parrot, "--max-tokens", "90000")
    assert process.stdout.read(3) == "aaa"
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_a_time_to_first_token_lowers_the_resolution(run: Run, picture: Path, tmp_path: Path) -> None:
    """No machine is done in a tenth of a millisecond, so the smallest resolution is taken; every one is in an hour."""
    environment = {"FASTVLM_CACHE": str(tmp_path)}
    visual_tokens, resolutions = [], []
    for budget in ("0.1", "3600000"):
        finished = run("ask", picture, "What is this?", "--max-ttft", budget, "--json", environment=environment)
        assert finished.returncode == 0, finished.stderr
        printed = json.loads(finished.stdout)
        visual_tokens.append(printed["usage"]["visual_tokens"])
        resolutions.append(printed["resolution"])
    full = json.loads(run("ask", picture, "What is this?", "--json").stdout)
    assert visual_tokens[0] <= 4 < visual_tokens[1] == full["usage"]["visual_tokens"]
    smallest, largest = resolutions
    assert smallest["max_ttft_ms"] == 0.1 < smallest["expected_ms"] <= smallest["next_ms"]
    assert largest["is_in_time"] and not smallest["is_in_time"]
    assert largest["next_ms"] is None and largest["visual_tokens"] == largest["most_visual_tokens"]
    assert full["resolution"] is None
    size = f"{smallest['visual_tokens']} of {largest['most_visual_tokens']} visual tokens"
    for command in (["ask", picture, "What is this?"], ["caption", picture], ["read", picture]):
        spoken = [run(*command, "--max-ttft", budget, environment=environment).stderr for budget in ("0.1ms", "3600s")]
        assert f"No resolution is in time: --max-ttft is 0.1 ms, and with the smallest, {size}, " in spoken[0]
        assert "Full resolution: --max-ttft is 3600000 ms, and the first token is expected after " in spoken[1]

    assert len(list(tmp_path.glob("latency-*.json"))) == 1


def test_a_lower_resolution_is_told_with_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    resolution = ChosenResolution(
        max_ttft_ms=1.5, visual_tokens=36, most_visual_tokens=256, expected_ms=1.44, next_ms=1.5111
    )
    note_resolution(described_resolution(resolution))
    note_resolution(described_resolution(None))
    assert capsys.readouterr().err == (
        "Lower resolution, 36 of 256 visual tokens: --max-ttft is 1.5 ms, and the first token is expected after "
        "1.44 ms, with the next larger after 1.511 ms.\n"
    )


def test_a_budget_that_is_none(run: Run, picture: Path) -> None:
    finished = run("ask", picture, "What is this?", "--max-ttft", "0")
    assert finished.returncode == 2 and "--max-ttft" in finished.stderr


def test_the_embedded_model_looks_closer_where_it_is_unsure(run: Run, tmp_path: Path) -> None:
    asked = ("ask", KEPT / "documents-4-test-175.jpg", "1991, Siovoujo?")
    answer = json.loads(run(*asked, "--json").stdout)
    assert answer["answer"] == "0.08" and not answer["is_unsure"]
    assert len(answer["box"]) == 4
    plain = run(*asked)
    assert (plain.stdout, plain.stderr) == ("0.08\n", "")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", asked[1], pipe]):
        assert run("ask", pipe, asked[2]).stdout == "0.08\n"
    at_once = run(*asked, "--at-once")
    assert at_once.stdout != plain.stdout and at_once.stderr.startswith("Unsure")
    assert json.loads(run(*asked, "--at-once", "--json").stdout)["box"] is None
