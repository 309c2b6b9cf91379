"""`fastvlm bench towers`: what is measured of training."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from fastvlm.cli.bench_options import check_files, finish, json_option, plot_option, progress
from fastvlm.cli.output import debug_option
from fastvlm.errors import require_extra


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
