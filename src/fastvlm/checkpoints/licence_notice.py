"""The research-only licence of the authors' weights is told before they are downloaded, also for copies of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from fastvlm.checkpoints.config import CONFIG_FILE
from fastvlm.checkpoints.convert.apple_config import QWEN2
from fastvlm.checkpoints.convert.transformers_config import FAST_VLM
from fastvlm.checkpoints.licence import RESEARCH_LICENCE, model_card_values

_OF_THE_AUTHORS = re.compile(r"apple/(fastvlm|mobileclip)", re.IGNORECASE)
_RESEARCH_LICENCES = (RESEARCH_LICENCE, "apple-ascl")
_MARKER = "fastvlm-apple-licence-shown"
_TERMS = (
    "the Apple Machine Learning Research Model licence: for research purposes only, not for any product or commercial "
    "use. Whatever is derived from them inherits it. Read it at"
)
_NOTICE = (
    f"The weights of {{hub_id}} are Apple's, under {_TERMS} "
    "https://huggingface.co/{hub_id}/blob/main/LICENSE (shown once)."
)
_NOTICE_OF_A_COPY = (
    "The weights of {hub_id} have the form of Apple's FastVLM. If they are Apple's or derived from them, they are, "
    f"whatever else is said there, under {_TERMS} "
    "https://huggingface.co/apple/FastVLM-0.5B/blob/main/LICENSE (shown once)."
)


def is_of_the_authors(hub_id: str) -> bool:
    """Whether a repository on the hub is one of the authors' own."""
    return _OF_THE_AUTHORS.match(hub_id) is not None


def may_be_a_copy(folder: Path) -> bool:
    """Whether the configuration or the model card in a folder says that the weights may be the authors' or derived."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        config = {}
    if config.get("model_type") in (QWEN2, FAST_VLM) or config.get("licence") in _RESEARCH_LICENCES:
        return True
    card = model_card_values(folder)
    return any(card.get(key, "").lower() in _RESEARCH_LICENCES for key in ("license", "license_name"))


def show_once(hub_id: str, *, cache: Path) -> None:
    """Print the licence to stderr unless a mark in the cache says that it was; never asks anything."""
    is_copy = not is_of_the_authors(hub_id)
    marker = cache / (f"{_MARKER}-{hub_id.replace('/', '--')}" if is_copy else _MARKER)
    if marker.exists():
        return
    print((_NOTICE_OF_A_COPY if is_copy else _NOTICE).format(hub_id=hub_id), file=sys.stderr)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("The licence of Apple's FastVLM weights was shown by fastvlm.\n", encoding="utf-8")
    except OSError:
        # A cache that cannot be written to is no reason to stop: the notice is shown again next time.
        return
