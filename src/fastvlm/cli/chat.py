"""`fastvlm chat`: a conversation about pictures, turn by turn."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

import click

from fastvlm.cli.options import (
    AnswerOptions,
    answer_options,
    image_option,
    load_assistant,
    note_if_pages,
    settings_overrides,
    standard_input,
)
from fastvlm.cli.output import (
    answer_line,
    debug_option,
    described_resolution,
    note,
    note_if_cut,
    note_if_unsure,
    note_resolution,
)
from fastvlm.errors import FastVLMError, PromptError

if TYPE_CHECKING:
    from fastvlm.inference.assistant import Assistant
    from fastvlm.inference.settings import SettingsOverrides

HELP = """\
/image PATH   show a picture with the next question
/reset        forget the conversation and its pictures
/help         show this list
/exit         leave; so does Ctrl-D. Ctrl-C stops an answer, twice leaves."""


@click.command("chat", short_help="Talk about pictures, turn by turn.")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@image_option
@answer_options
@debug_option
def chat_command(images: tuple[str, ...], more_images: tuple[str, ...], **options: Unpack[AnswerOptions]) -> None:
    """Talk about pictures, turn by turn.

    The pictures go with the first question; /help lists what else can be typed. Lines from a pipe are answered one
    by one.
    """
    overrides = settings_overrides(options)
    is_interactive = standard_input().isatty()
    pictures = [_read_picture(image) for image in (*more_images, *images)]
    conversation = Conversation(load_assistant(options), options["system"], overrides, pictures)
    if is_interactive:
        with suppress(ImportError):  # not on every platform; with it, the arrow keys edit and recall lines
            import readline  # noqa: F401
        note("Ask about the picture; /help lists the commands.")
    conversation.run(is_interactive=is_interactive)


class Conversation:
    """The loop of a chat: lines in, answers out. pictures: what the next question is about."""

    def __init__(
        self, assistant: Assistant, system_text: str | None, overrides: SettingsOverrides, pictures: list[object]
    ) -> None:
        self._assistant = assistant
        self._system_text = system_text
        self._overrides = overrides
        self._pictures = pictures
        self._chat = assistant.chat(system=system_text)

    def run(self, *, is_interactive: bool) -> None:
        """Answer lines until the input ends; Ctrl-C stops an answer, and a second one in a row leaves."""
        was_interrupted = False
        while True:
            try:
                line = _read_line(is_interactive=is_interactive).strip()
                was_interrupted = False
                if line == "/exit":
                    return
                self._react(line)
            except EOFError:
                return
            except KeyboardInterrupt:
                if was_interrupted or not is_interactive:
                    raise
                was_interrupted = True
                note("\nStopped. Ctrl-C again, or /exit, leaves.")
            except FastVLMError as error:
                if not is_interactive:
                    raise
                note(f"error: {error}")

    def _react(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if command == "/image":
            self._pictures.append(_read_picture(_typed_path(argument.strip())))
            note(f"{len(self._pictures)} picture(s) go with the next question.")
        elif command == "/reset":
            self._chat = self._assistant.chat(system=self._system_text)
            self._pictures = []
            note("Forgotten.")
        elif command == "/help":
            note(HELP)
        elif command.startswith("/"):
            raise PromptError(f"Expected one of /image, /reset, /help, /exit, got {command}.")
        elif line:
            self._answer(line)

    def _answer(self, question: str) -> None:
        stream = self._chat.stream(question, images=self._pictures, **self._overrides)
        with answer_line() as write:
            for piece in stream:
                write(piece)
        note_if_cut(stream.answer.finish_reason)
        note_if_unsure(stream.answer.confidence, is_unsure=stream.answer.is_unsure)
        if self._pictures:
            note_resolution(described_resolution(stream.answer.resolution))
        self._pictures = []


def _read_picture(path: str) -> object:
    """Read a picture at once, so that a wrong path is told before the question is typed."""
    from fastvlm.processing.images import read_image

    note_if_pages(path)
    return read_image(path)


def _typed_path(argument: str) -> str:
    """The path in a line: as it is where it is there, else without the quotes and the `~` that a shell would take off.

    Terminals write such quotes around a file that is dropped on them.
    """
    if not argument:
        raise PromptError("Expected a picture to show: /image PATH.")
    if os.path.exists(argument):
        return argument
    with suppress(ValueError):  # a quote without its second
        argument = " ".join(shlex.split(argument))
    return os.path.expanduser(argument)


def _read_line(*, is_interactive: bool) -> str:
    if is_interactive and not sys.stdout.isatty():
        click.echo("> ", nl=False, err=True)
        return input()
    return input("> " if is_interactive else "")
