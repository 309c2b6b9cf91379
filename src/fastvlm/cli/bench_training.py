"""`fastvlm bench towers`, `kernels` and `training`: what is measured of training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastvlm.cli.bench_options import (
    check_files,
    json_option,
    markdown_option,
    plot_option,
    progress,
    shape_option,
    size_option,
    threads_option,
)
from fastvlm.cli.output import debug_option, finish
from fastvlm.errors import require_extra
from fastvlm.files import write_whole

if TYPE_CHECKING:
    from fastvlm.benchmarks.training_memory import Parts


@click.command("towers", short_help="Measure what a pretrained encoder is worth.")
@click.argument("tower", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), default=300, show_default=True, help="Of each encoder.")
@click.option("--every", type=click.IntRange(min=1), default=30, show_default=True, help="Steps between two points.")
@json_option
@plot_option
@debug_option
def towers_command(tower: Path, steps: int, every: int, json_file: Path | None, plot_file: Path | None) -> None:
    """Measure what a pretrained encoder is worth.

    Trains a small vision-language model on generated pictures twice, once with the TOWER that a pretraining wrote and
    once with fresh weights of its shape, and prints how many questions about unseen pictures each answers after so many
    steps. It tells towers of this package's own size apart in minutes.
    """
    require_extra("torch", "torch")
    from fastvlm.benchmarks.report import write_json
    from fastvlm.benchmarks.towers import compare, write_plot
    from fastvlm.evaluation.provenance import describe_machine, installed_versions

    check_files(json_file, plot_file, None)
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        result = compare(
            tower,
            Path(folder),
            num_steps=steps,
            every=every,
            machine=describe_machine(),
            versions=installed_versions(),
            report=report,
        )
    finish(
        result,
        {json_file: lambda path: write_json(result, path), plot_file: lambda path: write_plot(result, path)},
    )


@click.command("kernels", short_help="Measure a training step with the compiled kernels, and without.")
@click.option(
    "--encoder",
    type=click.Choice(["fastvithd-nano", "fastvithd"]),
    default="fastvithd-nano",
    show_default=True,
    help="That of the recipe `scenes`, or that of the paper.",
)
@click.option("--batch-size", type=click.IntRange(min=3), default=16, show_default=True, help="Pictures of a step.")
@size_option(default=256)
@click.option("--runs", type=click.IntRange(min=1), default=15, show_default=True, help="Of each way, in turn.")
@threads_option
@json_option
@markdown_option
@debug_option
def kernels_command(
    encoder: str,
    batch_size: int,
    size_px: int,
    runs: int,
    threads: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure a training step with the compiled kernels, and without.

    An encoder in its form for training and with random weights: forward, backward and AdamW. Beside ours stand the same
    network in torch's own layers, as it comes and with its channels innermost, and ours without the kernels; where the
    processor is fast in bfloat16, both in mixed precision too. Prints how many times as fast each way is, and how far
    its gradients are from those of float64.
    """
    require_extra("torch", "torch")
    from fastvlm.benchmarks.report import write_json
    from fastvlm.benchmarks.training_steps import measure_training_steps, training_steps_markdown

    check_files(json_file, None, markdown_file)
    with progress() as report:
        result = measure_training_steps(
            batch_size=batch_size,
            size_px=size_px,
            num_runs=runs,
            num_threads=threads,
            encoder=encoder,
            report=report,
        )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            markdown_file: lambda path: write_whole(path, training_steps_markdown(result)),
        },
    )


@click.command("training", short_help="Measure what a training step takes, in time and memory.")
@shape_option
@size_option(default=1024)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Samples of a step.")
@click.option("--text-tokens", type=click.IntRange(min=2), default=64, show_default=True, help="Words of a sample.")
@click.option(
    "--parts",
    type=click.Choice(["projector", "language", "lora", "all"]),
    multiple=True,
    help="Only what learns so; may be repeated.",
)
@click.option("--checkpointing", is_flag=True, help="Measure with recomputed activations too.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Of each way, after one more.")
@threads_option
@json_option
@markdown_option
@debug_option
def training_command(
    shape: str,
    size_px: int,
    batch_size: int,
    text_tokens: int,
    parts: tuple[Parts, ...],
    checkpointing: bool,
    runs: int,
    threads: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure what a training step takes, in time and memory.

    A model of a shape, with random weights, learns as `fastvlm train finetune` lets it: the projector, projector and
    decoder (language), projector and low-rank changes of the decoder (lora), or all of it; from pictures, and from what
    a frozen encoder made of them. Each way runs in a process of its own, on a GPU where torch finds one.
    """
    require_extra("torch", "torch")
    from fastvlm.benchmarks.report import write_json
    from fastvlm.benchmarks.shapes import random_checkpoint, shape_config
    from fastvlm.benchmarks.training_memory import (
        PARTS,
        TrainingPlan,
        measure_training,
        training_markdown,
        training_ways,
    )

    shape_config(shape)
    check_files(json_file, None, markdown_file)
    ways = tuple(training_ways(parts or PARTS, activations="both" if checkpointing else "kept"))
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        report(f"drawing random weights of the shape {shape}")
        plan = TrainingPlan(
            shape=shape,
            folder=random_checkpoint(shape, Path(folder) / shape),
            size_px=size_px,
            batch_size=batch_size,
            num_text_tokens=text_tokens,
            num_runs=runs,
            num_threads=threads,
        )
        result = measure_training(plan, ways, report=report)
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            markdown_file: lambda path: write_whole(path, training_markdown(result)),
        },
    )
