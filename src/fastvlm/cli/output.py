"""What leaves the process: answers on stdout, everything else on stderr, one line for each error, an exit code."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fastvlm.errors import FastVLMError, one_line

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable, RichCast
    from rich.status import Status

    from fastvlm.inference.latency import ChosenResolution

EXIT_ERROR = 1
EXIT_INTERRUPTED = 128 + 2
EXIT_CLOSED_PIPE = 128 + 13
EXIT_TERMINATED = 128 + 15
DEBUG_VARIABLE = "FASTVLM_DEBUG"

PIPE_WIDTH = 160
"""Columns of a table that no terminal shows."""

_PATIENCE_S = 0.7


def run(command: click.Command) -> NoReturn:
    """Run a command with the process's arguments; every error becomes one line and an exit code."""
    if "_FASTVLM_COMPLETE" in os.environ:  # how click's shell completion asks for words
        command.main(prog_name="fastvlm")
    _prepare_streams()
    signal.signal(signal.SIGTERM, _terminate)
    exit_code = 0
    try:
        with command.make_context("fastvlm", sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except BaseException as error:  # the outermost frame: nothing may leave it as a traceback
        exit_code = _report(error)
    _leave(exit_code)


def debug_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--debug`, which shows where an error comes from; the same as setting FASTVLM_DEBUG=1."""

    def switch_on(_: click.Context, __: click.Parameter, value: bool) -> None:
        if value:
            os.environ[DEBUG_VARIABLE] = "1"

    return click.option(
        "--debug", is_flag=True, expose_value=False, is_eager=True, callback=switch_on, help="Show tracebacks."
    )(command)


def note(text: str) -> None:
    """Tell a person something that is not part of the answer."""
    click.echo(text, err=True)


def note_if_cut(finish_reason: object, *, place: str = "") -> None:
    """Tell a person that an answer would go on. place: which one, where there are several."""
    if finish_reason == "length":
        note(f"{place}Cut short. A larger --max-tokens shows more, where the model has room.")


def note_if_unsure(confidence: float, *, is_unsure: bool) -> None:
    """Tell a person that answers of so little confidence were more often wrong than right."""
    if is_unsure:
        percent = f"{100 * confidence:.0f} %" if confidence >= 0.01 else "less than 1 %"
        note(f"Unsure: these words have a probability of {percent}, and more such answers were wrong than right.")


def described_resolution(chosen: ChosenResolution | None) -> dict[str, Any] | None:
    """The resolution that a time to first token has led to, as JSON values; None where none was asked for."""
    return None if chosen is None else chosen.to_dict()


def note_resolution(chosen: Mapping[str, Any] | None) -> None:
    """Tell a person which resolution was chosen, and why. chosen: as `described_resolution` gives it."""
    if chosen is None:
        return
    asked = f"--max-ttft is {chosen['max_ttft_ms']:.15g} ms"
    expected = f"the first token is expected after {_milliseconds(chosen['expected_ms'])}"
    size = f"{chosen['visual_tokens']} of {chosen['most_visual_tokens']} visual tokens"
    if not chosen["is_in_time"]:
        note(f"No resolution is in time: {asked}, and with the smallest, {size}, {expected}.")
    elif chosen["next_ms"] is None:
        note(f"Full resolution: {asked}, and {expected}.")
    else:
        later = f"with the next larger after {_milliseconds(chosen['next_ms'])}"
        note(f"Lower resolution, {size}: {asked}, and {expected}, {later}.")


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 1000 else f"{value:.4g} ms"


def print_json(value: Mapping[str, object]) -> None:
    """Print one object on stdout, in ASCII, so that any terminal's encoding carries it."""
    click.echo(json.dumps(value))


def finish(
    result: ConsoleRenderable | RichCast,
    writers: Mapping[Path | None, Callable[[Path], None]],
    *,
    pipe_width: int = PIPE_WIDTH,
) -> None:
    """Write the files that were asked for and print the tables, `pipe_width` columns wide where no terminal shows them.

    What took an hour to measure is seen where a disk turns out to be full, too.
    """
    from rich.console import Console

    try:
        for path, write in writers.items():
            if path is not None:
                write(path)
                note(f"Written: {path}")
    finally:
        console = Console(width=None if sys.stdout.isatty() else pipe_width)
        with console.capture() as table:
            console.print(result)
        click.echo(table.get(), nl=False)


@contextmanager
def answer_line() -> Iterator[Callable[[str], None]]:
    """Give a function that writes pieces of text at once; the line is ended however the block is left."""
    last = "\n"

    def write(piece: str) -> None:
        nonlocal last
        if piece:
            last = piece[-1]  # before the write: Ctrl-C may come at any moment after it
            sys.stdout.write(piece)
            sys.stdout.flush()

    try:
        yield write
    finally:
        if last != "\n":
            sys.stdout.write("\n")
            sys.stdout.flush()


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, once that takes a while; nothing of it stays there."""
    if not sys.stderr.isatty():
        yield
        return
    shown: list[Status] = []

    def show() -> None:
        # Imported here, since those who need not wait should not wait for this.
        from rich.console import Console

        shown.append(Console(stderr=True).status(text))
        shown[0].start()

    timer = threading.Timer(_PATIENCE_S, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for status in shown:
            status.stop()


def _prepare_streams() -> None:
    # A process that was started with closed streams has None in their place.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - open as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets an escape instead of an error.
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    warnings.showwarning = _show_warning
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)


def check_place(path: Path | None, *, flag: str) -> None:
    """Refuse a place that no file can be written to before the minutes of work whose result it is for."""
    if path is None:
        return
    folder = path.absolute().parent
    if not (folder.is_dir() and (path.is_file() or not path.exists())):
        raise click.BadParameter(f"{path} is no place for a file.", param_hint=f"'{flag}'")
    if not os.access(folder, os.W_OK):
        raise click.BadParameter(f"{folder} may not be written to.", param_hint=f"'{flag}'")


def _terminate(*_: object) -> NoReturn:
    """Leave in good order where the system or another program asks for it, so that temporary files go."""
    raise SystemExit(EXIT_TERMINATED)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    note("warning: " + one_line(str(message)))


def _report(error: BaseException) -> int:
    """Say what went wrong in one line and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        if error.code == EXIT_TERMINATED:
            note("Terminated.")
        return error.code if isinstance(error.code, int) else EXIT_ERROR
    if isinstance(error, BrokenPipeError):
        return EXIT_CLOSED_PIPE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        note("Interrupted.")
        return EXIT_INTERRUPTED
    if _is_debugging():
        traceback.print_exception(error)
    exit_code = error.exit_code if isinstance(error, click.ClickException | FastVLMError) else EXIT_ERROR
    # What was asked to stop, and stopped in good order, has not failed.
    note(("" if exit_code == EXIT_INTERRUPTED else "error: ") + one_line(_explain(error)))
    return exit_code


def _explain(error: BaseException) -> str:
    """Put an error into words that a person can act on."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "fastvlm"
        return f"{error.format_message()} See: {command} --help"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, FastVLMError):
        return str(error)
    if _is_out_of_memory(error):
        return "Not enough memory. Try a smaller model, fewer or smaller pictures, or --dtype bfloat16."
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        advice = " Free some space or write elsewhere." if error.errno == errno.ENOSPC else ""
        return f"{error.strerror}{place}.{advice}"
    return (
        f"Something unforeseen happened ({type(error).__name__}: {error}). "
        f"Run it again with {DEBUG_VARIABLE}=1 to see where, and please report it."
    )


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has errors of its own for this, which are told by name, since torch is never imported here.
    told_by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or told_by_torch


def _is_debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _leave(exit_code: int) -> NoReturn:
    """Leave with this code even where what is still buffered can no longer be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            exit_code = exit_code or EXIT_ERROR
    sys.exit(exit_code)
