"""Where a model is: the embedded one, a folder, or an id on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from fastvlm.checkpoints.config import CONFIG_FILE
from fastvlm.checkpoints.licence import CARD_FILE
from fastvlm.checkpoints.licence_notice import is_of_the_authors, may_be_a_copy, show_once
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
    if not isinstance(model, str | os.PathLike):
        raise CheckpointError(f"Expected a model as a folder or a name, got {type(model).__name__}.")
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

    The licence of the authors' weights is shown before these or copies of them are fetched; the configuration, which
    tells copies, comes first.
    Raises CheckpointError where the hub cannot be reached, or has no such model for this user.
    """
    from huggingface_hub import constants, errors, snapshot_download

    repository, _, revision = hub_id.partition("@")

    def fetched(patterns: tuple[str, ...]) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(patterns),
                ignore_patterns=list(_UNWANTED),
                local_files_only=fetch == "never",
            )
        )

    try:
        if is_of_the_authors(repository) or may_be_a_copy(fetched((CONFIG_FILE, CARD_FILE))):
            show_once(repository, cache=Path(constants.HF_HUB_CACHE))
        return fetched(_WANTED)
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
            f"Expected {hub_id} to be a folder here or, while offline, in the hub's cache, found neither. "
            f"Check its name, go online once, or leave the model out to use the embedded one."
        ) from error
    except Exception as error:  # what a transport raises differs between versions of the library
        raise CheckpointError(
            f"Expected to fetch {hub_id} from the hub, got: {one_line(error, max_length=300)}."
        ) from error
