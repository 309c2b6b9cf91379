"""A pretrained tower beside a fresh one: both arms run, on the same pictures, from the same decoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastvlm.benchmarks.report import write_json
from fastvlm.benchmarks.towers import TowerReport, compare, write_plot
from fastvlm.checkpoints.tower import TOWER_CONFIG, TOWER_FILE, load_tower, save_tower
from fastvlm.errors import CheckpointError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.processing.config import ProcessingConfig

CONFIG = FastViTHDConfig(
    depths=(1, 1, 1, 1, 1), widths=(8, 8, 16, 32, 32), layer_scale_init=0.1, form="train", clip_dim=16
)
PROCESSING = ProcessingConfig(size_px=64, mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_tower(tmp_path / "tower", FastViTHD(CONFIG), PROCESSING)


def test_a_tower_comes_back_without_its_clip_head(tower: Path) -> None:
    torch.manual_seed(0)
    written = FastViTHD(CONFIG).eval()
    read, processing = load_tower(tower)
    assert processing == PROCESSING and read.config == replace(CONFIG, clip_dim=None)
    pixels = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        assert torch.equal(read(pixels), written(pixels))


def test_a_tower_that_is_not_whole_is_one_line(tower: Path) -> None:
    (tower / TOWER_FILE).write_bytes((tower / TOWER_FILE).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="the weights of a tower"):
        load_tower(tower)
    (tower / TOWER_CONFIG).unlink()
    with pytest.raises(CheckpointError, match="found none"):
        load_tower(tower)


def test_both_arms_are_trained_and_asked(tower: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = compare(
        tower, tmp_path / "runs", num_steps=3, every=2, machine="a machine", versions={}, batch_size=4,
        report=told.append,
    )  # fmt: skip
    assert report.steps == [0, 2, 3] and len(report.pretrained) == len(report.fresh) == 3
    assert report.num_answers == 80 and all(0 <= value <= 1 for value in report.pretrained + report.fresh)
    assert [line.split(",")[0] for line in told] == ["pretrained encoder"] * 2 + ["fresh encoder"] * 2
    write_json(report, tmp_path / "towers.json")
    assert json.loads((tmp_path / "towers.json").read_text())["steps"] == [0, 2, 3]
    write_plot(report, tmp_path / "towers.svg")
    assert (tmp_path / "towers.svg").read_bytes().startswith(b"<?xml")


def test_the_first_step_with_a_share_is_found() -> None:
    report = TowerReport([0, 10, 20], [0.1, 0.6, 0.9], [0.1, 0.2, 0.3], 100, "", {})
    assert report.first_step(report.pretrained, target=0.5) == 10
    assert report.first_step(report.fresh, target=0.5) is None
