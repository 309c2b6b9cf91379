"""`fastvlm chat` with lines from a pipe."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_each_line_is_answered(run: Run, parrot: Path, picture: Path) -> None:
    lines = f"What is this?\n\n/image {picture}\nAnd this?\n/reset\nWho?\n/exit\nNever asked\n"
    finished = run("chat", picture, "--model", parrot, "--max-tokens", "2", input=lines)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "aa\naa\naa\n"


def test_the_resolution_of_new_pictures_is_told(run: Run, picture: Path, tmp_path: Path) -> None:
    finished = run(
        "chat", picture, "--max-ttft", "3600s", "--max-tokens", "1", input="What is this?\nAnd what else?\n",
        environment={"FASTVLM_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("Full resolution: --max-ttft is 3600000 ms") == 1


def test_end_of_input_ends_the_chat(run: Run, parrot: Path) -> None:
    finished = run("chat", "--model", parrot, "--max-tokens", "1", input="Hello")
    assert (finished.returncode, finished.stdout) == (0, "a\n")
    assert finished.stderr.startswith("Cut short.") and len(finished.stderr.splitlines()) == 1


def test_a_path_may_be_typed_as_for_a_shell(run: Run, parrot: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "my own.png").write_bytes(picture.read_bytes())
    lines = f"/image '{tmp_path}/my own.png'\n/image {tmp_path}/my own.png\n/image ~/my\\ own.png\nWhat?\n/image\n"
    finished = run("chat", "--model", parrot, "--max-tokens", "1", input=lines, environment={"HOME": str(tmp_path)})
    assert finished.stdout == "a\n" and "3 picture(s)" in finished.stderr
    assert finished.returncode == 1 and finished.stderr.endswith("error: Expected a picture to show: /image PATH.\n")


def test_wrong_picture_is_told_before_the_model_is_loaded(fails: Callable[..., str], tmp_path: Path) -> None:
    line = fails("chat", tmp_path / "missing.png", "--model", tmp_path / "no-model-either")
    assert "missing.png" in line


def test_errors_in_a_pipe_end_the_chat(run: Run, parrot: Path) -> None:
    finished = run("chat", "--model", parrot, input="/image missing.png\nHello\n")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: ") and "missing.png" in finished.stderr


def test_unknown_command_is_told(run: Run, parrot: Path) -> None:
    finished = run("chat", "--model", parrot, input="/dance\n")
    assert finished.returncode == 1
    assert "/dance" in finished.stderr


class Terminal:
    """A pseudo-terminal with a chat in it."""

    def __init__(self, start: Callable[..., subprocess.Popen[str]], *arguments: object) -> None:
        self._leader, follower = pty.openpty()
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        self.process = start("chat", *arguments, start_new_session=True, **streams)
        os.close(follower)
        self.shown = ""
        self._num_awaited = 0

    def wait_for(self, text: str, *, timeout_s: float = 180) -> None:
        """Wait for `text` behind what was waited for before: one read may bring the next text along."""
        end_s = time.monotonic() + timeout_s
        while (found := self.shown.find(text, self._num_awaited)) < 0:
            is_readable, _, _ = select.select([self._leader], [], [], max(0.0, end_s - time.monotonic()))
            assert is_readable, f"no {text!r} behind {self.shown[: self._num_awaited]!r}: {self.shown!r}"
            self.shown += os.read(self._leader, 4096).decode()
        self._num_awaited = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


def test_interrupts_stop_an_answer_and_then_leave(start: Callable[..., subprocess.Popen[str]], parrot: Path) -> None:
    terminal = Terminal(start, "--model", parrot, "--max-tokens", "90000")
    terminal.wait_for("> ")
    terminal.type("/dance\n")
    terminal.wait_for("error: ")
    terminal.type("What is this?\n")
    terminal.wait_for("aaaa")
    terminal.interrupt()
    terminal.wait_for("Stopped")
    terminal.wait_for("> ")
    assert _interrupt_until_it_leaves(terminal) == 130
    terminal.wait_for("Interrupted.")
    assert "Traceback" not in terminal.shown


def _interrupt_until_it_leaves(terminal: Terminal) -> int:
    """A signal between two reads may be lost on a busy machine, as a key press may be; a person presses again."""
    for _ in range(5):
        terminal.interrupt()
        with suppress(subprocess.TimeoutExpired):
            return terminal.process.wait(timeout=15)
    raise AssertionError("the chat did not leave")


def test_control_d_leaves(start: Callable[..., subprocess.Popen[str]], parrot: Path) -> None:
    terminal = Terminal(start, "--model", parrot)
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=90) == 0
