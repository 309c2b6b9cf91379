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


CATALOGUE: dict[str, RecipeEntry] = {
    "scenes": RecipeEntry(
        summary="The embedded model, from nothing.",
        paper="none",
        data="generated",
        hardware="2 CPU cores, an hour",
    ),
    "scenes-smoke": RecipeEntry(
        summary="The same run in miniature, for tests.",
        paper="none",
        data="generated",
        hardware="1 CPU core, seconds",
    ),
    "finetune": RecipeEntry(
        summary="Any checkpoint on your own conversations: projector, decoder, LoRA or everything.",
        paper="rates of tables 8 and 9",
        data="your own",
        hardware="what the model needs; told before it starts",
    ),
}
"""Every recipe, in the order of `fastvlm train --list`."""
