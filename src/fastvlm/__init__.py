"""fastvlm: ask a picture. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastvlm.errors import FastVLMError
    from fastvlm.inference.answers import Answer, AnswerStream
    from fastvlm.inference.assistant import Assistant, Chat
    from fastvlm.inference.loading import load
    from fastvlm.inference.settings import GenerationSettings
    from fastvlm.inference.timings import Timings, Usage
    from fastvlm.messages import ImagePart, Message, TextPart

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerStream",
    "Assistant",
    "Chat",
    "FastVLMError",
    "GenerationSettings",
    "ImagePart",
    "Message",
    "TextPart",
    "Timings",
    "Usage",
    "__version__",
    "load",
]

_HOMES = {
    "Answer": "fastvlm.inference.answers",
    "AnswerStream": "fastvlm.inference.answers",
    "Assistant": "fastvlm.inference.assistant",
    "Chat": "fastvlm.inference.assistant",
    "FastVLMError": "fastvlm.errors",
    "GenerationSettings": "fastvlm.inference.settings",
    "ImagePart": "fastvlm.messages",
    "Message": "fastvlm.messages",
    "TextPart": "fastvlm.messages",
    "Timings": "fastvlm.inference.timings",
    "Usage": "fastvlm.inference.timings",
    "load": "fastvlm.inference.loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastvlm' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
