"""Every recipe in miniature, from generated data: its first losses are those of before, and it learns.

The stages of the paper have theirs in test_paper_stages.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.errors import TrainingError
from fastvlm.recipes import pretrain, scenes
from fastvlm.recipes.catalogue import CATALOGUE
from fastvlm.recipes.finetune import FinetuneRecipe, run
from fastvlm.recipes.stages import STAGES, in_miniature
from fastvlm.training import precision
from fastvlm.training.loop import METRICS_FILE
from fastvlm.training.lora import LoraSettings
from fastvlm.training.parts import Parts

FINETUNE_LOSSES = {
    "projector": (0.25617, 0.13223), "language": (0.25617, 0.12501), "all": (0.25618, 0.18059),
    "lora": (0.25617, 0.13853),
}  # fmt: skip
CLIP_LOSSES = (4.9173, 4.5034)
SCENES_LOSSES = ((28.654, 28.963), (36.150, 46.983), (28.553, 28.082))
"""Of the first two steps, in float32."""


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: False)


def losses_in(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_no_recipe_is_without_one() -> None:
    assert set(CATALOGUE) == {
        "finetune",
        "clip",
        "clip-small",
        "scenes",
        "scenes-smoke",
        "documents",
        "documents-gpu",
        "documents-smoke",
        "miniature",
        *STAGES,
    }


@pytest.mark.parametrize("kind", ["projector", "language", "all", "lora"])
def test_fine_tuning_learns_in_miniature(kind: str, tmp_path: Path) -> None:
    parts: Parts = "language" if kind == "lora" else kind  # type: ignore[assignment]
    recipe = FinetuneRecipe(model=None, data=(), parts=parts, lora=LoraSettings() if kind == "lora" else None)
    model = run(in_miniature(recipe, tmp_path), tmp_path)
    losses = losses_in(tmp_path / "state")
    assert losses[:2] == pytest.approx(FINETUNE_LOSSES[kind], rel=1e-2)
    assert len(losses) == 6 and sum(losses[3:]) < sum(losses[:3]), "both halves are two rounds of the same pictures"
    load_checkpoint(model)


def test_nothing_is_written_for_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="several processes"):
        in_miniature(FinetuneRecipe(model=None, data=(), is_sharded=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pretraining_learns_in_miniature(tmp_path: Path) -> None:
    pretrain.run(pretrain.clip_smoke(), tmp_path)
    losses = losses_in(tmp_path / "state")
    assert losses[:2] == pytest.approx(CLIP_LOSSES, rel=1e-2)
    assert sum(losses[-2:]) < sum(losses[:2])


def test_a_model_of_scenes_learns_in_miniature(tmp_path: Path) -> None:
    recipe = scenes.smoke()
    scenes.run(recipe, tmp_path)
    for number, (stage, first) in enumerate(zip(recipe.stages, SCENES_LOSSES, strict=True), start=1):
        losses = losses_in(tmp_path / f"{number}-{stage.name}")
        assert losses[:2] == pytest.approx(first, rel=1e-2), stage.name
        assert min(losses[2:]) < losses[0], stage.name
