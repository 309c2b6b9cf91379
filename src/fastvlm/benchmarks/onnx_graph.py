"""ONNX files as other engines are given them: the encoder exported by torch, and graphs of operators of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvlm.benchmarks.shapes import shape_config, tensors_of

OPSET = 21
_WEIGHTS_FILE = "weights.bin"


def export_encoder(shape: str, folder: Path, path: Path, *, size_px: int, are_rows_alone: bool = False) -> None:
    """Write encoder and projector, fused, for one picture of one size.

    Input: pixels 1 x 3 x H x W; output: 1 x N x width, or N x 1 x width where `are_rows_alone`.
    """
    import torch

    from fastvlm.checkpoints.load import build_model

    class PixelsToTokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(
                shape_config(shape),
                tensors_of(folder),
                folder=folder,
                device=torch.device("cpu"),
                dtype=torch.float32,
                vision_dtype=torch.float32,
            )

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            tokens = self.model.encode(pixels)
            return tokens.reshape(-1, 1, tokens.shape[-1]) if are_rows_alone else tokens

    pixels = torch.zeros(1, 3, size_px, size_px)
    torch.onnx.export(
        PixelsToTokens().eval(), (pixels,), path, input_names=["pixels"], opset_version=OPSET, dynamo=True
    )


class OnnxGraph:
    """A graph beside a file of its weights, which are more than a graph can hold. Inside `with`, it can be added to."""

    def __init__(self, folder: Path, *, domains: Sequence[str] = ()) -> None:
        import onnx

        self._onnx = onnx
        self._folder, self._domains = folder, domains
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []

    def __enter__(self) -> OnnxGraph:
        self._file = (self._folder / _WEIGHTS_FILE).open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(
        self, kind: str, inputs: Sequence[str], *, outputs: list[str] | None = None, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node; returns the name of its first output."""
        outputs = outputs or [f"{kind}.{len(self._nodes)}"]
        self._nodes.append(
            self._onnx.helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )
        return outputs[0]

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Write a constant to the file of weights; returns its name."""
        onnx = self._onnx
        tensor = onnx.TensorProto(
            name=name,
            dims=values.shape,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        data = np.ascontiguousarray(values)
        entries = {"location": _WEIGHTS_FILE, "offset": self._file.tell(), "length": data.nbytes}
        for key, entry in entries.items():
            tensor.external_data.add(key=key, value=str(entry))
        self._file.write(data.data)
        self._initializers.append(tensor)
        return name

    def small(self, values: npt.NDArray[Any]) -> str:
        """Add a constant of few numbers to the graph itself, where shapes are read from; returns its name."""
        name = f"small.{len(self._initializers)}"
        self._initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def save(
        self, path: Path, *, inputs: dict[str, tuple[str, Sequence[Any]]], outputs: dict[str, Sequence[Any]]
    ) -> None:
        """Write the graph. inputs: ONNX's name of a type, and a shape, by name; outputs: shapes, all in float32."""
        onnx = self._onnx
        info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
        graph = onnx.helper.make_graph(
            self._nodes,
            "decoder",
            [info(name, getattr(types, kind), shape) for name, (kind, shape) in inputs.items()],
            [info(name, types.FLOAT, shape) for name, shape in outputs.items()],
            self._initializers,
        )
        opsets = [onnx.helper.make_opsetid("", OPSET), *(onnx.helper.make_opsetid(name, 1) for name in self._domains)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
