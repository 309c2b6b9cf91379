"""The licence of weights travels with whatever is made of them."""

from __future__ import annotations

import re
from pathlib import Path

from fastvlm.checkpoints.config import ModelConfig

RESEARCH_LICENCE = "apple-amlr"
"""The hub's identifier of the licence of the authors' weights: research purposes only, inherited by derivatives."""

CARD_FILE = "README.md"

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
        files[CARD_FILE] = _CARD.format(licence=config.licence, name=config.name, note=note)
    return files


def model_card_values(folder: Path) -> dict[str, str]:
    """The plain `key: value` lines of the metadata at the top of a folder's model card; without a card, none."""
    try:
        text = (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    metadata = re.match(r"---[ \t]*\n(.*?)\n---", text, flags=re.DOTALL)
    lines = re.findall(r"^(\w+):[ \t]*(\S.*?)[ \t]*$", metadata[1], flags=re.MULTILINE) if metadata else []
    return {key: value.strip("'\"") for key, value in lines}
