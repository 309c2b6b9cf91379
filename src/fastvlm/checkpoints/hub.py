"""Where a model is: the embedded one, a folder, or an id on the Hugging Face hub."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

from fastvlm.checkpoints.config import CONFIG_FILE
from fastvlm.errors import CheckpointError, one_line

EMBEDDED = "embedded"

Fetch = Literal["missing", "never"]

_EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w.\-/]+)?")
_WANTED = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "merges.txt",
    "tokenizer.model",
    "README.md",
    "LICENSE*",
    "NOTICE*",
    "ACKNOWLEDGEMENTS*",
)
# Root files only: exports for other programs lie in folders. Pickles are not in the list above, and never read.
_UNWANTED = ("*/*", "trainer_state.json")
_RESEARCH_ONLY = re.compile(r"apple/(fastvlm|mobileclip)", re.IGNORECASE)
_MARKER = "fastvlm-apple-licence-shown"
_NOTICE = (
    "The weights of {hub_id} are Apple's, under the Apple Machine Learning Research Model licence: for research "
    "purposes only, not for any product or commercial use. Whatever is derived from them inherits it. "
    "Read it at https://huggingface.co/{hub_id}/blob/main/LICENSE (shown once)."
)


def resolve(model: str | Path | None, *, fetch: Fetch = "missing") -> Path:
    """Find the folder of a model: None or `embedded` for the packaged one, a folder, or a hub id (`owner/name`).

    A hub id may end in `@revision`. fetch: `never` only looks into the hub's cache, as gigabytes of weights are a high
    price for a description. Raises CheckpointError where there is no such model.
    """
    if model is None or model == EMBEDDED:
        if not (_EMBEDDED_FOLDER / CONFIG_FILE).is_file():
            raise CheckpointError(
                "Expected the embedded model inside the package, found none. Reinstall fastvlm, or name another model."
            )
        return _EMBEDDED_FOLDER
    path = Path(model).expanduser()
    text = str(model)
    if text and path.is_dir():
        return path
    if text and path.exists():
        raise CheckpointError(f"Expected a model folder, got the file {text}. Give the folder that it is in.")
    if isinstance(model, Path) or not _HUB_ID.fullmatch(text):
        raise CheckpointError(
            f"Expected a model folder, a hub id such as apple/FastVLM-0.5B, or '{EMBEDDED}', got {text!r}. "
            "Check the path."
        )
    return download(text, fetch=fetch)


def download(hub_id: str, *, fetch: Fetch = "missing") -> Path:
    """Fetch the weights, configuration and tokenizer of a hub id into the hub's cache, or find them there.

    Raises CheckpointError where the hub cannot be reached, or has no such model for this user.
    """
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = hub_id.partition("@")
    show_licence_once(repository)
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
            local_files_only=fetch == "never",
        )
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"Expected access to {hub_id}, which asks its users to agree to terms. Agree at "
            f"https://huggingface.co/{repository}, then log in with: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"Expected revision {revision!r} of {repository}, found none. Check its name.") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"Expected {repository} to be a folder here or a model on the hub, found neither. Check its name; "
            "a private model needs: hf auth login"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if fetch == "never":
            raise CheckpointError(
                f"Expected {hub_id} in the hub's cache, found none, and nothing is downloaded just to describe it. "
                f"Download it first, for instance with: fastvlm ask --model {hub_id} Hello"
            ) from error
        raise CheckpointError(
            f"Expected {hub_id} in the hub's cache while offline, found none. "
            f"Go online once, or leave the model out to use the embedded one."
        ) from error
    except Exception as error:  # what a transport raises differs between versions of the library
        raise CheckpointError(
            f"Expected to fetch {hub_id} from the hub, got: {one_line(error, max_length=300)}."
        ) from error
    return Path(folder)


def show_licence_once(repository: str) -> None:
    """Print the licence of the authors' weights to stderr before their first download; never asks anything."""
    from huggingface_hub import constants

    if not _RESEARCH_ONLY.match(repository):
        return
    marker = Path(constants.HF_HUB_CACHE) / _MARKER
    if marker.exists():
        return
    print(_NOTICE.format(hub_id=repository), file=sys.stderr)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("The licence of Apple's FastVLM weights was shown by fastvlm.\n", encoding="utf-8")
    except OSError:
        # A cache that cannot be written to is no reason to stop: the notice is shown again next time.
        return
