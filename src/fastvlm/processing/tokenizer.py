"""Words to token ids and back, with the tokenizer that comes with a checkpoint or one trained here."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

import fastvlm
from fastvlm.errors import CheckpointError, DataError, PromptError, one_line
from fastvlm.files import fingerprint, write_whole
from fastvlm.machine import keep
from fastvlm.processing.byte_pairs import FORMAT_VERSION, BytePairs, packed
from fastvlm.processing.text_cutting import without_leading_space

_LOGGER = logging.getLogger(__name__)

TextPosition = Literal["start", "after_control", "after_text"]
"""Where a run of text stands: it starts a chunk, follows a control token, or goes on from other text."""

_SMALLEST_KEPT_BYTES = 1_000_000
"""Smaller tokenizers are parsed in some milliseconds."""

# The words of Qwen2: contractions, letters with what leads them, single digits, punctuation, line ends, spaces.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Backend(Protocol):
    """What looks words up. special_ids: special tokens by name; prefixes_after_control: whether text after a control
    token gets a space before it."""

    special_ids: dict[str, int]
    prefixes_after_control: bool

    @property
    def size(self) -> int:
        """One more than the largest id."""

    def encode(self, text: str, *, goes_on: bool) -> list[int]:
        """Turn text into ids. goes_on: whether other text is before it."""

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """Turn ids into text, as far as they are known."""

    def to_json(self) -> str:
        """The text of a `tokenizer.json`."""


class _Library:
    """A tokenizer of the `tokenizers` library, which belongs to this object from then on."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        self._continuing, self.prefixes_after_control = without_leading_space(backend)

    @cached_property
    def size(self) -> int:
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str, *, goes_on: bool) -> list[int]:
        backend = self._continuing if goes_on else self._backend
        return list(backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        return str(self._backend.decode(ids, skip_special_tokens=skip_special))

    def to_json(self) -> str:
        return str(self._backend.to_str(pretty=False))


class Tokenizer:
    """Turns ordinary text into ids and ids into text; control tokens go by name, never through text.

    What a user writes stays text, even where it spells a special token. No start or end token is added.
    """

    def __init__(self, backend: tokenizers.Tokenizer | BytePairs) -> None:
        """Wrap a tokenizer of the `tokenizers` library, which belongs to this object from then on, or byte pairs."""
        self._backend: _Backend = backend if isinstance(backend, BytePairs) else _Library(backend)
        self._special_numbers = frozenset(self._backend.special_ids.values())

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`. Raises CheckpointError where it is missing or not one."""
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"Expected a tokenizer file at {path}, found none. Give the path of tokenizer.json.")
        return cls(_read_file(path))

    @classmethod
    def from_json(cls, text: str, *, name: str = "tokenizer.json") -> Tokenizer:
        """Read the text of a `tokenizer.json`; `name` is for the error."""
        return cls(_parsed(text, name=name))

    @classmethod
    def from_folder(cls, folder: str | Path, *, cache_folder: Path | None = None) -> Tokenizer:
        """Read the tokenizer of a checkpoint: `tokenizer.json`, or `vocab.json` with `merges.txt` as in Qwen2.

        cache_folder: where byte-level tokenizers of many words are kept in a form that is read sooner; None keeps none.
        Raises CheckpointError where there is none, or only a sentencepiece file.
        """
        folder = Path(folder)
        read, files = _ways_to_read(folder)
        if cache_folder is None or sum(file.stat().st_size for file in files) < _SMALLEST_KEPT_BYTES:
            return cls(read())
        path = cache_folder / f"tokenizer-{_key(files)}.blob"
        try:
            return cls(BytePairs(path.read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _LOGGER.info("The tokenizer in %s cannot be read and is made anew: %s", path, error)
        backend = read()
        if (data := packed(backend)) is not None:
            keep(path, lambda: write_whole(path, data), what="a tokenizer")
        return cls(backend)

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id; a checkpoint's embedding table may have more rows."""
        return self._backend.size

    @property
    def special_token_ids(self) -> Mapping[str, int]:
        """The special tokens by name."""
        return MappingProxyType(self._backend.special_ids)

    def token_id(self, special: str) -> int:
        """Return the id of a special token. Raises CheckpointError, naming it, where there is none."""
        known = self._backend.special_ids
        if special in known:
            return known[special]
        raise CheckpointError(
            f"Expected the tokenizer to have the special token {special!r}, got {sorted(known)[:8]}. "
            "Choose the template that the checkpoint was trained with."
        )

    def encode(self, text: str, *, position: TextPosition = "start") -> list[int]:
        """Turn ordinary text into ids, T of them; special tokens in it stay text.

        position: matters for Llama-like tokenizers, which put a space before the first word. Text that goes on from
        other text gets none. Raises PromptError on text that is not valid Unicode (lone surrogates).
        """
        prefixes_after_control = self._backend.prefixes_after_control
        goes_on = position == "after_text" or (position == "after_control" and not prefixes_after_control)
        try:
            ids = self._backend.encode(text, goes_on=goes_on)
        except (UnicodeEncodeError, TypeError) as error:
            raise PromptError(f"Expected text of valid Unicode, got {text[:40]!a}: {one_line(error)}.") from error
        if self._special_numbers.isdisjoint(ids):
            return ids
        return self._encode_in_parts(text, goes_on=goes_on)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Turn ids into text; a character whose bytes are not all there ends the text as U+FFFD."""
        return self._backend.decode([int(number) for number in ids], skip_special=skip_special)

    def to_json(self) -> str:
        """Write the tokenizer as the text of a `tokenizer.json`."""
        return self._backend.to_json()

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` to the file `path`, whole or not at all."""
        write_whole(path, self.to_json())

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle through JSON: the library forgets `encode_special_tokens`, which keeps user text text."""
        return Tokenizer.from_json, (self.to_json(),)

    def _encode_in_parts(self, text: str, *, goes_on: bool) -> list[int]:
        # Some vocabularies hold a special token as an ordinary word too; spelling it in two parts keeps it text.
        written = [token for token in self._backend.special_ids if len(token) > 1 and token in text]
        cut = text.index(max(written, key=len)) + 1 if written else (len(text) + 1) // 2
        if cut == len(text):
            raise PromptError(f"Expected text that has ordinary tokens, got {text!r}, which is a control token only.")
        start: TextPosition = "after_text" if goes_on else "start"
        return self.encode(text[:cut], position=start) + self.encode(text[cut:], position="after_text")


def train_byte_level_bpe(texts: Iterable[str], *, vocabulary_size: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer with Qwen2's way of cutting words; digits stay single, no text is unknown.

    special_tokens get the first ids, in order. The same texts give the same tokenizer. Raises DataError where the
    vocabulary has no room for the 256 bytes and the special tokens.
    """
    smallest = 256 + len(special_tokens)
    if vocabulary_size < smallest:
        raise DataError(
            f"Expected a vocabulary of at least {smallest} (256 bytes and {len(special_tokens)} special tokens), "
            f"got {vocabulary_size}. Ask for a larger one."
        )
    backend = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _read_file(path: Path) -> tokenizers.Tokenizer:
    return _parsed(_read_text(path), name=str(path))


def _parsed(text: str, *, name: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"Expected a tokenizer.json of the tokenizers library in {name}, got: {one_line(error)}. Fetch it again."
        ) from error


def _ways_to_read(folder: Path) -> tuple[Callable[[], tokenizers.Tokenizer], list[Path]]:
    """What reads the tokenizer of a folder, and the files that it reads."""
    if (folder / "tokenizer.json").is_file():
        return partial(_read_file, folder / "tokenizer.json"), [folder / "tokenizer.json"]
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        files = [folder / name for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")]
        return partial(_read_qwen2_files, folder), [file for file in files if file.is_file()]
    if (folder / "tokenizer.model").is_file():
        raise CheckpointError(
            f"Expected tokenizer.json in {folder}, got only sentencepiece's tokenizer.model. Convert it once: "
            'pip install transformers sentencepiece && python -c "from transformers import AutoTokenizer; '
            f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('converted')\" "
            "and copy converted/tokenizer.json beside the weights."
        )
    raise CheckpointError(
        f"Expected tokenizer.json, or vocab.json and merges.txt, in {folder}, found neither. "
        "Copy the tokenizer's files beside the weights."
    )


def _key(files: Sequence[Path]) -> str:
    try:
        contents = fingerprint(files)
    except OSError as error:
        raise CheckpointError(f"Expected to read {error.filename}, got: {one_line(error)}.") from error
    depends_on = repr((FORMAT_VERSION, fastvlm.__version__, tokenizers.__version__, contents))
    return hashlib.sha256(depends_on.encode()).hexdigest()[:32]


def _read_qwen2_files(folder: Path) -> tokenizers.Tokenizer:
    config = _read_mapping(folder / "tokenizer_config.json")
    kind = str(config.get("tokenizer_class", "Qwen2Tokenizer"))
    if not kind.startswith("Qwen2"):
        raise CheckpointError(
            f"Expected tokenizer.json in {folder} for a {kind}, found only vocab.json and merges.txt, which are read "
            "as Qwen2's. Save it once with transformers' AutoTokenizer and copy tokenizer.json beside the weights."
        )
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"Expected Qwen2's vocab.json and merges.txt in {folder}, got: {one_line(error)}. Fetch them again."
        ) from error
    backend = _byte_level(model)
    added: dict[int, AddedToken] = {
        int(number): AddedToken(content, special=True, normalized=False)
        for content, number in _read_mapping(folder / "added_tokens.json").items()
    }
    for number, entry in config.get("added_tokens_decoder", {}).items():
        is_special = bool(entry.get("special", True))
        added[int(number)] = AddedToken(str(entry["content"]), special=is_special, normalized=False)
    for number in sorted(added):
        backend.add_tokens([added[number]])
        if backend.token_to_id(added[number].content) != number:
            raise CheckpointError(
                f"Expected the added token {added[number].content!r} of {folder} at id {number}, got "
                f"{backend.token_to_id(added[number].content)}. Copy all of the tokenizer's files from one checkpoint."
            )
    return backend


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"Expected JSON in {path}, got: {one_line(error)}. Fetch the file again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"Expected a JSON object in {path}, got {type(value).__name__}. Fetch the file again.")
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"Expected to read {path} as UTF-8 text, got: {one_line(error)}.") from error
