"""`fastvlm bench`: how soon the first token comes and how fast the others follow, beside other engines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
from click.core import ParameterSource

from fastvlm.cli.bench_options import (
    check_files,
    json_option,
    markdown_option,
    multiples_of_64,
    peers_option,
    plot_option,
    progress,
    shape_option,
    threads_option,
)
from fastvlm.cli.bench_start import start_command
from fastvlm.cli.bench_training import kernels_command, towers_command, training_command
from fastvlm.cli.groups import SuggestingGroup
from fastvlm.cli.options import milliseconds
from fastvlm.cli.output import debug_option, finish
from fastvlm.files import write_whole


def _systems(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:  # no reason to import engines
        return values
    from fastvlm.benchmarks.systems import SYSTEMS

    unknown = [value for value in values if value not in SYSTEMS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(SYSTEMS)}.")
    return values


def _installed_systems(
    precisions: Sequence[str], *, peers: Literal["none", "installed"], only: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """(name, precision) of each system to measure; one that knows a single precision comes once."""
    from fastvlm.benchmarks.systems import SYSTEMS

    for name in only:
        if not SYSTEMS[name].is_installed:
            raise click.BadParameter(f"{name} is not installed.", param_hint="--system")
        if peers == "none" and not SYSTEMS[name].is_ours:
            raise click.BadParameter(f"{name} is a peer, which --peers none leaves out.", param_hint="--system")
    kinds = {
        name: kind
        for name, kind in SYSTEMS.items()
        if kind.is_installed and (kind.is_ours or peers == "installed") and (not only or name in only)
    }
    pairs = ((name, kind.only_precision or precision) for precision in precisions for name, kind in kinds.items())
    return tuple(dict.fromkeys(pairs))


@click.group(
    "bench", cls=SuggestingGroup, invoke_without_command=True, short_help="Measure time to first token and decoding."
)
@shape_option
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(min=64),
    multiple=True,
    default=(1024,),
    callback=multiples_of_64,
    metavar="PX",
    help="Side of the picture, a multiple of 64; may be repeated.  [default: 1024]",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    multiple=True,
    default=("auto",),
    help="Of all systems; may be repeated. auto is bfloat16 where the processor computes in it.  [default: auto]",
)
@peers_option
@click.option("--system", "only", multiple=True, callback=_systems, metavar="NAME", help="Only these; may be repeated.")
@click.option("--runs", type=click.IntRange(min=1), default=7, show_default=True, help="Of each system at each size.")
@click.option("--text-tokens", type=click.IntRange(min=2), default=30, show_default=True, help="Words of the prompt.")
@click.option(
    "--decode-tokens", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens after the first."
)
@threads_option
@json_option
@plot_option
@markdown_option
@debug_option
@click.pass_context
def bench_command(
    context: click.Context,
    shape: str,
    sizes: tuple[int, ...],
    precisions: tuple[str, ...],
    peers: Literal["none", "installed"],
    only: tuple[str, ...],
    runs: int,
    text_tokens: int,
    decode_tokens: int,
    threads: int,
    json_file: Path | None,
    plot_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure time to first token and decoding.

    Every system runs in a process of its own, in turn with the others, on the same random weights, from ready pixels
    to token ids. Prints medians and quarter-points, how far from what the machine's measured peak would allow, and how
    much sooner than transformers as it comes.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context.invoked_subcommand, context)
        return
    from fastvlm.benchmarks.cost import measure_peak
    from fastvlm.benchmarks.report import BenchReport, markdown, write_json, write_plot
    from fastvlm.benchmarks.runner import Plan, measure
    from fastvlm.benchmarks.shapes import random_checkpoint, shape_config
    from fastvlm.evaluation.provenance import describe_machine, installed_versions
    from fastvlm.runtimes.openvino.engine import choose_precision

    config = shape_config(shape)
    check_files(json_file, plot_file, markdown_file)
    chosen = tuple(dict.fromkeys(choose_precision(precision) for precision in precisions))
    systems = _installed_systems(chosen, peers=peers, only=only)
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        report("measuring what the machine can do")
        peak = measure_peak(tuple({precision for _, precision in systems}), num_threads=threads)
        report(f"drawing random weights of the shape {shape}")
        plan = Plan(
            shape=shape,
            folder=random_checkpoint(shape, Path(folder) / shape),
            systems=systems,
            sizes_px=sizes,
            num_text_tokens=text_tokens,
            num_decoded_tokens=decode_tokens,
            num_runs=runs,
            num_threads=threads,
        )
        rows = measure(plan, config, peak, report=report)
    result = BenchReport(
        plan=plan,
        rows=tuple(rows),
        machine=describe_machine(),
        versions=installed_versions("transformers", "onnxruntime", "mnn"),
        peak=peak,
    )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            plot_file: lambda path: write_plot(result, path),
            markdown_file: lambda path: write_whole(path, markdown(result)),
        },
    )


@bench_command.command("encoders", short_help="Measure vision encoders beside each other.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of all encoders; auto is bfloat16 where the processor computes in it.",
)
@peers_option
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Of each encoder at each size.")
@threads_option
@json_option
@plot_option
@markdown_option
@debug_option
def encoders_command(
    precision: str,
    peers: Literal["none", "installed"],
    runs: int,
    threads: int,
    json_file: Path | None,
    plot_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure vision encoders beside each other.

    FastViTHD, ViT-L/14, SigLIP-SO400M/14, ConvNeXt-L and ConvLLaVA's, with random weights: first all in the same
    engine, then as transformers ships them. Then the time to first token of models made of them, with one decoder,
    beside the ratios of the paper. Takes several gigabytes of memory.
    """
    from fastvlm.benchmarks.encoder_report import EncoderReport, encoder_markdown, write_encoder_plot
    from fastvlm.benchmarks.encoder_runner import DECODER, measure_encoders, measure_first_tokens
    from fastvlm.benchmarks.report import write_json
    from fastvlm.benchmarks.runner import Plan
    from fastvlm.benchmarks.shapes import random_checkpoint
    from fastvlm.benchmarks.systems import PARTS
    from fastvlm.evaluation.provenance import describe_machine, installed_versions
    from fastvlm.runtimes.openvino.engine import choose_precision

    check_files(json_file, plot_file, markdown_file)
    chosen = choose_precision(precision)
    engines = ["encoder"]
    if peers == "installed" and PARTS["encoder-transformers"].is_installed:
        engines.append("encoder-transformers")
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        report(f"drawing random weights of the shape {DECODER}")
        plan = Plan(
            shape=DECODER,
            folder=random_checkpoint(DECODER, Path(folder) / DECODER),
            systems=(("encoder", chosen),),
            sizes_px=(),
            num_runs=runs,
            num_warm_ups=1,
            num_threads=threads,
        )
        rows = [row for engine in engines for row in measure_encoders(plan, engine, report=report)]
        ours = [row for row in rows if row.engine == "openvino"]
        first_tokens = measure_first_tokens(plan, ours, report=report)
    result = EncoderReport(
        plan=plan,
        encoders=tuple(rows),
        first_tokens=tuple(first_tokens),
        machine=describe_machine(),
        versions=installed_versions("transformers"),
    )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            plot_file: lambda path: write_encoder_plot(result, path),
            markdown_file: lambda path: write_whole(path, "\n".join(encoder_markdown(result))),
        },
    )


@bench_command.command("budgets", short_help="Measure whether --max-ttft is kept.")
@shape_option
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Budgets to draw.")
@click.option(
    "--from",
    "lowest_ms",
    metavar="TIME",
    callback=milliseconds,
    default="150ms",
    show_default=True,
    help="The smallest budget.",
)
@click.option(
    "--to",
    "highest_ms",
    metavar="TIME",
    callback=milliseconds,
    default="2s",
    show_default=True,
    help="The largest budget.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws other budgets.")
@click.option("--quantize", type=click.Choice(["int8", "int4"]), help="Hold the decoder's weights in fewer bits.")
@threads_option
@json_option
@markdown_option
@debug_option
def budgets_command(
    shape: str,
    count: int,
    lowest_ms: float,
    highest_ms: float,
    seed: int,
    quantize: str | None,
    threads: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure whether a time to first token is kept.

    Draws budgets, loads the model anew for each, asks about a picture of 1600 x 1200 pixels, and compares the time to
    its first token with the budget. Prints what was chosen, and what the next larger resolution would have taken.
    """
    from fastvlm.benchmarks.askable import askable_checkpoint
    from fastvlm.benchmarks.budgets import budget_markdown, measure_budgets
    from fastvlm.benchmarks.report import write_json
    from fastvlm.machine import CACHE_VARIABLE

    if lowest_ms > highest_ms:
        raise click.UsageError(f"Expected --from to be at most --to, got {lowest_ms:g} ms and {highest_ms:g} ms.")
    check_files(json_file, None, markdown_file)
    with tempfile.TemporaryDirectory(prefix="fastvlm-bench-") as folder, progress() as report:
        report(f"drawing random weights of the shape {shape}")
        model = askable_checkpoint(shape, Path(folder) / shape)
        # Nobody will load these weights again: what is compiled for them must not push out what is of use.
        os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
        result = measure_budgets(
            model,
            shape=shape,
            num_budgets=count,
            lowest_ms=lowest_ms,
            highest_ms=highest_ms,
            quantize=quantize,
            num_threads=threads,
            seed=seed,
            report=report,
        )
    finish(
        result,
        {
            json_file: lambda path: write_json(result, path),
            markdown_file: lambda path: write_whole(path, budget_markdown(result)),
        },
    )


@bench_command.command("answers", short_help="Measure a model's answers about documents, and the command's start.")
@click.option("-m", "--model", metavar="MODEL", help="A folder or a hub id; the embedded model if not given.")
@click.option("--questions", type=click.IntRange(min=1), default=30, show_default=True, help="To ask.")
@click.option("--starts", type=click.IntRange(min=1), default=7, show_default=True, help="Of the whole command.")
@threads_option
@json_option
@debug_option
def answers_command(model: str | None, questions: int, starts: int, threads: int, json_file: Path | None) -> None:
    """Measure a model's answers about documents, and the command's start.

    Asks a loaded model about documents that are kept in the package, each picture once and after three that are not
    counted, and then runs `fastvlm ask` from its start so often. Prints the times to the first token, of whole answers
    and of the command.
    """
    from fastvlm.benchmarks.answers import measure_answers
    from fastvlm.benchmarks.report import write_json

    check_files(json_file, None, None)
    with progress() as report:
        result = measure_answers(model, num_questions=questions, num_starts=starts, num_threads=threads, report=report)
    finish(result, {json_file: lambda path: write_json(result, path)})


def _refuse_options_before(subcommand: str, context: click.Context) -> None:
    """Raise UsageError for an option that would be lost, since it belongs behind the subcommand."""
    for option in context.command.params:
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"Options of {subcommand} stand behind it: {option.opts[0]}.", context)


for command in (kernels_command, start_command, towers_command, training_command):
    bench_command.add_command(command)
