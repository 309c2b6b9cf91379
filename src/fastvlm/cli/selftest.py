"""`fastvlm selftest`: whether the embedded model answers here as it should."""

from __future__ import annotations

from typing import Unpack

import click

from fastvlm.cli.options import ModelOptions, load_assistant, model_options
from fastvlm.cli.output import debug_option, print_json, waiting
from fastvlm.errors import GenerationError


@click.command("selftest", short_help="Check that the embedded model answers here as it should.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@model_options
@debug_option
def selftest_command(as_json: bool, **options: Unpack[ModelOptions]) -> None:
    """Check that the embedded model answers here as it should.

    It is asked 200 frozen questions about generated scenes and documents, about a minute's work. The share of right
    answers has to lie in the 95 % interval of the one that its weights were measured with; other engines and precisions
    answer a few questions otherwise. The exit code is 1 where it does not.
    """
    if options["model"] is not None:
        raise click.UsageError(
            "The questions are for the embedded model: leave --model out.", click.get_current_context()
        )
    given = {name: options[name] for name in ("at_once", "max_ttft", "image_mode", "template")}
    changed = [name for name, value in given.items() if value]
    if changed:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise click.UsageError(f"The expected score is one without {names}.", click.get_current_context())
    from fastvlm.evaluation.runner import AssistantAnswerer
    from fastvlm.evaluation.selftest import run_selftest

    assistant = load_assistant(options)
    with waiting("Asking 200 questions"):
        result = run_selftest(AssistantAnswerer(assistant))
    found, expected, interval = result.found, result.expected, result.expected.interval
    if as_json:
        print_json(
            {
                "is_passed": result.is_passed,
                "num_correct": found.num_correct,
                "num_expected": expected.num_correct,
                "num_questions": found.num_questions,
                "interval_95": [round(interval.low, 4), round(interval.high, 4)],
                "runtime": assistant.runtime.name,
            }
        )
    else:
        click.echo(
            f"{found.num_correct} of {found.num_questions} right ({100 * found.share:.1f} %); expected "
            f"{expected.num_correct}, or {100 * interval.low:.1f} to {100 * interval.high:.1f} %: "
            f"{'as it should be' if result.is_passed else 'not as it should be'}."
        )
    if not result.is_passed:
        raise GenerationError(
            f"Expected the embedded model to answer {100 * interval.low:.1f} to {100 * interval.high:.1f} % right, got "
            f"{100 * found.share:.1f} %. Try --runtime torch or --dtype float32, and please report it."
        )
