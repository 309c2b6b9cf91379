"""The licence of weights travels with whatever is made of them."""

from __future__ import annotations

from pathlib import Path

from fastvlm.checkpoints.config import ModelConfig

RESEARCH_LICENCE = "apple-amlr"
"""The hub's identifier of the licence of the authors' weights: research purposes only, inherited by derivatives."""

_FILES = ("LICENSE*", "NOTICE*", "ACKNOWLEDGEMENTS*")
_CARD = """\
---
license: {licence}
library_name: fastvlm
pipeline_tag: image-text-to-text
---
# {name}

A vision-language model in FastVLM's architecture, written by fastvlm.
{note}"""
_RESEARCH_NOTE = """
These weights are derived from weights of Apple under the Apple Machine Learning Research Model licence. They are for
research purposes only, not for any product or commercial use, and whatever is derived from them inherits that licence.
"""


def licence_files(config: ModelConfig, source: Path | None) -> dict[str, str]:
    """The texts to write beside the weights: a model card that names the licence, and the source's licence files."""
    files: dict[str, str] = {}
    if source is not None:
        for pattern in _FILES:
            for path in sorted(source.glob(pattern)):
                if path.is_file():
                    files[path.name] = path.read_text(encoding="utf-8", errors="replace")
    if config.licence is not None:
        note = _RESEARCH_NOTE if config.licence == RESEARCH_LICENCE else ""
        files["README.md"] = _CARD.format(licence=config.licence, name=config.name, note=note)
    return files
