"""The frozen question sets: fingerprints that are committed before training, so that nobody moves the goal.

`python -m fastvlm.evaluation.manifest scenes` writes a file anew, which belongs with a new version of its generator
only. Documents are the same only where the typefaces are: their manifest says which.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import __version__ as pillow_version

from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.data.synthetic.documents.samples import DOCUMENTS_VERSION, DocumentSplit
from fastvlm.data.synthetic.questions import Phrasing
from fastvlm.data.synthetic.samples import GENERATOR_VERSION
from fastvlm.evaluation.questions import EvaluationQuestion, Fingerprint, fingerprint
from fastvlm.evaluation.tasks.documents import document_questions
from fastvlm.evaluation.tasks.scenes import scene_questions
from fastvlm.files import write_whole

_FOLDER = Path(__file__).parent / "manifests"
MANIFEST_PATH, DOCUMENTS_PATH = _FOLDER / "scenes.json", _FOLDER / "documents.json"
MANIFESTS = (MANIFEST_PATH, DOCUMENTS_PATH)

FrozenSize = Literal[25, 500]
"""Questions of each family: enough for a look, and enough for an interval of a few points."""


@dataclass(frozen=True)
class Manifest:
    """generator_version, pillow_version and fonts_sha256: what made the pictures, the last None where nothing is
    written in them. sets: fingerprints by name."""

    generator_version: int
    pillow_version: str
    sets: Mapping[str, Fingerprint]
    fonts_sha256: str | None = None


def frozen_set_name(size: FrozenSize, phrasing: Phrasing) -> str:
    """The name of a frozen set: `test-500-train`."""
    return f"test-{size}-{phrasing}"


def frozen_questions(size: FrozenSize, phrasing: Phrasing) -> list[EvaluationQuestion]:
    """Make a frozen set with the generator as it is now."""
    return scene_questions("test", limit_per_family=size, phrasing=phrasing)


def make_manifest() -> Manifest:
    """Fingerprint all frozen sets with the generator as it is now; some seconds."""
    phrasings: tuple[Phrasing, ...] = ("train", "held_out")
    sets = {
        frozen_set_name(size, phrasing): fingerprint(frozen_questions(size, phrasing))
        for size in get_args(FrozenSize)
        for phrasing in phrasings
    }
    return Manifest(GENERATOR_VERSION, pillow_version, sets)


def make_documents_manifest() -> Manifest:
    """Fingerprint all frozen sets of documents, with the typefaces of this machine; some minutes."""
    splits: tuple[DocumentSplit, ...] = ("test", "unseen", "combined")
    phrasings: tuple[Phrasing, ...] = ("train", "held_out")
    sets = {
        f"documents-{split}-{size}-{phrasing}": fingerprint(
            document_questions(split, limit_per_family=size, phrasing=phrasing)
        )
        for split in splits
        for size in get_args(FrozenSize)
        for phrasing in phrasings
    }
    return Manifest(DOCUMENTS_VERSION, pillow_version, sets, fonts_digest())


def read_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read a committed manifest."""
    values = json.loads(path.read_text(encoding="utf-8"))
    sets = {name: Fingerprint(**entry) for name, entry in values["sets"].items()}
    return Manifest(values["generator_version"], values["pillow_version"], sets, values.get("fonts_sha256"))


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest, complete or not at all."""
    write_whole(path, json.dumps(asdict(manifest), indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["documents"]:
        write_manifest(make_documents_manifest(), DOCUMENTS_PATH)
    elif sys.argv[1:] == ["scenes"]:
        write_manifest(make_manifest(), MANIFEST_PATH)
    else:
        sys.exit("Expected `scenes` or `documents`.")
