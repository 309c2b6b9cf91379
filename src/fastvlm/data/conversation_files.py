"""Files of conversations: JSON lists, JSON lines, LLaVA-NeXT's mixtures, and tables of the library `datasets`."""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastvlm.data.conversations import Conversation, conversation_from
from fastvlm.errors import DataError, one_line, require_extra

HUB_PREFIX = "hf:"
"""What stands before the name of a data set of the Hugging Face hub: `hf:NAME`, `hf:NAME:SPLIT`."""


def read_conversations(
    source: str | Path, *, image_folder: Path | None = None, seed: int = 0, left_out: list[str] | None = None
) -> list[Conversation]:
    """Read a training set.

    source: a .json file with a list of records, a .jsonl file with one a line, a .yaml or .json file with LLaVA-NeXT's
    `datasets` (json_path, relative to the file, and sampling_strategy: `all`, or `first`, `end`, `random` with `:N` or
    `:N%`), a folder that `datasets` saved, or `hf:NAME[:SPLIT]`. image_folder: what paths of images are relative to;
    None for the folder of each file. seed: of `random`. left_out: is told of records that cannot be read; None raises
    for the first of them.
    Raises DataError, in one line, for a file that cannot be read and a record that is none (see `conversation_from`).
    """
    name = str(source)
    if name.startswith(HUB_PREFIX):
        return _from_records(_hub_records(name.removeprefix(HUB_PREFIX)), name, image_folder, left_out)
    path = Path(source)
    if path.is_dir():
        return _from_records(_saved_records(path), path.name, image_folder or path, left_out)
    if path.suffix in (".yaml", ".yml"):
        return _read_mixture(_read_yaml(path), path, image_folder, seed, left_out)
    records = _read_lines(path) if path.suffix == ".jsonl" else _read_json(path)
    if isinstance(records, Mapping) and "datasets" in records:
        return _read_mixture(records, path, image_folder, seed, left_out)
    if not isinstance(records, list):
        raise DataError(f"Expected a list of records in {path}, got {type(records).__name__}.")
    return _from_records(records, path.stem, image_folder or path.parent, left_out)


def _from_records(
    records: Sequence[Any], name: str, image_folder: Path | None, left_out: list[str] | None
) -> list[Conversation]:
    if not len(records):
        raise DataError(f"Expected at least one record in {name}, got none.")
    conversations = []
    for number, record in enumerate(records):
        sample_id = f"{name}/{number}"
        try:
            if not isinstance(record, Mapping):
                raise DataError(f"Expected an object as sample {sample_id}, got {type(record).__name__}.")
            conversations.append(conversation_from(record, sample_id=sample_id, image_folder=image_folder))
        except DataError as error:
            if left_out is None:
                raise
            left_out.append(str(error))
    return conversations


def _read_mixture(
    mixture: object, path: Path, image_folder: Path | None, seed: int, left_out: list[str] | None
) -> list[Conversation]:
    sets = mixture.get("datasets") if isinstance(mixture, Mapping) else None
    if not isinstance(sets, list) or not all(isinstance(one, Mapping) and "json_path" in one for one in sets):
        raise DataError(f"Expected `datasets` in {path}, a list with a json_path each.")
    mixed: list[Conversation] = []
    for number, one in enumerate(sets):
        file = path.parent / str(one["json_path"])
        conversations = read_conversations(file, image_folder=image_folder, seed=seed, left_out=left_out)
        strategy = str(one.get("sampling_strategy", "all"))
        mixed += _sampled(conversations, strategy, random.Random(f"{seed}/{number}"), path)
    return mixed


def _sampled(
    conversations: list[Conversation], strategy: str, generator: random.Random, path: Path
) -> list[Conversation]:
    """The share of a set that a mixture takes; `random` keeps the order of the set."""
    if strategy == "all":
        return conversations
    kind, _, amount = strategy.partition(":")
    try:
        number = float(amount.removesuffix("%"))
        # A share is rounded up, as LLaVA-NeXT does, so that something of a small set is left.
        count = math.ceil(number * len(conversations) / 100) if amount.endswith("%") else int(number)
        if kind not in ("first", "end", "random") or number < 0:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"Expected a sampling_strategy of all, first:N, end:N or random:N (or N%) in {path}, got {strategy!r}."
        ) from error
    count = min(count, len(conversations))
    if kind == "first":
        return conversations[:count]
    if kind == "end":
        return conversations[len(conversations) - count :]
    return [conversations[index] for index in sorted(generator.sample(range(len(conversations)), count))]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"Expected training data at {path}, found no such file. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Expected training data at {path}, got: {one_line(error)}.") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"Expected JSON in {path}, got: {one_line(error)}.") from error


def _read_lines(path: Path) -> list[Any]:
    records = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"Expected JSON in line {number} of {path}, got: {one_line(error)}.") from error
    return records


def _read_yaml(path: Path) -> Any:
    require_extra("yaml", "train")
    import yaml

    try:
        return yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"Expected YAML in {path}, got: {one_line(error)}.") from error


def _saved_records(folder: Path) -> Sequence[Any]:
    require_extra("datasets", "train")
    import datasets

    try:
        table = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a folder that `datasets` saved, got {folder}: {one_line(error)}.") from error
    return _split_of(table, "train", str(folder))


def _hub_records(name: str) -> Sequence[Any]:
    require_extra("datasets", "train")
    import datasets

    name, _, split = name.partition(":")
    # It warns of every attempt of its own to get through; what comes of them is told once, below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return _split_of(datasets.load_dataset(name), split or "train", name)
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected the data set {name} of the hub, got: {one_line(error)}. Check its name and the network."
        ) from error


def _split_of(table: Any, split: str, name: str) -> Sequence[Any]:
    """One split, with pictures left as their bytes: they are decoded when a batch needs them."""
    import datasets

    if isinstance(table, Mapping):
        if split not in table:
            raise DataError(f"Expected the split {split} in {name}, got {', '.join(map(str, table))}.")
        table = table[split]
    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(column, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            table = table.cast_column(column, type(feature)(datasets.Image(decode=False)))
    records: Sequence[Any] = table
    return records
