"""Typefaces that documents are written in: found on this machine, by a list of those whose licences allow pictures.

Nothing is bundled. Where none of the list is installed, Pillow's own face is left, so that everything runs anywhere,
with less variety; `fonts_digest` says which faces a set of pictures was made with.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageFont

Licence = Literal["OFL-1.1", "Apache-2.0", "Bitstream Vera", "BSD-3-Clause", "MIT", "CC0-1.0"]
Style = Literal["sans", "serif", "mono", "display"]
FontSplit = Literal["train", "held_out"]

HELD_OUT_DESIGNS = frozenset({"Cabin", "Caladea", "Cantarell", "Courier", "Fira", "Karla", "Vollkorn"})
"""A quarter of the designs, with and without serifs and of one width, is never seen in training."""

BUILT_IN = "Aileron"
"""The face that Pillow itself brings."""


_SIBLINGS = {"Hack": "DejaVu", "Open Sans": "Noto"}
"""Typefaces that are drawn after another one, by whose name they do not go."""


@dataclass(frozen=True)
class Typeface:
    """A design with all its weights. families: names that its files carry."""

    name: str
    style: Style
    licence: Licence
    families: tuple[str, ...]

    @property
    def design(self) -> str:
        """What it shares its letters' shapes with: `Noto` for its sans, its serif and its mono."""
        return _SIBLINGS.get(self.name, self.name.split()[0])


def _faces(style: Style, licence: Licence, *names: str, **others: tuple[str, ...]) -> tuple[Typeface, ...]:
    """Typefaces of one style and licence; `others` gives families beside the first, by its name in one word."""
    return tuple(Typeface(name, style, licence, (name, *others.get(name.replace(" ", "_"), ()))) for name in names)


TYPEFACES: tuple[Typeface, ...] = (
    *_faces("sans", "Bitstream Vera", "DejaVu Sans"),
    *_faces("serif", "Bitstream Vera", "DejaVu Serif"),
    *_faces("mono", "Bitstream Vera", "DejaVu Sans Mono", "Hack"),
    *_faces(
        "sans", "OFL-1.1", "Liberation Sans", "Noto Sans", "Lato", "Inter", "Cabin", "Cantarell", "Karla", "Dosis",
        "League Spartan", "Manrope", "Quicksand", "Carlito", "B612", "Courier Prime Sans",
        Noto_Sans=("Noto Sans Display",), Inter=("Inter Display",), Quicksand=("Quicksand Medium",),
    ),
    *_faces("sans", "Apache-2.0", "Open Sans", "Roboto", "Clear Sans", Roboto=("Roboto Condensed",),
            Clear_Sans=("Clear Sans Medium",)),
    *_faces("sans", "BSD-3-Clause", "Go", Go=("Go Medium",)),
    *_faces("serif", "OFL-1.1", "Liberation Serif", "Noto Serif", "Vollkorn", "Caladea", "EB Garamond",
            Noto_Serif=("Noto Serif Display",)),
    *_faces("mono", "OFL-1.1", "Liberation Mono", "Noto Sans Mono", "Courier Prime", "Inconsolata", "Fira Code",
            "Anonymous Pro", "B612 Mono", Noto_Sans_Mono=("Noto Mono",), Courier_Prime=("Courier Prime Code",)),
    *_faces("mono", "Apache-2.0", "JetBrains Mono"),
    *_faces("mono", "BSD-3-Clause", "Go Mono", "IBM 3270", IBM_3270=("IBM 3270 Semi-Condensed",)),
    *_faces("display", "OFL-1.1", "Comfortaa", "Comic Neue"),
    *_faces("sans", "CC0-1.0", BUILT_IN),
)  # fmt: skip
"""Licences were read in the copyright files of Debian's packages and in Pillow's documentation. All have small letters
that differ from capitals: what is drawn is what is said to be written."""

_BY_FAMILY: Mapping[str, Typeface] = {family: face for face in TYPEFACES for family in face.families}
_LEFT_OUT = ("thin", "hairline", "extralight", "black", "stencil", "allsc", "initials")
"""Weights that documents are not written in."""

_MAX_FACES = 4
"""Of a family so many files are taken, so that those with many weights do not outnumber the others."""


@dataclass(frozen=True)
class Face:
    """One file of a typeface. path: None for Pillow's own."""

    typeface: Typeface
    variant: str
    path: Path | None

    def at(self, size_px: int) -> ImageFont.FreeTypeFont:
        """Open it at a size, in pixels of its em square."""
        return _opened(self.path, size_px)


@lru_cache(maxsize=1024)
def _opened(path: Path | None, size_px: int) -> ImageFont.FreeTypeFont:
    if path is not None:
        return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType cannot write documents"
    return font


@cache
def installed_faces() -> tuple[Face, ...]:
    """Every usable face of this machine, in the order of the list; Pillow's own where there is no other."""
    found: dict[str, list[Face]] = {}
    for path in sorted(path for folder in _font_folders() for path in _font_files(folder)):
        family, variant = _names(path)
        typeface = _BY_FAMILY.get(family)
        if typeface is not None and not any(word in variant.lower().replace(" ", "") for word in _LEFT_OUT):
            same = found.setdefault(family, [])
            if variant not in {face.variant for face in same} and _has_all(path):
                same.append(Face(typeface, variant, path))
    chosen = [face for family in _BY_FAMILY for face in _few(found.get(family, []))]
    return tuple(chosen) or (Face(_BY_FAMILY[BUILT_IN], "Regular", None),)


def faces_of(split: FontSplit, styles: Sequence[Style] | None = None) -> tuple[Face, ...]:
    """The faces of a split, of these styles where there are any of them; all faces where a split has none."""
    faces = installed_faces()
    own = [face for face in faces if (face.typeface.design in HELD_OUT_DESIGNS) == (split == "held_out")] or list(faces)
    return tuple(face for face in own if styles is None or face.typeface.style in styles) or tuple(own)


def has_unseen_faces() -> bool:
    """Whether there are faces that training does not use, and others that it does."""
    return len({face.typeface.design in HELD_OUT_DESIGNS for face in installed_faces()}) == 2


@cache
def fonts_digest() -> str:
    """SHA-256 of the files of all installed faces: pictures are the same only where this is."""
    digest = hashlib.sha256()
    for face in installed_faces():
        content = face.path.read_bytes() if face.path is not None else ImageFont.core.__name__.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _few(faces: list[Face]) -> list[Face]:
    """Upright and heavy ones first: the plainest of a family."""
    return sorted(faces, key=lambda face: (_rank(face.variant), face.variant))[:_MAX_FACES]


def _rank(variant: str) -> int:
    plain = variant.lower().replace("book", "regular").replace("12 ", "")
    order = ("regular", "bold", "medium", "italic", "oblique", "light")
    return order.index(plain) if plain in order else len(order)


def _font_folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        yield from (Path("/Library/Fonts"), Path("/System/Library/Fonts/Supplemental"), home / "Library/Fonts")
    elif sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
    else:
        yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts")


def _font_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")] if folder.is_dir() else []


_RARE = "£€@_"
"""Characters that some files of old designs lack."""


def _has_all(path: Path) -> bool:
    """Whether a file has a glyph for every character that documents are written in."""
    font = _opened(path, 16)
    missing = bytes(font.getmask("\ufffe"))
    return all(bytes(font.getmask(character)) != missing for character in _RARE)


def _names(path: Path) -> tuple[str, str]:
    """The family and the variant that a file carries; empty for one that cannot be read."""
    try:
        family, variant = ImageFont.truetype(path, 16).getname()
    except (OSError, ValueError):
        return "", ""
    return family or "", variant or ""
