"""The numbers in OpenVINO: processors without torch. Graphs are built here, straight from the weights."""

import sys

_CONVERTER = "openvino.tools.ovc"

# The converter that openvino would import takes 50 ms; it is not used here, and is there for others afterwards.
_IS_LEFT_OUT = _CONVERTER not in sys.modules
if _IS_LEFT_OUT:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
import openvino  # noqa: E402, F401

if _IS_LEFT_OUT:
    del sys.modules[_CONVERTER]
