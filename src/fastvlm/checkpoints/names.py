"""Foreign parameter names as data: a two-way table of patterns for each origin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True)
class Name:
    """The same module, or the same bare parameter, in both vocabularies; `{i}` stands for a number.

    A module carries all its tensors with it: `conv` also renames `conv.weight`, `conv.bias`, `conv.running_mean`.
    """

    ours: str
    theirs: str


@dataclass(frozen=True)
class NameTable:
    """Renames tensors in both directions; a name that is already in the wanted vocabulary stays as it is.

    ignored: foreign tensors that hold nothing which a model needs, such as precomputed frequencies.
    """

    names: tuple[Name, ...]
    ignored: tuple[str, ...] = ()

    def to_ours(self, name: str) -> str | None:
        """Translate a foreign name; None for a name that the table does not know."""
        return _translate(name, self._from_theirs) or _translate(name, self._identity_of_ours)

    def to_theirs(self, name: str) -> str | None:
        """Translate one of our names; None for a name that the table does not know."""
        return _translate(name, self._from_ours) or _translate(name, self._identity_of_theirs)

    def is_ignored(self, name: str) -> bool:
        """Whether a foreign tensor may be present and is not read."""
        return any(_compiled(pattern).fullmatch(name) for pattern in self.ignored)

    @cached_property
    def _from_theirs(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_compiled(name.theirs), name.ours) for name in self.names]

    @cached_property
    def _from_ours(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_compiled(name.ours), name.theirs) for name in self.names]

    @cached_property
    def _identity_of_ours(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_compiled(name.ours), name.ours) for name in self.names]

    @cached_property
    def _identity_of_theirs(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_compiled(name.theirs), name.theirs) for name in self.names]


def names(*pairs: tuple[str, str]) -> tuple[Name, ...]:
    """Build names from (ours, theirs)."""
    return tuple(Name(ours, theirs) for ours, theirs in pairs)


def under(ours: str, theirs: str, table: Iterable[Name]) -> tuple[Name, ...]:
    """Put a prefix, written without its dot, before both sides of each name; an empty prefix adds nothing."""
    return tuple(Name(_join(ours, name.ours), _join(theirs, name.theirs)) for name in table)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(pattern)
    text = "".join(f"(?P<{part}>[0-9]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(text + r"(?P<leaf_>(?:\.[a-z_]+)?)")


def _translate(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in rules:
        match = pattern.fullmatch(name)
        if match is not None:
            return _PLACEHOLDER.sub(lambda placeholder: match[placeholder[1]], target) + match["leaf_"]  # noqa: B023
    return None
