"""What the commands of `fastvlm bench` share: their flags, the files that they write, how they tell their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from fastvlm.cli.output import check_place
from fastvlm.errors import require_extra
from fastvlm.machine import num_cores

_PLOT_SUFFIXES = (".png", ".svg", ".pdf")

Sizes = TypeVar("Sizes", int, tuple[int, ...])


def multiples_of_64(_: click.Context, __: click.Parameter, value: Sizes) -> Sizes:
    """Refuse a side in pixels, or one of several, that no whole number of visual tokens stands on."""
    wrong = [size for size in (value if isinstance(value, tuple) else (value,)) if size % 64]
    if wrong:
        raise click.BadParameter(f"{wrong[0]} is no multiple of 64.")
    return value


def size_option(*, default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The side of the pictures in pixels, where one is measured."""
    return click.option(
        "--size",
        "size_px",
        type=click.IntRange(min=64),
        default=default,
        show_default=True,
        callback=multiples_of_64,
        metavar="PX",
        help="Side of the pictures, a multiple of 64.",
    )


shape_option = click.option(
    "--shape", metavar="NAME", default="fastvlm-0.5b", show_default=True, help="A model's shape, with random weights."
)
peers_option = click.option(
    "--peers",
    type=click.Choice(["none", "installed"]),
    default="installed",
    show_default=True,
    help="Other engines to measure beside ours.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    callback=lambda _, __, value: value or num_cores(),
    help="Threads of each system; all cores if not given.",
)
json_option = click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write rows as JSON."
)
plot_option = click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw a PNG, SVG or PDF.",
)
markdown_option = click.option(
    "--markdown",
    "markdown_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the tables as Markdown.",
)


def check_files(json_file: Path | None, plot_file: Path | None, markdown_file: Path | None) -> None:
    """Refuse places that cannot be written to, and plots that cannot be drawn, before minutes of measuring."""
    if plot_file is not None:
        if plot_file.suffix not in _PLOT_SUFFIXES:
            raise click.UsageError(f"Expected a plot file of {', '.join(_PLOT_SUFFIXES)}, got {plot_file}.")
        require_extra("matplotlib", "bench")
    check_place(json_file, flag="--json")
    check_place(plot_file, flag="--plot")
    check_place(markdown_file, flag="--markdown")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Give a function that tells what is done now: one moving line on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
