"""Muon: near torch's, on matrices and kernels, stacked or alone, in either precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastvlm.training import muon
from fastvlm.training.muon import Muon, orthogonalised

SHAPES = ((6, 4), (4, 6), (4, 6), (5, 5))


def gradients(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def moved(optimizer_class: type, parameters: list[nn.Parameter], **settings: object) -> None:
    optimizer = optimizer_class(parameters, lr=0.02, weight_decay=0.1, **settings)
    for seed in range(3):
        for parameter, gradient in zip(parameters, gradients(seed), strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        optimizer.step()


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(gradient.clone()) for gradient in gradients(9)]


@pytest.mark.parametrize(("is_fast", "precision"), [(False, torch.float32), (True, torch.bfloat16)])
def test_it_moves_as_torch_does(monkeypatch: pytest.MonkeyPatch, is_fast: bool, precision: torch.dtype) -> None:
    """torch rounds to bfloat16; ours does where that is fast."""
    seen = set()

    def noted(matrices: Tensor) -> Tensor:
        seen.add(matrices.dtype)
        return orthogonalised(matrices)

    monkeypatch.setattr(muon, "has_fast_bfloat16", lambda _: is_fast)
    monkeypatch.setattr(muon, "orthogonalised", noted)
    ours, theirs, before = parameters(), parameters(), parameters()
    moved(Muon, ours)
    assert seen == {precision}
    moved(torch.optim.Muon, theirs, adjust_lr_fn="match_rms_adamw")
    for one, other, start in zip(ours, theirs, before, strict=True):
        distance = (one - start).norm()
        assert distance > 0.02
        assert (one - other).norm() < 0.03 * distance


def test_a_kernel_moves_as_the_matrix_of_its_rows() -> None:
    matrices = parameters()
    kernels = [nn.Parameter(matrix.detach().clone()[:, :, None, None]) for matrix in matrices]
    moved(Muon, matrices)
    moved(Muon, kernels)
    for matrix, kernel in zip(matrices, kernels, strict=True):
        torch.testing.assert_close(kernel[:, :, 0, 0], matrix)


@pytest.mark.parametrize("shape", [(3, 8, 5), (3, 5, 8), (1, 4, 4)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalised(matrices)
    turned = left.mT @ result @ right.mT
    off_diagonal = turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-9
    wide = values / values.norm(dim=1, keepdim=True) > 0.05
    assert ((turned.diagonal(dim1=1, dim2=2) - 1).abs()[wide] < 0.4).all()


def test_a_parameter_without_a_gradient_stays() -> None:
    one, other = parameters()[:2]
    one.grad = torch.ones_like(one)
    before = other.detach().clone()
    Muon([one, other], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(other, before)
