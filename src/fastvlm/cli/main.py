"""The group of all commands. A command's module is imported when it is called, so that `--help` stays instant."""

from __future__ import annotations

import atexit
import gc
from importlib import import_module
from typing import NoReturn

import click

import fastvlm
from fastvlm.cli.groups import SuggestingGroup
from fastvlm.cli.output import debug_option, run

COMMANDS = {
    "ask": "Answer a question about pictures.",
    "read": "Read the text, or the fields, of pictures and PDFs.",
    "caption": "Describe pictures and pages in a sentence.",
    "chat": "Talk about pictures, turn by turn.",
    "inspect": "Show what a model is made of, or what it sees of a picture.",
    "models": "List the models at hand.",
    "convert": "Rewrite a checkpoint in another layout.",
    "train": "Train a model with a recipe of this package.",
    "samples": "Look at generated documents and what is asked about them.",
    "eval": "Measure a model's answers against baselines.",
    "selftest": "Check that the embedded model answers here as it should.",
    "bench": "Measure time to first token and decoding.",
}
"""Each command lives in the module of its name, as a function of its name with `_command` after it."""


class LazyGroup(SuggestingGroup):
    """A group that knows its commands' names and first lines, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a person's first day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"fastvlm.cli.{cmd_name}"), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastvlm.__version__, "--version", prog_name="fastvlm")
@debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Ask a picture.

    Without --model, a small model inside the package answers, offline; it knows receipts, forms,
    tables, charts, signs and drawn scenes.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    # Last of all: looking through what is left for cycles takes longer than leaving it to the system.
    atexit.register(gc.freeze)
    run(cli)
