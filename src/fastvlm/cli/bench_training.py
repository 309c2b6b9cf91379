"""`fastvlm bench towers` and `kernels`: what is measured of training."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from fastvlm.cli.bench_options import (
    check_files,
    finish,
    json_option,
    markdown_option,
    multiples_of_64,
    plot_option,
    progress,
    threads_option,
)
from fastvlm.cli.output import debug_option
from fastvlm.errors import require_extra
from fastvlm.files import write_whole


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
    from fastvlm.benchmarks.towers import compare, write_json, write_plot
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
@click.option("--batch-size", type=click.IntRange(min=3), default=16, show_default=True, help="Pictures of a step.")
@click.option(
    "--size",
    "size_px",
    type=click.IntRange(min=64),
    default=256,
    show_default=True,
    callback=multiples_of_64,
    metavar="PX",
    help="Side of the pictures, a multiple of 64.",
)
@click.option("--runs", type=click.IntRange(min=1), default=15, show_default=True, help="Of each way, in turn.")
@threads_option
@json_option
@markdown_option
@debug_option
def kernels_command(
    batch_size: int,
    size_px: int,
    runs: int,
    threads: int | None,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure a training step with the compiled kernels, and without.

    The embedded model's encoder, in its form for training and with random weights: forward, backward and AdamW. Beside
    ours stand the same network in torch's own layers, as it comes and with its channels innermost, and ours without the
    kernels. Prints how many times as fast each way is, and how far its gradients are from those of float64.
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
            num_threads=threads or os.cpu_count() or 1,
            report=report,
        )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            markdown_file: lambda path: write_whole(path, training_steps_markdown(result)),
        },
    )
