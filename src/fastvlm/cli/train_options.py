"""What the commands of `fastvlm train` share: options, the folder of a run, and how it tells where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastvlm.cli.output import note
from fastvlm.errors import TrainingError

if TYPE_CHECKING:
    from fastvlm.training.meter import StepReport

    Report = Callable[[str, StepReport], None]

RESULTS = {"model", "adapter", "tower", "results.json"}

output_option = click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the run; runs/RECIPE if not given.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on exactly where the run in --output stands.")


data_options = (
    click.option(
        "--data",
        "-d",
        multiple=True,
        help="Conversations: .json or .jsonl (LLaVA, messages), a .yaml mixture, a folder of `datasets`, or "
        "hf:NAME[:SPLIT]. May be repeated.",
    ),
    click.option(
        "--images",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        help="Folder that paths of images are relative to; that of each data file if not given.",
    ),
    click.option("--leave-out-invalid", is_flag=True, help="Go on without samples that cannot be used, and name them."),
)
start_options = (
    click.option("--model", "-m", help="Folder or hub id of the model to go on with."),
    click.option("--decoder", help="Folder or hub id of a Qwen2 or Llama model, to start from parts."),
    click.option(
        "--tower",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        help="Folder of a pretrained encoder, or of a model whose encoder to take, to start from parts.",
    ),
    click.option("--random-encoder", is_flag=True, help="Start from parts with an encoder that has learned nothing."),
)
save_every_option = click.option(
    "--save-every",
    type=click.IntRange(min=1),
    help="Steps between saved states; 200 if not given (clip: 1000; clip-small, documents: 100).",
)
scale_options = (
    click.option(
        "--gradient-checkpointing", is_flag=True, help="Compute activations again instead of keeping them: less memory."
    ),
    click.option("--shard", is_flag=True, help="Each process of torchrun holds a piece of the model (FSDP2)."),
    click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard into the run's folder too."),
)
smoke_option = click.option("--smoke", is_flag=True, help="The same in miniature on generated data, in seconds.")


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Several options as one decorator, in their order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def tell_result(folder: Path) -> None:
    """Print where the result of a run is; of several processes the first one does."""
    from fastvlm.training.parallel import is_first

    if is_first():
        click.echo(folder)


def refuse_options(whose: str, *names: str) -> None:
    """Raise UsageError where one of these was given: it would do nothing, being `whose`."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} is an option {whose}.", context)


def refuse_beside_smoke(*names: str) -> None:
    """Raise UsageError where one of these was given: a run in miniature brings its own."""
    refuse_options(
        "that --smoke has no use for: it brings its own model, data and lengths. Leave one of them out", *names
    )


def run_folder(name: str, output: Path | None, *, resume: bool) -> Path:
    """Where the run is. Raises TrainingError where --resume and what is there do not go together."""
    folder = output or Path("runs") / name
    from fastvlm.training.resume import STATE_FILE
    from fastvlm.training.sharding import PROGRESS_FILE

    content = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    has_state = any(next(folder.rglob(name), None) for name in (STATE_FILE, PROGRESS_FILE))
    # What a run leaves that ended before its first state is of no harm to the next one.
    if content and not resume and (has_state or content - {"features", "state"}):
        raise TrainingError(f"{folder} is not empty. Go on with its run by --resume, or choose another --output.")
    if resume and not content:
        raise TrainingError(f"There is no run to go on with in {folder}. Leave out --resume to start one.")
    if resume and not has_state and not content & {"tokenizer.json", "features", "state", "start", "data", *RESULTS}:
        raise TrainingError(f"There is no run to go on with in {folder}, only other files. Choose another --output.")
    if resume and not has_state and not content & RESULTS:
        note(f"No state was saved in {folder} yet: the run starts from its beginning.")
    return folder


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for each stage on a terminal, otherwise one line for each report; both on stderr."""
    if not sys.stderr.isatty():
        yield lambda stage, step: note(f"{stage} {step.step}/{step.num_steps} {_numbers(step)}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    name, numbers = TextColumn("{task.description}"), TextColumn("{task.fields[numbers]}")
    bars: dict[str, TaskID] = {}
    with Progress(name, BarColumn(), MofNCompleteColumn(), numbers, console=Console(stderr=True)) as bars_shown:

        def report(stage: str, step: StepReport) -> None:
            if stage not in bars:
                bars[stage] = bars_shown.add_task(stage, numbers="")
            # What fits into a time is told better from report to report.
            bars_shown.update(bars[stage], completed=step.step, total=step.num_steps, numbers=_numbers(step))

        yield report


_TOLD_WAITING = 0.1
"""Such a share of the time is worth telling: more workers, or a slower look at each picture, would make it less."""


def _numbers(step: StepReport) -> str:
    losses = "  ".join(f"{name} {value:.4g}" for name, value in step.losses.items())
    if step.validation_loss is not None:
        losses += f"  validation {step.validation_loss:.4g}"
    if step.waiting > _TOLD_WAITING:
        losses += f"  waits for data {100 * step.waiting:.0f} %"
    return f"{losses}  {step.steps_per_second:.2f} steps/s  {step.seconds_left / 60:.1f} min left"
