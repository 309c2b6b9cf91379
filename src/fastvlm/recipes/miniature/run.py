"""The whole miniature: trains every model with every seed, measures, and writes down what it found as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from fastvlm.data.synthetic.documents.fonts import fonts_digest
from fastvlm.errors import TrainingError
from fastvlm.evaluation.provenance import describe_machine, installed_versions
from fastvlm.recipes.miniature.cards import CARDS_VERSION
from fastvlm.recipes.miniature.report import Results
from fastvlm.recipes.miniature.study import (
    VARIANTS,
    FirstToken,
    Measured,
    Model,
    StudySettings,
    measure_first_tokens,
    measure_model,
    train_model,
)
from fastvlm.training.meter import StepReport
from fastvlm.training.parallel import refuse_several

RESULTS_FILE = "results.json"


def run(
    folder: Path,
    *,
    names: Sequence[str],
    seeds: Sequence[int],
    settings: StudySettings,
    report: Callable[[str, StepReport], None] = lambda _name, _report: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train and measure variants, or go on where `folder` stands; returns the file of the results.

    One seed after the other, so that what is stopped early has every comparison once. In the end all models are timed
    in turn, unless they were on this machine. Other results that the file has are kept, wherever they were found; so
    a file alone, of another run with the same settings, is gone on with too. Raises TrainingError for other settings,
    cards or typefaces.
    """
    refuse_several("this recipe")
    path = folder / RESULTS_FILE
    earlier = Results.read(path) if path.is_file() else None
    own = {**asdict(settings), "cards": CARDS_VERSION, "fonts": fonts_digest()}
    del own["num_workers"]  # nothing that is found depends on it
    if earlier is not None and dict(earlier.settings) != own:
        raise TrainingError(
            f"Expected the settings, cards and typefaces that the results in {folder} were found with, got others. "
            "Choose another --output."
        )
    machine, versions = describe_machine(), installed_versions()
    found = list(earlier.measured) if earlier is not None else []
    first_tokens: Mapping[str, FirstToken] = {}
    if earlier is not None and (earlier.machine, dict(earlier.versions)) == (machine, versions):
        first_tokens = earlier.first_tokens

    def results() -> Results:
        return Results(
            measured=tuple(found), first_tokens=first_tokens, settings=own, machine=machine, versions=versions,
            num_threads=torch.get_num_threads(),
        )  # fmt: skip

    for seed in seeds:
        for name in names:
            if _is_in(found, name, seed):
                continue
            model = train_model(name, seed, folder, settings, report)
            measured = measure_model(model, settings, machine=machine)
            found += measured
            results().write(path)
            right = measured[0].accuracy
            tell(f"{name}, seed {seed}: {100 * right.share:.1f} % of {right.num_questions} answers are right")
    if any(name not in first_tokens for name in names):
        timed = [name for name in VARIANTS if any(one.name == name for one in found)]
        first_tokens = measure_first_tokens([Model(name, 0) for name in timed], settings)
        results().write(path)
    return path


def _is_in(found: Sequence[Measured], name: str, seed: int) -> bool:
    return any(one.name == name and one.seed == seed for one in found)
