"""The flags that several commands share, and what they become."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypedDict, cast

import click

from fastvlm.cli.output import note, waiting
from fastvlm.errors import GenerationError
from fastvlm.files import PAGED_SUFFIXES, PICTURE_SUFFIXES, is_pipe

if TYPE_CHECKING:
    from fastvlm.inference.assistant import Assistant
    from fastvlm.inference.settings import SettingsOverrides

STANDARD_INPUT = "-"
EMBEDDED = "embedded"
"""What the packaged model is called in results, as `--model` calls it."""


class ModelOptions(TypedDict):
    """The flags that choose a model, as click hands them over; None where a flag was not given."""

    model: str | None
    device: str
    dtype: str
    runtime: str
    quantize: str | None
    threads: int | None
    template: str | None
    image_mode: str | None
    max_ttft: float | None
    at_once: bool


class AnswerOptions(ModelOptions):
    """Those flags, and the ones that choose an answer."""

    system: str | None
    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: tuple[str, ...]


def milliseconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read a time above zero: a number of milliseconds, or one with its unit, `400ms` or `1.5s`."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)?", value.strip())
    time_ms = float(found[1]) * (1000 if found[2] == "s" else 1) if found else 0.0
    if time_ms <= 0:
        raise click.BadParameter(f"{value!r} is no time above zero; write it as 400ms or 1.5s.")
    return time_ms


def _known_device(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a name that no machine knows; whether this one has the device is found out when a model is loaded."""
    if value not in ("auto", "cpu", "cuda", "mps") and not re.fullmatch(r"cuda:\d+", value):
        raise click.BadParameter(f"{value!r} is not one of auto, cpu, cuda, cuda:N, mps.")
    return value


_MODEL_OPTIONS = (
    click.option(
        "--model",
        "--model-path",
        "-m",
        "model",
        metavar="MODEL",
        help="A folder or a hub id; the embedded model if not given.",
    ),
    click.option(
        "--device",
        metavar="[auto|cpu|cuda|cuda:N|mps]",
        default="auto",
        show_default=True,
        callback=_known_device,
        help="Where the model runs; cuda:1 is the second GPU.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        show_default=True,
        help="Precision of the weights and of the arithmetic.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(["auto", "kernels", "openvino", "torch"]),
        default="auto",
        show_default=True,
        help="What computes; auto takes torch on GPUs, on processors our own kernels or OpenVINO.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["int8", "int4"]),
        help="Hold the decoder's weights in so many bits: less memory, faster words; on processors only.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads to use."),
    click.option(
        "--template", "--conv-mode", metavar="NAME", help="How a conversation is written, such as qwen_2, chatml or v1."
    ),
    click.option(
        "--image-mode",
        type=click.Choice(["pad", "crop", "anyres", "fit"]),
        help="How a picture is cut; both as the model asks for if not given.",
    ),
    click.option(
        "--max-ttft",
        callback=milliseconds,
        metavar="TIME",
        help="Lower the resolution of pictures until the first token comes in this time, such as 400ms or 1.5s, after "
        "the model is loaded; from one look at them, as with --at-once.",
    ),
    click.option(
        "--at-once",
        is_flag=True,
        help="Answer from one look at a picture, also where a model could read it line by line when unsure.",
    ),
)

_GENERATION_OPTIONS = (
    click.option("--system", metavar="TEXT", help="A system message before everything else."),
    click.option("--max-tokens", "--max-new-tokens", "max_new_tokens", type=int, metavar="N", help="Longest answer."),
    click.option("--temperature", type=float, metavar="T", help="0 takes the likeliest word; higher varies more."),
    click.option(
        "--top-p",
        type=float,
        metavar="P",
        help="With --temperature: sample from tokens that make up this much.",
    ),
    click.option("--top-k", type=int, metavar="K", help="With --temperature: sample from so many tokens; 0 for all."),
    click.option(
        "--min-p",
        type=float,
        metavar="P",
        help="With --temperature: sample from tokens of this share of the likeliest one's probability.",
    ),
    click.option("--repetition-penalty", type=float, metavar="R", help="Above 1 avoids repetition."),
    click.option("--seed", type=int, metavar="N", help="With --temperature: the same seed gives the same answer."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be repeated."),
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that choose a model and where it runs."""
    return _with_options(command, _MODEL_OPTIONS)


def answer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that choose a model and how it answers."""
    return _with_options(command, (*_MODEL_OPTIONS, *_GENERATION_OPTIONS))


def image_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flag that names pictures, beside the arguments that do."""
    return click.option(
        "--image",
        "--image-file",
        "more_images",
        multiple=True,
        metavar="IMAGE",
        help="A picture, before those that are arguments; may be repeated.",
    )(command)


def settings_overrides(options: AnswerOptions) -> SettingsOverrides:
    """Return the generation settings that were given; raises UsageError for a value that makes no sense."""
    from fastvlm.inference.settings import GenerationSettings

    names = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    given = {name: options[name] for name in names if options[name] is not None}  # type: ignore[literal-required]
    if options["stop"]:
        given["stop"] = options["stop"]
    overrides = cast("SettingsOverrides", given)
    try:
        settings = GenerationSettings().with_overrides(overrides)
    except GenerationError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    idle = [f"--{name.replace('_', '-')}" for name in ("top_p", "top_k", "min_p", "seed") if name in given]
    if idle and settings.temperature == 0:
        note(f"warning: no effect of {', '.join(idle)} while the likeliest word is taken. Add --temperature 1.")
    return overrides


def is_picture(word: str) -> bool:
    """Whether an argument is a file, or was meant to be one: nobody ends a question in `.png`."""
    looks_like_one = Path(word).suffix.lower() in PICTURE_SUFFIXES and " " not in word
    return word == STANDARD_INPUT or looks_like_one or os.path.isfile(word)


def picture_source(word: str) -> str | bytes:
    """The picture that an argument names: a path, or the bytes of what can be read only once: stdin for `-`, a pipe."""
    if word == STANDARD_INPUT:
        return standard_input().buffer.read()
    return Path(word).read_bytes() if is_pipe(word) else word


def num_pages_of(word: str) -> int:
    """How many pages the picture has that an argument names; a pipe, which can be read only once, counts as one.

    Raises ImageError for what is no picture.
    """
    if Path(word).suffix.lower() not in PAGED_SUFFIXES or is_pipe(word):
        return 1
    from fastvlm.processing.images import count_pages

    return count_pages(Path(word))


def note_if_pages(word: str) -> None:
    """Tell a person of pages that are not looked at. Raises ImageError for what is no picture."""
    if (num_pages := num_pages_of(word)) > 1:
        note(f"{word} has {num_pages} pages, and the first is looked at; `fastvlm read` reads all.")


def standard_input() -> TextIO:
    """The stream of what is typed or piped in; raises UsageError where the process was started without one."""
    if sys.stdin is None:
        raise click.UsageError("Nothing can be read from stdin, which is closed.", click.get_current_context())
    return sys.stdin


def load_assistant(options: ModelOptions) -> Assistant:
    """Load the chosen model; this is where its engine is imported."""
    from fastvlm.checkpoints.hub import resolve
    from fastvlm.inference.loading import load

    # A download has a progress bar of its own.
    folder = resolve(options["model"])
    measuring = "" if options["max_ttft"] is None else ", and for --max-ttft the machine is measured"
    with waiting(f"Getting the model ready; the first time on a machine takes longer{measuring}"):
        return load(
            folder,
            device=options["device"],
            dtype=options["dtype"],
            runtime=options["runtime"],
            quantize=options["quantize"],
            num_threads=options["threads"],
            template=options["template"],
            image_mode=options["image_mode"],
            max_ttft_ms=options["max_ttft"],
            closer_look=not options["at_once"],
        )


def _with_options(
    command: Callable[..., Any], options: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]
) -> Callable[..., Any]:
    # Decorators apply from the last to the first, so that the help shows them in the order written above.
    for option in reversed(options):
        command = option(command)
    return command
