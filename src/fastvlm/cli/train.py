"""`fastvlm train`: run a recipe of this package, or go on with one."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import click

from fastvlm.cli.groups import SuggestingGroup
from fastvlm.cli.output import debug_option, note
from fastvlm.cli.train_options import (
    data_options,
    output_option,
    progress,
    refuse_beside_smoke,
    refuse_options,
    resume_option,
    run_folder,
    save_every_option,
    scale_options,
    smoke_option,
    start_options,
    tell_result,
    with_options,
)
from fastvlm.errors import require_extra
from fastvlm.recipes.catalogue import CATALOGUE, MINIATURE_COMPARISONS


class RecipeGroup(SuggestingGroup):
    """Every recipe is a command; those without options of their own share one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the recipes in the order of the catalogue."""
        return list(CATALOGUE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a recipe's command, or None for an unknown name."""
        if cmd_name not in CATALOGUE:
            return None
        return super().get_command(ctx, cmd_name) or _command_of(cmd_name)


@click.group("train", cls=RecipeGroup, invoke_without_command=True, short_help="Train a model.")
@click.option("--list", "is_listing", is_flag=True, help="Say what each recipe trains, on what, and end.")
@debug_option
@click.pass_context
def train_command(context: click.Context, is_listing: bool) -> None:
    """Train a model with a recipe of this package.

    A run writes its state, a log (metrics.jsonl) and, at the end, a checkpoint into --output. Ctrl-C saves and stops;
    --resume goes on from there, or from the last state after a kill, to the same numbers.
    """
    if is_listing:
        for name, entry in CATALOGUE.items():
            click.echo(f"{name:16}{entry.summary}")
            click.echo(f"{'':16}paper: {entry.paper}; data: {entry.data}; hardware: {entry.hardware}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _command_of(name: str) -> click.Command:
    """The command of a recipe that has no command of its own below."""
    if name.startswith("scenes"):
        return _generated(name)
    if name.startswith("documents"):
        return _reading(name)
    if name == "miniature":
        return _miniature(name)
    return _pretraining(name) if name.startswith("clip") else _stage(name)


def _generated(name: str) -> click.Command:
    """The command of a recipe that makes its own data."""

    @click.command(name, help=CATALOGUE[name].summary, short_help=CATALOGUE[name].summary)
    @output_option
    @resume_option
    @debug_option
    def command(output: Path | None, resume: bool) -> None:
        require_extra("torch", "torch")
        from fastvlm.recipes.scenes import RECIPES, run

        folder = run_folder(name, output, resume=resume)
        with progress() as report:
            model = run(RECIPES[name](), folder, report=report)
        tell_result(model)

    return command


def _reading(name: str) -> click.Command:
    """The command of a recipe that learns to read generated documents."""

    @click.command(name, help=CATALOGUE[name].summary, short_help=CATALOGUE[name].summary)
    @click.option(
        "--minutes",
        type=click.FloatRange(min=0, min_open=True),
        help="Every stage ends when its share of this time is over, instead of after the recipe's steps.",
    )
    @save_every_option
    @output_option
    @resume_option
    @debug_option
    def command(minutes: float | None, save_every: int | None, output: Path | None, resume: bool) -> None:
        require_extra("torch", "torch")
        from fastvlm.recipes.document_settings import RECIPES
        from fastvlm.recipes.documents import run, timed

        folder = run_folder(name, output, resume=resume)
        recipe = RECIPES[name]()
        if save_every is not None:
            recipe = replace(recipe, save_every=save_every)
        if minutes is not None:
            recipe = timed(recipe, minutes=minutes)
        with progress() as report:
            tell_result(run(recipe, folder, report=report, tell=note))

    return command


def _miniature(name: str) -> click.Command:
    """The command of the paper's comparisons in miniature."""

    @click.command(name, help=CATALOGUE[name].summary, short_help=CATALOGUE[name].summary)
    @click.option(
        "--only", multiple=True, type=click.Choice(MINIATURE_COMPARISONS), help="A comparison. May be repeated."
    )
    @click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each model.")
    @smoke_option
    @output_option
    @resume_option
    @debug_option
    def command(only: tuple[str, ...], seeds: int, smoke: bool, output: Path | None, resume: bool) -> None:
        require_extra("torch", "torch")
        from fastvlm.recipes.miniature.report import Results, draw, tables
        from fastvlm.recipes.miniature.run import run
        from fastvlm.recipes.miniature.study import COMPARISONS, VARIANTS, StudySettings, smoke_settings

        wanted = {model for comparison in only or COMPARISONS for model in COMPARISONS[comparison]}
        names = [model for model in VARIANTS if model in wanted]
        folder = run_folder(name, output, resume=resume)
        settings = smoke_settings() if smoke else StudySettings()
        with progress() as report:
            path = run(folder, names=names, seeds=range(seeds), settings=settings, report=report, tell=note)
        results = Results.read(path)
        click.echo(tables(results))
        if find_spec("matplotlib") is None:
            note("Install 'fastvlm[bench]' and go on with --resume for plots.")
        else:
            draw(results, folder)
        note(f"The results are in {folder}.")

    return command


def _pretraining(name: str) -> click.Command:
    """The command of a contrastive pretraining."""

    @click.command(name, help=CATALOGUE[name].summary, short_help=CATALOGUE[name].summary)
    @click.option("--shards", multiple=True, help="Pattern of WebDataset shards (.tar). May be repeated.")
    @click.option(
        "--tokenizer", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="CLIP's tokenizer.json."
    )
    @click.option("--steps", type=click.IntRange(min=1), help="Instead of the recipe's.")
    @click.option("--batch-size", type=click.IntRange(min=3), help="Of all processes, instead of the recipe's.")
    @click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Instead of the recipe's.")
    @click.option("--validation-shards", multiple=True, help="Shards of other pictures, for retrieval in the end.")
    @click.option(
        "--classes",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        metavar="DIR",
        help="Folder with a folder of pictures for each class, for zero-shot classification in the end.",
    )
    @click.option("--no-teachers", is_flag=True, help="Contrastive loss alone, for shards without teachers.")
    @save_every_option
    @smoke_option
    @output_option
    @resume_option
    @debug_option
    def command(
        shards: tuple[str, ...],
        tokenizer: Path | None,
        steps: int | None,
        batch_size: int | None,
        learning_rate: float | None,
        validation_shards: tuple[str, ...],
        classes: Path | None,
        no_teachers: bool,
        save_every: int | None,
        smoke: bool,
        output: Path | None,
        resume: bool,
    ) -> None:
        require_extra("torch", "torch")
        from fastvlm.recipes.pretrain import RECIPES, run
        from fastvlm.training.parallel import processes

        recipe = RECIPES["clip-smoke" if smoke else name]()
        given = {
            "num_steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "tokenizer": tokenizer,
            "save_every": save_every, "validation_shards": validation_shards, "class_folder": classes,
        }  # fmt: skip
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if shards:
            changes["shards"] = shards
        if no_teachers:
            changes |= {"contrastive_weight": 1.0, "distillation_weight": 0.0}
        if name == "clip" and not shards and not smoke:
            raise click.UsageError("Missing option '--shards'.", click.get_current_context())
        folder = run_folder(name, output, resume=resume)
        with processes(), progress() as report:
            tell_result(run(replace(recipe, **changes), folder, report=report, tell=note))

    return command


def _stage(name: str) -> click.Command:
    """The command of a stage of the paper's training."""

    @click.command(name, help=CATALOGUE[name].summary, short_help=CATALOGUE[name].summary)
    @with_options(start_options)
    @with_options(data_options)
    @click.option("--size", type=click.IntRange(min=64), help="Side of the pictures, instead of the stage's.")
    @click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Of one process at a time; as many are accumulated as make the stage's batch.",
    )
    @with_options(scale_options)
    @save_every_option
    @click.option("--seed", type=int, default=0, show_default=True)
    @smoke_option
    @output_option
    @resume_option
    @debug_option
    def command(
        model: str | None,
        decoder: str | None,
        tower: Path | None,
        random_encoder: bool,
        data: tuple[str, ...],
        images: Path | None,
        leave_out_invalid: bool,
        size: int | None,
        batch_size: int,
        gradient_checkpointing: bool,
        shard: bool,
        tensorboard: bool,
        save_every: int | None,
        seed: int,
        smoke: bool,
        output: Path | None,
        resume: bool,
    ) -> None:
        require_extra("torch", "torch")
        from fastvlm.recipes import stages
        from fastvlm.recipes.finetune import run
        from fastvlm.training.parallel import processes

        if smoke:
            refuse_beside_smoke(
                "model", "decoder", "tower", "random_encoder", "data", "images", "size", "batch_size", "seed"
            )
        elif not data:
            raise click.UsageError("Missing option '--data' / '-d'.", click.get_current_context())
        stage, folder = stages.STAGES[name], run_folder(name, output, resume=resume)
        wanted = stages.StageRun(
            model=model,
            decoder=decoder,
            tower=tower,
            has_random_encoder=random_encoder,
            data=data,
            image_folder=images,
            batch_size=batch_size,
            size_px=size,
            leaves_out_invalid=leave_out_invalid,
            seed=seed,
        )
        with processes(), progress() as report:
            recipe = stages.smoke(stage, folder) if smoke else stages.recipe_of(stage, wanted, folder)
            recipe = replace(recipe, recomputes=gradient_checkpointing, is_sharded=shard, writes_events=tensorboard)
            if save_every is not None:
                recipe = replace(recipe, save_every=save_every)
            tell_result(run(recipe, folder, report=report, tell=note))

    return command


@train_command.command("finetune", short_help=CATALOGUE["finetune"].summary)
@click.option("--model", "-m", help="Folder or hub id of the model to start from; the embedded one if not given.")
@with_options(data_options)
@click.option(
    "--parts",
    type=click.Choice(["projector", "language", "all"]),
    default="language",
    show_default=True,
    help="What learns: the projector, the projector and the decoder, or the encoder too.",
)
@click.option("--lora", "has_lora", is_flag=True, help="Learn the projector and low-rank changes of the decoder.")
@click.option("--lora-rank", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--lora-alpha", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Of one process at a time."
)
@click.option(
    "--accumulate", type=click.IntRange(min=1), default=1, show_default=True, help="Batches that make one step."
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Peak; 1e-3 for the projector, 2e-5 with the decoder, 2e-4 for LoRA if not given.",
)
@click.option(
    "--encoder-learning-rate", type=click.FloatRange(min=0, min_open=True), help="Of the encoder, instead of the peak."
)
@click.option(
    "--projector-learning-rate", type=click.FloatRange(min=0, min_open=True), help="Of the projector, likewise."
)
@click.option(
    "--layer-decay",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Each layer of the decoder and stage of the encoder learns so much slower than the next.",
)
@click.option("--max-length", type=click.IntRange(min=2), help="Longest conversation in tokens; the model's own limit.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.9),
    default=0.05,
    show_default=True,
    help="Share of the data that is held out to choose the best weights; 0 for none.",
)
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), help="Decay of a running mean of the weights.")
@click.option(
    "--no-cache", is_flag=True, help="Encode images in every epoch, and keep nothing of them on disk between."
)
@with_options(scale_options)
@save_every_option
@click.option("--seed", type=int, default=0, show_default=True)
@smoke_option
@output_option
@resume_option
@debug_option
def finetune_command(
    model: str | None,
    data: tuple[str, ...],
    images: Path | None,
    parts: Literal["projector", "language", "all"],
    has_lora: bool,
    lora_rank: int,
    lora_alpha: int,
    epochs: int,
    batch_size: int,
    accumulate: int,
    learning_rate: float | None,
    encoder_learning_rate: float | None,
    projector_learning_rate: float | None,
    layer_decay: float,
    max_length: int | None,
    validation: float,
    ema: float | None,
    no_cache: bool,
    leave_out_invalid: bool,
    gradient_checkpointing: bool,
    shard: bool,
    tensorboard: bool,
    save_every: int | None,
    seed: int,
    smoke: bool,
    output: Path | None,
    resume: bool,
) -> None:
    """Fine-tune a checkpoint on your own conversations.

    Unless the encoder learns (--parts all), each image is encoded once and kept in the run's folder. The result is a
    checkpoint, or with --lora an adapter; `fastvlm ask --model` takes both.
    """
    require_extra("torch", "torch")
    from fastvlm.recipes.finetune import FinetuneRecipe, run
    from fastvlm.recipes.stages import in_miniature
    from fastvlm.training.lora import LoraSettings
    from fastvlm.training.parallel import processes

    if smoke:
        refuse_beside_smoke(
            "model", "data", "images", "epochs", "batch_size", "accumulate", "learning_rate", "validation"
        )
    elif not data:
        raise click.UsageError("Missing option '--data' / '-d'.", click.get_current_context())
    if not has_lora:
        refuse_options("of --lora", "lora_rank", "lora_alpha")
    recipe = FinetuneRecipe(
        model=model,
        data=data,
        image_folder=images,
        parts=parts,
        lora=LoraSettings(rank=lora_rank, alpha=lora_alpha) if has_lora else None,
        num_epochs=epochs,
        batch_size=batch_size,
        num_accumulated=accumulate,
        learning_rate=learning_rate,
        encoder_rate=encoder_learning_rate,
        projector_rate=projector_learning_rate,
        layer_decay=layer_decay,
        max_positions=max_length,
        validation_share=validation,
        ema_decay=ema,
        keeps_features=not no_cache,
        leaves_out_invalid=leave_out_invalid,
        recomputes=gradient_checkpointing,
        is_sharded=shard,
        writes_events=tensorboard,
        seed=seed,
    )
    folder = run_folder("finetune", output, resume=resume)
    with processes(), progress() as report:
        if smoke:
            recipe = in_miniature(recipe, folder)
        if save_every is not None:
            recipe = replace(recipe, save_every=save_every)
        tell_result(run(recipe, folder, report=report, tell=note))
