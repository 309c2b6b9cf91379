"""`fastvlm inspect`: what a model is made of, or what it sees of a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastvlm.cli.options import is_picture, picture_source
from fastvlm.cli.output import debug_option, note, print_json

if TYPE_CHECKING:
    from fastvlm.checkpoints.summary import ModelSummary
    from fastvlm.processing.tiling import ImageProcessor


@click.command("inspect", short_help="Show what a model is made of, or what it sees of a picture.")
@click.argument("target", required=False, metavar="[MODEL|IMAGE]")
@click.option(
    "--model",
    "--model-path",
    "-m",
    "model",
    metavar="MODEL",
    help="The model that sees the picture; the embedded one if not given.",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="PNG", help="Write what the model sees of the picture."
)
@click.option("--force", is_flag=True, help="Let --output replace a file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
def inspect_command(target: str | None, model: str | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Show what a model is made of, or what it sees of a picture.

    MODEL is a folder or a hub id; IMAGE is a file, or `-` for stdin. Without either, the embedded model is shown.
    No torch is needed, and no weights are loaded.
    """
    if target is not None and is_picture(target):
        _inspect_picture(target, model, output=output, force=force, as_json=as_json)
        return
    context = click.get_current_context()
    if target is not None and model is not None:
        raise click.UsageError(f"{target!r} is no picture, so --model says a second model.", context)
    if output is not None:
        raise click.UsageError("--output needs a picture to look at.", context)
    _inspect_model(target or model, as_json=as_json)


def _inspect_model(model: str | None, *, as_json: bool) -> None:
    from fastvlm.checkpoints.adapter import is_adapter, read_adapter_config
    from fastvlm.checkpoints.hub import resolve
    from fastvlm.checkpoints.stored import read_checkpoint
    from fastvlm.checkpoints.summary import summarize

    folder = resolve(model, fetch="never")
    summary = summarize(read_checkpoint(folder, only_described=True))
    adapter = read_adapter_config(folder) if is_adapter(folder) else None
    if as_json:
        print_json({**summary.to_dict(), "adapter": None if adapter is None else asdict(adapter)})
        return
    if adapter is not None:
        _print_rows([("adapter", f"{folder} (rank {adapter.rank}, scale {adapter.scale:g}), merged into its base:")])
    _print_rows(_model_rows(summary))


def _inspect_picture(target: str, model: str | None, *, output: Path | None, force: bool, as_json: bool) -> None:
    from fastvlm.checkpoints.hub import resolve
    from fastvlm.checkpoints.stored import read_checkpoint
    from fastvlm.processing.images import read_image
    from fastvlm.processing.preview import compose_tiles, write_picture
    from fastvlm.processing.tiling import ImageProcessor

    picture = read_image(picture_source(target))
    stored = read_checkpoint(resolve(model, fetch="never"), only_described=True)
    processor = ImageProcessor(stored.config.processing)
    height_px, width_px = picture.shape[:2]
    if output is not None:
        seen = compose_tiles(processor.pictures(picture), processor.layout(width_px, height_px))
        write_picture(output, seen, existing="replace" if force else "refuse")
        note(f"Written: {output}")
    facts = _picture_facts(width_px, height_px, processor)
    if as_json:
        print_json(facts)
    else:
        _print_rows([(name.replace("_", " "), str(value)) for name, value in facts.items()])


def _picture_facts(width_px: int, height_px: int, processor: ImageProcessor) -> dict[str, object]:
    layout = processor.layout(width_px, height_px)
    return {
        "width_px": width_px,
        "height_px": height_px,
        "mode": processor.config.mode,
        "scale": round(processor.scale(width_px, height_px), 3),
        "num_tiles": layout.num_tiles,
        "tile_width_px": layout.tile_width_px,
        "tile_height_px": layout.tile_height_px,
        "grid_columns": layout.grid_columns,
        "grid_rows": layout.grid_rows,
        "has_overview": layout.has_overview,
        "num_visual_tokens": layout.num_visual_tokens,
    }


def _model_rows(summary: ModelSummary) -> list[tuple[str, str]]:
    config = summary.config
    vision, decoder, processing = config.vlm.vision, config.vlm.decoder, config.processing
    tile = (
        f"up to {processing.max_visual_tokens} visual tokens"
        if processing.mode == "fit"
        else f"{processing.size_px} px"
    )
    heads = f"{decoder.num_heads} heads ({decoder.num_key_value_heads} for keys and values)"
    return [
        ("name", config.name),
        ("folder", f"{summary.folder} ({summary.layout} layout, {', '.join(summary.stored_dtypes)})"),
        ("licence", config.licence or "unknown"),
        *((f"{part} parameters", f"{count:,}") for part, count in summary.num_parameters.items()),
        *((f"{name} weights", f"{size / 1e6:,.1f} MB") for name, size in summary.weight_bytes.items()),
        *((f"{name} cache", f"{size / 1e3:,.1f} kB per token") for name, size in summary.cache_bytes_per_token.items()),
        (
            "encoder",
            f"stages of {_joined(vision.depths)} blocks and {_joined(vision.widths)} channels, {vision.form} form",
        ),
        ("decoder", f"{decoder.num_layers} layers of {decoder.width} channels, {heads}"),
        ("vocabulary", f"{decoder.vocabulary_size:,} tokens, context of {decoder.max_positions:,}"),
        ("pictures", f"{processing.mode}, {tile}, mean {_joined(processing.mean)}, std {_joined(processing.std)}"),
        (
            "visual tokens",
            "of 1024 x 768 px: " + ", ".join(f"{mode} {count}" for mode, count in summary.visual_tokens.items()),
        ),
        ("template", f"{config.template.name}: {summary.prompt!r}"),
        ("ends with", ", ".join(f"{text} ({number})" for text, number in summary.end_tokens.items())),
    ]


def _joined(values: tuple[float, ...]) -> str:
    return "-".join(f"{value:g}" for value in values)


def _print_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        click.echo(click.style(f"{name:{width}}", bold=True) + value)
