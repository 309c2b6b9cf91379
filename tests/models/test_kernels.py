"""What is computed otherwise while an encoder learns is what torch computes: outputs, gradients and statistics."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.machine import cache_folder
from fastvlm.models.vision import kernels
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vision.convolution import Convolution
from fastvlm.models.vision.fastvithd import FastViTHD
from fastvlm.models.vision.normalised_sum import Branch, normalised_sum
from fastvlm.models.vision.reparameterizable import (
    ConvNorm,
    LargeKernelConv,
    MobileOneBlock,
    RepMixer,
    RepPositionEncoding,
)

NANO = replace(PRESETS["fastvithd-nano"], form="train")

BLOCKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "pair": (lambda: ConvNorm(16, 32, 3, stride=2), 16),
    "depthwise": (lambda: ConvNorm(8, 8, 7, groups=8), 8),
    "mobile": (lambda: MobileOneBlock(16, 16, 3, groups=16, form="train"), 16),
    "strided": (lambda: MobileOneBlock(8, 8, 3, stride=2, groups=8, form="train"), 8),
    "pointwise": (lambda: MobileOneBlock(8, 8, 1, form="train"), 8),
    "expansion": (lambda: MobileOneBlock(16, 32, 3, groups=16, form="train"), 16),
    "patches": (lambda: LargeKernelConv(8, 16, form="train"), 8),
    "mixer": (lambda: RepMixer(32, layer_scale_init=0.5, form="train"), 32),
    "positions": (lambda: RepPositionEncoding(16, form="train"), 16),
}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    kernels.load()
    if not kernels.are_loaded():
        pytest.skip("no C++ compiler")


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With the kernels, and without."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "suit", lambda _: False)
    yield request.param


def shaken(module: nn.Module) -> nn.Module:
    """Scales, offsets and statistics that are not ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(
                0.5 + noise if "var" in name or "norm.weight" in name or "skip.weight" in name else noise - 0.5
            )
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def learned(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What a batch gives: the output, all gradients, and statistics."""
    given = x.detach().clone().requires_grad_()
    output = module(given)
    (output * torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output).sin()).sum().backward()
    assert given.grad is not None
    found = {"output": output.detach(), "input": given.grad}
    found |= {f"gradient of {name}": value.grad for name, value in module.named_parameters() if value.grad is not None}
    return found | {f"buffer {name}": value.detach().clone() for name, value in module.named_buffers()}


def assert_equal(found: dict[str, Tensor], exact: dict[str, Tensor], *, tolerance: float) -> None:
    assert found.keys() == exact.keys()
    largest = max(float(value.norm()) for name, value in exact.items() if name.startswith("gradient"))
    for name, value in exact.items():
        # A scale before a norm changes nothing of what comes out: its gradient is what rounding leaves of large terms.
        least = 0.1 * largest if name.endswith("scale.conv.weight") else 1e-6
        error = float((found[name].double() - value.double()).norm() / (value.double().norm() + least))
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("keeps", [False, True], ids=["learning", "kept"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_those_of_float64(kind: str, keeps: bool, way: str) -> None:
    build, channels = BLOCKS[kind]
    block = shaken(build()).train(not keeps)
    exact = copy.deepcopy(block).double()
    x = torch.randn(3, channels, 9, 12, generator=torch.Generator().manual_seed(2)) * 2 + 1
    expected = learned(exact, x.double().to(memory_format=torch.contiguous_format))
    assert_equal(learned(block, x.to(memory_format=torch.channels_last)), expected, tolerance=1e-4)


def test_the_encoder_is_that_of_float64_and_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = FastViTHD(NANO).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    plain, exact = copy.deepcopy(encoder), copy.deepcopy(encoder).double()
    x = torch.rand(4, 3, 128, 128).to(memory_format=torch.channels_last)
    found = learned(encoder, x)
    monkeypatch.setattr(kernels, "suit", lambda _: False)
    expected = learned(exact, x.double())
    assert_equal(found, expected, tolerance=1e-4)
    assert_equal(found, learned(plain, x), tolerance=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 9), (32, 7), (3, 40)])
@pytest.mark.parametrize("channels", [8, 16, 48])
def test_the_gradient_of_a_large_depthwise_convolution_is_torchs(
    channels: int, size: tuple[int, int], stride: int
) -> None:
    torch.manual_seed(0)
    layer = Convolution(channels, channels, 7, stride=stride, groups=channels, bias=True)
    x = torch.randn(2, channels, *size).to(memory_format=torch.channels_last).requires_grad_()
    assert x.grad_fn is None and layer(x).grad_fn.name().startswith("_LargeDepthwise")
    output = F.conv2d(x, layer.weight, layer.bias, stride, 3, groups=channels)
    seen = torch.randn_like(output)
    wanted = (x, layer.weight, layer.bias)
    for found, expected in zip(
        torch.autograd.grad(layer(x), wanted, seen), torch.autograd.grad(output, wanted, seen), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_only_what_is_wanted_is_computed() -> None:
    layer = Convolution(16, 16, 7, groups=16, bias=False)
    x = torch.randn(1, 16, 8, 8).to(memory_format=torch.channels_last)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    given = x.clone().requires_grad_()
    layer(given).sum().backward()
    assert given.grad is not None


def test_the_number_of_threads_changes_no_bit(same_threads_afterwards: None) -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        block = shaken(RepMixer(16, layer_scale_init=0.5, form="train"))
        x = torch.randn(5, 16, 40, 24, generator=torch.Generator().manual_seed(2)).to(memory_format=torch.channels_last)
        found.append(learned(block.train(), x))
    for name in ("output", "gradient of layer_scale", "gradient of mixer.skip.weight"):
        assert torch.equal(found[0][name], found[1][name]), name


def test_the_kernels_use_the_threads_that_torch_counts() -> None:
    """Two threads take half the time of one, or nearly: a library without OpenMP, or with another one, does not."""
    library = next(path for path in torch.ops.loaded_libraries if "kernels" in path)
    needed = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libgomp\S* => (\S+)", needed)
    torchs = [path.name for path in (Path(torch.__file__).parent / "lib").glob("libgomp*")]
    assert found is not None
    assert not torchs or Path(found[1]).name in torchs


def test_synchronised_norms_go_torchs_way() -> None:
    block = MobileOneBlock(16, 16, 3, groups=16, form="train")
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(block)).train()
    pixels = 3 * torch.randn(4, 16, 8, 8)
    torch.testing.assert_close(synchronised(pixels), block.train()(pixels))


def test_gradients_of_several_batches_add_up_in_each_branch_alone() -> None:
    """Branches whose kernels are added must not share the storage of their gradients."""
    block = shaken(MobileOneBlock(16, 16, 3, groups=16, form="train")).eval()
    x = torch.randn(2, 16, 8, 8).to(memory_format=torch.channels_last)
    block(x).sum().backward()
    once = {name: value.grad.clone() for name, value in block.named_parameters() if value.grad is not None}
    block(x).sum().backward()
    for name, value in block.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(value.grad, 2 * once[name])


def test_a_hook_on_a_norm_is_still_called() -> None:
    norm = nn.BatchNorm2d(16)
    seen: list[tuple[int, ...]] = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    normalised_sum([torch.randn(3, 16, 4, 4).to(memory_format=torch.channels_last)], [Branch(0, norm)])
    assert seen == [(3, 16, 4, 4)]
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 5, 24])
def test_maps_that_do_not_suit_go_torchs_way(channels: int, layout: torch.memory_format) -> None:
    block = shaken(MobileOneBlock(channels, channels, 3, groups=channels, form="train")).train()
    exact = copy.deepcopy(block).double()
    x = torch.randn(3, channels, 5, 6)
    expected = learned(exact, x.double())
    assert_equal(learned(block, x.to(memory_format=layout)), expected, tolerance=1e-4)


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name, value, expected in (
        ("FASTVLM_KERNELS", "off", "they are switched off"),
        ("CXX", "/nowhere/c++", "/nowhere/c++"),
        ("CXX", "false", "false failed"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            patch.setenv("FASTVLM_CACHE", str(cache_folder() / "other"))
            kernels.load.cache_clear()
            caplog.clear()
            kernels.load()
            kernels.load()
            assert expected in caplog.text and len(caplog.records) == 1
    # What the compiler said is kept, and nothing half-written.
    assert {path.suffix for path in (cache_folder() / "other").rglob("*.*")} == {".failed"}
    kernels.load.cache_clear()
