"""The frozen question sets: fingerprints that are committed before training, so that nobody moves the goal.

`python -m fastvlm.evaluation.manifest` writes the file anew, which belongs with a new GENERATOR_VERSION only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import __version__ as pillow_version

from fastvlm.data.synthetic.questions import Phrasing
from fastvlm.data.synthetic.samples import GENERATOR_VERSION
from fastvlm.evaluation.questions import EvaluationQuestion, Fingerprint, fingerprint
from fastvlm.evaluation.tasks.scenes import scene_questions
from fastvlm.files import write_whole

MANIFEST_PATH = Path(__file__).parent / "manifests" / "scenes.json"

FrozenSize = Literal[25, 500]
"""Questions of each family: enough for a look, and enough for an interval of a few points."""


@dataclass(frozen=True)
class Manifest:
    """generator_version and pillow_version: what made the pictures. sets: fingerprints by name."""

    generator_version: int
    pillow_version: str
    sets: Mapping[str, Fingerprint]


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


def read_manifest() -> Manifest:
    """Read the committed manifest."""
    values = json.loads(MANIFEST_PATH.read_text(encoding="utf-8"))
    sets = {name: Fingerprint(**entry) for name, entry in values["sets"].items()}
    return Manifest(values["generator_version"], values["pillow_version"], sets)


def write_manifest(manifest: Manifest, path: Path = MANIFEST_PATH) -> None:
    """Write a manifest, complete or not at all."""
    write_whole(path, json.dumps(asdict(manifest), indent=2) + "\n")


if __name__ == "__main__":
    write_manifest(make_manifest())
