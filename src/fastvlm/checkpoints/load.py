"""Weights come: from a checkpoint folder to a model that is ready to answer."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastvlm.checkpoints.config import ModelConfig
from fastvlm.checkpoints.hub import resolve
from fastvlm.checkpoints.precision import fuse_in_float32
from fastvlm.checkpoints.stored import StoredCheckpoint, read_checkpoint
from fastvlm.checkpoints.strict import CLIP_HEAD, check_tensors
from fastvlm.checkpoints.tensors import StoredTensor, some
from fastvlm.errors import CheckpointError, one_line
from fastvlm.models.config import VLMConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import ChatTemplate
from fastvlm.processing.tokenizer import Tokenizer

__all__ = ["LoadedCheckpoint", "build_model", "load_checkpoint", "load_stored", "resolve"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in evaluation mode with everything that it needs to be asked. folder: where it came from."""

    model: FastVLM
    config: ModelConfig
    tokenizer: Tokenizer
    folder: Path

    @property
    def template(self) -> ChatTemplate:
        """How a conversation is written down for this model."""
        return self.config.template

    @property
    def processing(self) -> ProcessingConfig:
        """How an image becomes tiles for this model."""
        return self.config.processing

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return self.config.eos_token_ids


def load_checkpoint(
    model: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    form: Literal["fused", "stored"] = "fused",
    clip_head: Literal["drop", "keep"] = "drop",
) -> LoadedCheckpoint:
    """Read a model from a folder in our layout, the authors' or transformers'; the folder is never written to.

    model: what `resolve` finds: a folder, a hub id, or None for the embedded model. dtype: of all weights; None keeps
    each as it is stored. form: `fused` for answering, `stored` to train on. clip_head: a vision-language model has no
    use for it. On the CPU, weights that need no cast stay memory-mapped.
    Raises CheckpointError for missing, unexpected or misshaped tensors, and for anything else that is not whole.
    """
    stored = read_checkpoint(resolve(model))
    return load_stored(stored, device=device, dtype=dtype, form=form, clip_head=clip_head)


def load_stored(
    stored: StoredCheckpoint,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    form: Literal["fused", "stored"] = "fused",
    clip_head: Literal["drop", "keep"] = "drop",
) -> LoadedCheckpoint:
    """Do what `load_checkpoint` does for a checkpoint whose headers are read."""
    needs_fusing = form == "fused" and stored.config.vlm.vision.form == "train"
    network = build_model(
        stored.config.vlm,
        stored.tensors,
        folder=stored.folder,
        device=torch.device(device),
        dtype=dtype,
        vision_dtype=None if needs_fusing else dtype,
        clip_head=clip_head,
    )
    if needs_fusing:
        network.vision = fuse_in_float32(network.vision, dtype=dtype)
    network.config = VLMConfig(vision=network.vision.config, decoder=stored.config.vlm.decoder)
    network.eval()
    _log_checksums(network)
    return LoadedCheckpoint(network, replace(stored.config, vlm=network.config), stored.tokenizer, stored.folder)


def build_model(
    config: VLMConfig,
    tensors: Mapping[str, StoredTensor],
    *,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    vision_dtype: torch.dtype | None,
    clip_head: Literal["drop", "keep"] = "drop",
) -> FastVLM:
    """Build the network without memory and give it the stored tensors of `folder`, all of them and no others.

    dtype and vision_dtype: of all weights but the encoder's, and of the encoder's; None keeps each as it is stored.
    """
    wanted = dict(tensors)
    if clip_head == "drop":
        config = replace(config, vision=replace(config.vision, clip_dim=None))
        wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(CLIP_HEAD)}
    # On the meta device nothing is initialised: a weight that is not read can never stay silently random (B4).
    try:
        with torch.device("meta"), WithoutInitialisation():
            model = FastVLM(config)
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"Expected {folder} to describe a model, got: {one_line(error)}.") from error
    expected = model.state_dict()
    check_tensors({name: tuple(tensor.shape) for name, tensor in expected.items()}, wanted, folder)
    in_vision = {name: tensor for name, tensor in wanted.items() if name.startswith("vision.")}
    others = {name: tensor for name, tensor in wanted.items() if name not in in_vision}
    state = _read(in_vision, device=device, dtype=vision_dtype) | _read(others, device=device, dtype=dtype)
    for name in expected.keys() - state.keys():
        state[name] = torch.zeros((), dtype=torch.int64, device=device)
    model.load_state_dict(state, strict=True, assign=True)
    _refuse_meta(model)
    return model


class WithoutInitialisation(TorchFunctionMode):
    """Skips drawing initial weights: a meta tensor holds none, and the first draw would load torch's compiler (3 s)."""

    _IN_PLACE = frozenset(
        ("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "kaiming_uniform_", "constant_")
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in self._IN_PLACE:
            return args[0] if args else kwargs["tensor"]
        if name == "mul" and len(args) == 2 and isinstance(args[1], int | float):
            return args[0]
        return torch.empty(*args, **kwargs) if name == "randn" else func(*args, **kwargs)


def _read(wanted: Mapping[str, StoredTensor], *, device: torch.device, dtype: torch.dtype | None) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        for name, tensor in wanted.items():
            try:
                if tensor.file not in files:
                    files[tensor.file] = stack.enter_context(safe_open(tensor.file, framework="pt", device="cpu"))
                value: Tensor = files[tensor.file].get_tensor(tensor.name)
            except (SafetensorError, OSError, RuntimeError) as error:
                raise CheckpointError(
                    f"Expected to read {tensor.name} from {tensor.file}, got: {one_line(error)}. Fetch the file again."
                ) from error
            state[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    return state


def _refuse_meta(model: FastVLM) -> None:
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if left:
        raise CheckpointError(f"Expected every weight to be read, got none for {some(left)}. This is a bug in fastvlm.")


def _log_checksums(model: FastVLM) -> None:
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        return
    for part in ("vision", "projector", "decoder"):
        checksum = 0
        for _, tensor in sorted(model.get_submodule(part).state_dict().items()):
            values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            checksum = zlib.crc32(values.numpy().data, checksum)
        _LOGGER.debug("checksum of %s weights: %08x", part, checksum)
