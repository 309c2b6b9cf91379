"""Fine-tuning with the model in pieces over two processes writes what two copies of it write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.data.scene_conversations import write_scene_conversations
from fastvlm.training.loop import METRICS_FILE

WORKER = Path(__file__).resolve().parents[1] / "support" / "finetune_worker.py"


@pytest.mark.parametrize("kind", ["lora", pytest.param("all", marks=pytest.mark.slow)])
def test_pieces_with_recomputed_activations_end_as_one_whole_checkpoint(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    data = write_scene_conversations(tmp_path / "data", num_scenes=24, is_captioned=False)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for how in ("copies", "pieces"):
        command = [sys.executable, *launch, str(WORKER), str(tmp_path / how), str(data), kind, how]
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
    logs = [
        [json.loads(line) for line in (tmp_path / how / "state" / METRICS_FILE).read_text().splitlines()]
        for how in ("copies", "pieces")
    ]
    assert len(logs[0]) >= 3
    for one, other in zip(*logs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other.get("validation_loss") == pytest.approx(one.get("validation_loss"), rel=1e-4)
    assert any("validation_loss" in line for line in logs[1])
    result = "adapter" if kind == "lora" else "model"
    left, right = (load_checkpoint(tmp_path / how / result).model.state_dict() for how in ("copies", "pieces"))
    assert left.keys() == right.keys()
    for name, value in left.items():
        if value.is_floating_point():
            assert float((value.float() - right[name].float()).abs().median()) < 1e-4, name
