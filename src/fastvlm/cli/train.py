"""`fastvlm train`: run a recipe of this package, or go on with one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastvlm.cli.output import debug_option, note
from fastvlm.errors import TrainingError, require_extra

if TYPE_CHECKING:
    from fastvlm.training.loop import StepReport

    Report = Callable[[str, StepReport], None]


@click.command("train", short_help="Train a model with a recipe of this package.")
@click.argument("recipe", default="scenes")
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the run; runs/RECIPE if not given.",
)
@click.option("--resume", is_flag=True, help="Go on exactly where the run in --output stands.")
@click.option("--list", "is_listing", is_flag=True, help="List the recipes and end.")
@debug_option
def train_command(recipe: str, output: Path | None, resume: bool, is_listing: bool) -> None:
    """Train a model with a recipe of this package.

    The run writes its state, a log (metrics.jsonl) and, at the end, the checkpoint `model` into --output. Ctrl-C saves
    and stops; --resume goes on from there, or from the last state after a kill, to the same numbers.
    """
    require_extra("torch", "torch")
    from fastvlm.recipes.scenes import RECIPES, run

    if is_listing:
        for name, build in RECIPES.items():
            click.echo(f"{name:16}{_first_line(build)}")
        return
    if recipe not in RECIPES:
        raise click.BadParameter(f"{recipe!r} is none of {', '.join(RECIPES)}.", param_hint="RECIPE")
    output = output or Path("runs") / recipe
    _check_folder(output, resume=resume)
    with _progress() as report:
        model = run(RECIPES[recipe](), output, report=report)
    note(f"Written: {model}")
    click.echo(model)


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _check_folder(folder: Path, *, resume: bool) -> None:
    has_content = folder.is_dir() and any(folder.iterdir())
    if has_content and not resume:
        raise TrainingError(f"{folder} is not empty. Go on with its run by --resume, or choose another --output.")
    if resume and not has_content:
        raise TrainingError(f"There is no run to go on with in {folder}. Leave out --resume to start one.")
    if resume and not ((folder / "tokenizer.json").is_file() or any(folder.glob("*/state.safetensors"))):
        raise TrainingError(f"There is no run to go on with in {folder}, only other files. Choose another --output.")


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar for each stage on a terminal, otherwise one line for each report; both on stderr."""
    if not sys.stderr.isatty():
        yield lambda stage, step: note(f"{stage} {step.step}/{step.num_steps} {_numbers(step)}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    name, numbers = TextColumn("{task.description}"), TextColumn("{task.fields[numbers]}")
    bars: dict[str, TaskID] = {}
    with Progress(name, BarColumn(), MofNCompleteColumn(), numbers, console=Console(stderr=True)) as progress:

        def report(stage: str, step: StepReport) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=step.num_steps, numbers="")
            progress.update(bars[stage], completed=step.step, numbers=_numbers(step))

        yield report


def _numbers(step: StepReport) -> str:
    losses = "  ".join(f"{name} {value:.4g}" for name, value in step.losses.items())
    return f"{losses}  {step.steps_per_second:.2f} steps/s  {step.seconds_left / 60:.1f} min left"
