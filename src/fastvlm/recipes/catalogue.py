"""What can be trained, by name: known without torch, so that a list of it is instant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RecipeEntry:
    """What a recipe is for. paper: the table that it reproduces. data, hardware: what a whole run needs."""

    summary: str
    paper: str
    data: str
    hardware: str


MINIATURE_COMPARISONS = ("resolution", "encoders", "pruning", "tiles", "multi-scale", "contrastive")
"""Of the recipe `miniature`."""

CATALOGUE: dict[str, RecipeEntry] = {
    "scenes": RecipeEntry(
        summary="A model of drawn scenes, from nothing.",
        paper="none",
        data="generated",
        hardware="2 CPU cores, less than an hour",
    ),
    "scenes-smoke": RecipeEntry(
        summary="The same run in miniature, for tests.",
        paper="none",
        data="generated",
        hardware="1 CPU core, seconds",
    ),
    "documents": RecipeEntry(
        summary="The embedded model, which reads receipts, forms, tables, charts, signs and short texts, from nothing.",
        paper="none",
        data="generated",
        hardware="2 CPU cores, some hours",
    ),
    "documents-gpu": RecipeEntry(
        summary="The same for a GPU: four to eight times the pictures in a step.",
        paper="none",
        data="generated",
        hardware="1 GPU and 16 CPU cores",
    ),
    "documents-smoke": RecipeEntry(
        summary="The same run in miniature, for tests.",
        paper="none",
        data="generated",
        hardware="1 CPU core, seconds",
    ),
    "miniature": RecipeEntry(
        summary="The paper's comparisons with small models: resolution, encoders, pruning, tiles, features, CLIP.",
        paper="figures 1 and 4, tables 2, 5, 6 and 10, in miniature",
        data="generated",
        hardware="2 CPU cores, about an hour a seed",
    ),
    "finetune": RecipeEntry(
        summary="Any checkpoint on your own conversations: projector, decoder, LoRA or everything.",
        paper="rates of tables 8 and 9",
        data="your own",
        hardware="what the model needs; told before it starts",
    ),
    "clip": RecipeEntry(
        summary="FastViTHD by contrastive pretraining with distillation, on your shards.",
        paper="section 3.2, table 3",
        data="DataCompDR-1B (13 billion samples seen)",
        hardware="MobileCLIP used 128 GPUs",
    ),
    "clip-small": RecipeEntry(
        summary="A small FastViTHD on generated captions.",
        paper="none",
        data="generated",
        hardware="2 CPU cores, minutes",
    ),
    "connector": RecipeEntry(
        summary="Stage 1: the projector learns to connect encoder and decoder.",
        paper="table 9, stage 1",
        data="LLaVA-1.5 558K",
        hardware="8 H100, 30 minutes (7B)",
    ),
    "resolution": RecipeEntry(
        summary="Stage 1.5: everything adapts to the target resolution on captions.",
        paper="table 9, stage 1.5",
        data="Recap-CC3M and Recap-CC12M, 15M pairs",
        hardware="8 H100, 77 hours (7B, 1024 px)",
    ),
    "instruct": RecipeEntry(
        summary="Stage 2: visual instruction tuning.",
        paper="table 9, stage 2",
        data="1.1M, 6.5M or 12.5M instructions",
        hardware="8 H100, 8 hours for 1.1M (7B, 1024 px)",
    ),
    "reasoning": RecipeEntry(
        summary="Stage 3: high-quality instructions with chains of thought.",
        paper="table 9, stage 3",
        data="MAmmoTH-VL, single images, 10.6M",
        hardware="8 H100; the paper gives no time",
    ),
    "llava-connector": RecipeEntry(
        summary="The two-stage setup of the ablations: the projector.",
        paper="table 8, stage 1",
        data="LLaVA-1.5 558K",
        hardware="8 H100",
    ),
    "llava-instruct": RecipeEntry(
        summary="The two-stage setup of the ablations: everything.",
        paper="table 8, stage 2",
        data="LLaVA-1.5 665K",
        hardware="8 H100",
    ),
}
"""Every recipe, in the order of `fastvlm train --list`."""
