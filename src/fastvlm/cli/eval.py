"""`fastvlm eval`: how good a model's answers are, beside what can be had without looking."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from fastvlm.cli.options import ModelOptions, load_assistant, model_options
from fastvlm.cli.output import check_place, debug_option, finish

if TYPE_CHECKING:
    from fastvlm.evaluation.suite import SuiteProgress, Task

TASKS = (
    "scenes", "scenes-dev", "boxes", "documents", "documents-unseen", "documents-combined", "documents-rendered",
    "documents-dev", "receipts", "photographs",
)  # fmt: skip
FOLDER_TASKS = ("boxes", "receipts", "photographs")
"""As `evaluation.suite` has them, known without it."""

PIPE_WIDTH = 120
"""Columns of a table that no terminal shows."""


@click.command("eval", short_help="Measure a model's answers against baselines.")
@click.option(
    "--task",
    type=click.Choice(TASKS),
    default="scenes",
    show_default=True,
    help="Generated scenes or documents of the test split, of the one for choosing (-dev), documents in unseen "
    "typefaces, words and layouts, in formats of other kinds (-combined), those of other programs (-rendered), or a "
    "folder of pictures with boxes, of receipts, or of photographs, which a model that reads should refuse.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"The folder of the tasks {', '.join(FOLDER_TASKS)}.",
)
@click.option("--limit", type=click.IntRange(min=1), default=500, show_default=True, help="Questions for each family.")
@click.option("--baselines/--no-baselines", default=True, help="Ask again with grey and with shuffled pictures.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as JSON.",
)
@model_options
@debug_option
def eval_command(
    task: Task,
    data: Path | None,
    limit: int,
    baselines: bool,
    json_file: Path | None,
    **options: Unpack[ModelOptions],
) -> None:
    """Measure a model's answers against baselines.

    Prints, for each family of questions, the accuracy with its 95 % interval, the majority answer, the model on grey
    and on shuffled pictures, and the same questions in words that training never used.
    """
    if task in FOLDER_TASKS and data is None:
        raise click.UsageError(f"The task {task} needs a folder: '--data'.", click.get_current_context())
    check_place(json_file, flag="--json")
    from fastvlm.evaluation.report import write_report
    from fastvlm.evaluation.suite import run_suite

    assistant = load_assistant(options)
    with _progress() as progress:
        report = run_suite(
            assistant,
            task=task,
            data=data,
            limit_per_family=limit,
            with_baselines=baselines,
            report=progress,
            model=options["model"],
        )
    finish(report, {json_file: partial(write_report, report)}, pipe_width=PIPE_WIDTH)


@contextmanager
def _progress() -> Iterator[SuiteProgress]:
    """A bar for each phase on a terminal, nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    bars: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True)) as progress:

        def report(phase: str, done: int, total: int) -> None:
            if phase not in bars:
                bars[phase] = progress.add_task(phase, total=total)
            progress.update(bars[phase], completed=done)

        yield report
