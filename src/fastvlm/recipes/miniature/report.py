"""What the miniature found, as JSON, as tables and as pictures; every number is computed from stored results.

`python -m fastvlm.recipes.miniature.report docs/results/miniature.json docs/miniature.md` renews the tables of the
document, each between `<!-- comparison: NAME -->` and `<!-- end of comparison -->`, and the plots beside the results.
Models that were not trained yet are missing there, and a plot is drawn once all of a comparison were.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvlm.errors import require_extra
from fastvlm.evaluation.scores import Accuracy
from fastvlm.files import write_whole
from fastvlm.recipes.miniature.study import COMPARISONS, FirstToken, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured, and on what."""

    measured: tuple[Measured, ...]
    first_tokens: Mapping[str, FirstToken]
    settings: Mapping[str, Any]
    machine: str
    versions: Mapping[str, str]
    num_threads: int

    def write(self, path: Path) -> None:
        """Write as JSON."""
        values = {
            "settings": dict(self.settings),
            "machine": self.machine,
            "versions": dict(self.versions),
            "num_threads": self.num_threads,
            "measured": [_values(one) for one in self.measured],
            "first_tokens": {name: asdict(one) for name, one in self.first_tokens.items()},
        }
        write_whole(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            measured=tuple(map(_measured, values["measured"])),
            first_tokens={name: FirstToken(**one) for name, one in values["first_tokens"].items()},
            settings=values["settings"],
            machine=values["machine"],
            versions=values["versions"],
            num_threads=values["num_threads"],
        )

    def of(self, name: str, *, method: str | None = None, num_tokens: int | None = None) -> list[Measured]:
        """What was measured of a variant, one for each seed."""
        return [
            one
            for one in self.measured
            if one.name == name and one.method == method and num_tokens in (None, one.num_tokens)
        ]


def _values(one: Measured) -> dict[str, Any]:
    values = asdict(one)
    accuracy = values.pop("accuracy")
    return {**values, "correct": accuracy["num_correct"], "n": accuracy["num_questions"]}


def _measured(values: dict[str, Any]) -> Measured:
    accuracy = Accuracy(values.pop("correct"), values.pop("n"))
    return Measured(**values, accuracy=accuracy)


@dataclass(frozen=True)
class Shares:
    """Per cent of right answers: the mean over seeds, the least and the most.

    bar: what is drawn about the mean, the same two, or of a single seed the 95 % interval of its questions.
    """

    mean: float
    low: float
    high: float
    num_seeds: int
    bar: tuple[float, float]

    @classmethod
    def of(cls, measured: Sequence[Measured]) -> Shares:
        """Those of the seeds of one variant."""
        found = [100 * one.accuracy.share for one in measured]
        bar = (min(found), max(found))
        if len(measured) == 1:
            interval = measured[0].accuracy.interval
            bar = (100 * interval.low, 100 * interval.high)
        return cls(statistics.mean(found), min(found), max(found), len(found), bar)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


def tables(results: Results) -> str:
    """Every comparison as a Markdown table, under its name."""
    return "\n".join(f"### {name}\n\n{_table(results, name)}" for name in COMPARISONS if _is_there(results, name))


def _is_there(results: Results, comparison: str) -> bool:
    """Whether all models of a comparison were trained, and timed."""
    return all(results.of(name) and name in results.first_tokens for name in COMPARISONS[comparison])


_HEADINGS = (
    "model",
    "visual tokens",
    "encoder, parameters",
    "right %, mean (least to most)",
    "seeds",
    "first token, ms",
)


def _table(results: Results, comparison: str) -> str:
    rows: list[Sequence[str]] = [_HEADINGS, ("---", "--:", "--:", "--:", "--:", "--:")]
    for name in filter(results.of, COMPARISONS[comparison]):
        rows.append(_row(name, results.of(name), results.first_tokens.get(name)))
        if comparison == "pruning":
            rows += [_row(f"{name}, {method}", own, None) for method, _, own in pruned(results, name)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def pruned(results: Results, name: str) -> Iterator[tuple[str, int, list[Measured]]]:
    """Every way in which a variant was pruned, and to how many tokens, most of them first."""
    ways = {(one.method, one.num_tokens) for one in results.measured if one.name == name and one.method is not None}
    for method, num_tokens in sorted(ways, key=lambda way: (-way[1], str(way[0]))):
        yield str(method), num_tokens, results.of(name, method=method, num_tokens=num_tokens)


def _row(title: str, measured: Sequence[Measured], first: FirstToken | None) -> tuple[str, ...]:
    shares = Shares.of(measured)
    time = "" if first is None else f"{first.median_ms:.2f} ({first.low_ms:.2f} to {first.high_ms:.2f})"
    return (
        title, str(measured[0].num_tokens), f"{measured[0].parameters / 1e6:.2f} M", str(shares),
        str(shares.num_seeds), time,
    )  # fmt: skip


_MARKED = re.compile(r"(<!-- comparison: (?P<name>\S+) -->\n)(?P<table>.*?)(<!-- end of comparison -->)", re.DOTALL)


def renewed(document: str, results: Results) -> str:
    """The text of a document with its tables made anew."""
    return _MARKED.sub(lambda match: f"{match[1]}\n{_table(results, match['name'])}\n{match[4]}", document)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw every comparison that is complete, as SVG. Raises MissingExtraError without matplotlib."""
    require_extra("matplotlib", "bench")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    paths = []
    for comparison in COMPARISONS:
        if not _is_there(results, comparison):
            continue
        figure, axes = pyplot.subplots(figsize=(6.4, 5.2 if comparison == "pruning" else 4.2), layout="constrained")
        if comparison in ("resolution", "encoders", "tiles"):
            _over_time(axes, results, comparison)
        elif comparison == "pruning":
            _over_tokens(axes, results)
        else:
            _bars(axes, results, comparison)
        axes.set_ylim(0, 105)
        axes.grid(visible=True, alpha=0.3)
        found_on = (
            f"{results.machine}, {results.num_threads} threads; bars: least to most of the seeds, or of one seed the "
            "95 % interval of its questions"
        )
        figure.supxlabel(found_on, x=0.01, ha="left", fontsize=6, color="grey")
        path = folder / f"miniature-{comparison}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        paths.append(path)
    return paths


_RIGHT = "right answers, per cent"


def _over_time(axes: Axes, results: Results, comparison: str) -> None:
    groups: dict[str, list[str]] = {}
    for name in COMPARISONS[comparison]:
        groups.setdefault(name.split()[0] if comparison != "tiles" else name, []).append(name)
    for group, names in groups.items():
        shares = [Shares.of(results.of(name)) for name in names]
        times = [results.first_tokens[name].median_ms for name in names]
        axes.errorbar(
            times, [one.mean for one in shares], yerr=_errors(shares), marker="o", capsize=3, label=group
        )  # fmt: skip
        for name, time, share in zip(names, times, shares, strict=True):
            label = f"{name.split()[1]} px,\n{results.of(name)[0].num_tokens} tokens"
            axes.annotate(label, (time, share.mean), textcoords="offset points", xytext=(7, -14), fontsize=7)
    axes.set(title=_TITLES[comparison], xlabel="time to first token, milliseconds, median", ylabel=_RIGHT)
    axes.set_xlim(0, 1.15 * max(results.first_tokens[name].median_ms for name in COMPARISONS[comparison]))
    axes.legend(fontsize=8, loc="lower left")


def _over_tokens(axes: Axes, results: Results) -> None:
    native = [name for name in COMPARISONS["pruning"] if name.startswith("FastViTHD")]
    shares = [Shares.of(results.of(name)) for name in native]
    tokens = [results.of(name)[0].num_tokens for name in native]
    axes.errorbar(
        tokens, [one.mean for one in shares], yerr=_errors(shares), marker="o", capsize=3, linewidth=2.5,
        label="FastViTHD, by resolution",
    )  # fmt: skip
    for name, style in (("ViT 192", "-"), ("FastViTHD 256", ":")):
        ways = list(pruned(results, name))
        for method in dict.fromkeys(way for way, _, _ in ways):
            own = [(count, Shares.of(measured)) for way, count, measured in ways if way == method]
            axes.plot(
                [count for count, _ in own], [one.mean for _, one in own], marker="x", linestyle=style,
                label=f"{name}, {method}",
            )  # fmt: skip
        whole = Shares.of(results.of(name))
        axes.plot([results.of(name)[0].num_tokens], [whole.mean], marker="s", linestyle="", label=f"{name}, all tokens")
    axes.set(title=_TITLES["pruning"], xlabel="visual tokens that the decoder reads", ylabel=_RIGHT, xscale="log")
    axes.set_xticks([4, 9, 16, 36, 144], ["4", "9", "16", "36", "144"])
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _bars(axes: Axes, results: Results, comparison: str) -> None:
    names = COMPARISONS[comparison]
    shares = [Shares.of(results.of(name)) for name in names]
    axes.bar(names, [one.mean for one in shares], yerr=_errors(shares), capsize=6, width=0.5, color=["C0", "C1"])
    for number, name in enumerate(names):
        for one in results.of(name):
            axes.plot(number, 100 * one.accuracy.share, marker="o", color="black", markersize=4)
    axes.set(title=_TITLES[comparison], xlabel="one dot a seed", ylabel=_RIGHT)


def _errors(shares: Iterable[Shares]) -> list[list[float]]:
    known = list(shares)
    return [[one.mean - one.bar[0] for one in known], [one.bar[1] - one.mean for one in known]]


_TITLES = {
    "resolution": "One encoder at several resolutions: accuracy over time to first token",
    "encoders": "Encoders of equal size: accuracy over time to first token",
    "pruning": "Fewer tokens by resolution or by pruning",
    "tiles": "One picture of 256 px, or tiles of 128 px with an overview",
    "multi-scale": "Features of several stages for the decoder",
    "contrastive": "Contrastive pretraining before the same training",
}


def main(stored: Path, document: Path) -> None:
    """Renew the tables of a document, and the plots in the folder of the results."""
    results = Results.read(stored)
    write_whole(document, renewed(document.read_text(encoding="utf-8"), results))
    draw(results, stored.parent)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Expected the file of the results and the document, got something else.")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
