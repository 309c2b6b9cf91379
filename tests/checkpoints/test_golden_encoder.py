"""The authors' tensors, through the table, give the authors' outputs (fp32, random weights, small widths)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fastvlm.checkpoints.convert import apple, transformers
from fastvlm.models.vision.config import FastViTHDConfig, Form
from fastvlm.models.vision.fastvithd import FastViTHD, fuse

SMALL = FastViTHDConfig(widths=(8, 16, 32, 64, 128), clip_dim=48)


def load(shared: Path, form: Form) -> tuple[FastViTHD, dict[str, Tensor]]:
    stored = load_file(shared / "golden" / f"fastvithd_small_{form}_form.safetensors")
    ours = {apple.ENCODER_TABLE.to_ours(name): tensor for name, tensor in stored.items()}
    assert None not in ours and len(ours) == len(stored)
    encoder = FastViTHD(replace(SMALL, form=form))
    encoder.load_state_dict({name: tensor for name, tensor in ours.items() if name is not None}, strict=True)
    return encoder.eval(), stored


@pytest.mark.parametrize("form", ["train", "fused"])
@torch.no_grad()
def test_features_and_clip_embeddings_of_the_authors_network(shared: Path, form: Form) -> None:
    encoder, _ = load(shared, form)
    expected = load_file(shared / "golden" / "fastvithd_small_expected.safetensors")
    for shape in ("square", "wide"):
        pixels = expected[f"pixels_{shape}_u8"].float() / 255
        torch.testing.assert_close(encoder(pixels), expected[f"features_{shape}"], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            encoder.clip_embedding(pixels), expected[f"clip_embedding_{shape}"], atol=1e-4, rtol=0
        )


def test_fusing_the_train_form_gives_the_authors_fused_weights(shared: Path) -> None:
    train, _ = load(shared, "train")
    fused, _ = load(shared, "fused")
    theirs = fused.state_dict()
    for name, tensor in fuse(train).state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["train", "fused"])
def test_authors_to_ours_to_authors_is_bit_identical(shared: Path, form: Form) -> None:
    encoder, stored = load(shared, form)
    back = {apple.ENCODER_TABLE.to_theirs(name): tensor for name, tensor in encoder.state_dict().items()}
    assert back.keys() == stored.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in stored.items())


@pytest.mark.parametrize("form", ["train", "fused"])
def test_authors_to_ours_to_timm_names_and_back_is_bit_identical(shared: Path, form: Form) -> None:
    encoder, _ = load(shared, form)
    ours = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("clip_head")}
    timm = {transformers.ENCODER_TABLE.to_theirs(name): tensor for name, tensor in ours.items()}
    assert None not in timm and len(timm) == len(ours)
    back = {transformers.ENCODER_TABLE.to_ours(name): tensor for name, tensor in timm.items() if name is not None}
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())
