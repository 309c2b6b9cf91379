"""`fastvlm ask`: pictures and a question in, an answer out."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Unpack

import click

from fastvlm.cli.options import (
    EMBEDDED,
    STANDARD_INPUT,
    AnswerOptions,
    answer_options,
    image_option,
    is_picture,
    load_assistant,
    note_if_pages,
    picture_source,
    settings_overrides,
)
from fastvlm.cli.output import (
    answer_line,
    debug_option,
    described_resolution,
    note,
    note_if_cut,
    note_if_unsure,
    note_resolution,
    print_json,
    waiting,
)
from fastvlm.inference.timings import PHASES
from fastvlm.messages import ImagePart, Message, system, user

if TYPE_CHECKING:
    from fastvlm.inference.assistant import Answer


@click.command("ask", short_help="Answer a question about pictures.")
@click.argument("words", nargs=-1, metavar="[IMAGE]... [QUESTION]")
@image_option
@click.option("--prompt", metavar="TEXT", help="The question; all arguments are pictures then.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")
@click.option("--timings", is_flag=True, help="Say on stderr where the time went.")
@answer_options
@debug_option
def ask_command(
    words: tuple[str, ...],
    more_images: tuple[str, ...],
    prompt: str | None,
    as_json: bool,
    timings: bool,
    **options: Unpack[AnswerOptions],
) -> None:
    """Answer a question about pictures.

    The last argument is the question, all before it are pictures, in this order; `-` reads one from stdin.
    Without a picture the question is answered from its words.
    """
    images, question = _pictures_and_question(words, prompt)
    messages = _messages([*more_images, *images], question, options["system"])
    overrides = settings_overrides(options)
    assistant = load_assistant(options)
    if as_json:
        answer = assistant.ask(messages, **overrides)
        print_json(_as_dict(answer, options["model"] or EMBEDDED, assistant.runtime.name))
    else:
        stream = assistant.stream(messages, **overrides)
        with answer_line() as write:
            with waiting("Looking"):
                first = next(stream, "")
            write(first)
            for piece in stream:
                write(piece)
        answer = stream.answer
        if not timings:  # which tell it too
            note_if_cut(answer.finish_reason)
        note_if_unsure(answer.confidence, is_unsure=answer.is_unsure)
        note_resolution(described_resolution(answer.resolution))
    if timings:
        _note_timings(answer, assistant.runtime.name)


def _pictures_and_question(words: tuple[str, ...], prompt: str | None) -> tuple[tuple[str, ...], str]:
    """Split the arguments into pictures and the question; raises UsageError where there is no question."""
    context = click.get_current_context()
    if prompt is not None:
        return words, prompt
    if not words:
        raise click.UsageError("Missing the question.", context)
    *images, question = words
    if is_picture(question):
        raise click.UsageError(
            f"Missing the question: the last argument, {question!r}, is a file. "
            f'For example: fastvlm ask {question} "What is this?".',
            context,
        )
    return tuple(images), question


def _messages(images: list[str], question: str, system_text: str | None) -> list[Message]:
    """One user's turn, after the system message where there is one; raises UsageError for what cannot be asked."""
    context = click.get_current_context()
    if not question.strip():
        raise click.UsageError("The question is empty.", context)
    for name, text in (("The question", question), ("The text of --system", system_text or "")):
        if _has_broken_characters(text):
            raise click.UsageError(f"{name} is not valid text in this terminal's encoding (UTF-8).", context)
    if images.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Only one picture can be read from stdin.", context)
    from fastvlm.processing.images import read_image

    for image in images:
        if image != STANDARD_INPUT and not os.path.exists(image):
            read_image(image)  # says what is wrong with it, before a model is loaded for nothing
        note_if_pages(image)
    parts = [ImagePart(picture_source(image)) for image in images]
    return [*([system(system_text)] if system_text else []), user(*parts, question)]


def _has_broken_characters(text: str) -> bool:
    """Whether bytes of the command line could not be decoded; Python keeps them as lone surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _as_dict(answer: Answer, model: str, runtime: str) -> dict[str, object]:
    return {
        "answer": answer.text,
        "usage": asdict(answer.usage),
        "timings": {name: None if value is None else round(value, 3) for name, value in asdict(answer.timings).items()},
        "model": model,
        "runtime": runtime,
        "finish_reason": answer.finish_reason,
        "confidence": round(answer.confidence, 4),
        "is_unsure": answer.is_unsure,
        "box": answer.box,
        "resolution": described_resolution(answer.resolution),
    }


def _rate(elapsed_ms: float, *, num_tokens: int) -> str:
    """How fast tokens came, for a line of text; nothing where none did."""
    return f", {1000 * num_tokens / elapsed_ms:.1f} tokens-per-sec" if elapsed_ms else ""


def _note_timings(answer: Answer, runtime: str) -> None:
    usage, timings = answer.usage, answer.timings
    prompt = f"{usage.prompt_tokens} tokens ({usage.visual_tokens} visual)"
    prompt_rate = _rate(timings.prefill_ms, num_tokens=usage.prompt_tokens)
    note(f"Prompt: {prompt}{prompt_rate}, first token after {timings.first_token_ms:.0f} ms")
    generation_rate = _rate(timings.decode_per_token_ms, num_tokens=1)
    note(f"Generation: {usage.completion_tokens} tokens{generation_rate}, ended by {answer.finish_reason}")
    note("Phases: " + ", ".join(f"{name} {getattr(timings, f'{name}_ms'):.1f} ms" for name in PHASES))
    peak_mb = timings.peak_memory_mb
    memory = "" if peak_mb is None else f", at most {peak_mb:.0f} MB of memory"
    loading = f"{timings.load_ms:.0f} ms of loading ({timings.load_compile_ms:.0f} of them compiling and packing)"
    note(f"Total: {timings.total_ms:.0f} ms by {runtime}, after {loading}{memory}")
