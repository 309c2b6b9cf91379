"""Pages of a PDF as pictures, through the library pypdfium2."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.errors import ImageError, one_line, require_extra

PDF_SUFFIX = ".pdf"
LONG_SIDE_PX = 1536
"""More than models look at, so that what is small on a page can still be read."""

_MAX_SCALE = 8.0
"""Pages of a stamp's size are not drawn larger than this, in pixels of a point (1/72 inch)."""


def count_pages(path: Path) -> int:
    """How many pages a PDF has. Raises ImageError, one line, for one that cannot be opened."""
    with _opened(path) as document:
        return len(document)


def read_page(path: Path, number: int, *, long_side_px: int = LONG_SIDE_PX) -> UInt8Array:
    """Draw page `number`, from 0, as uint8 H x W x 3 on white, its longer side of so many pixels.

    The file is opened for each page, some milliseconds, so that none stays open while a model answers.
    Raises ImageError, one line, for a document or a page that cannot be opened.
    """
    with _opened(path) as document:
        try:
            document.init_forms()  # else what was filled into a form is not drawn
            page = document[number]
            scale = min(_MAX_SCALE, long_side_px / max(1.0, *page.get_size()))
            drawn = page.render(scale=scale, rev_byteorder=True).to_numpy()
        except Exception as error:  # pypdfium2 has an error of its own for each of its versions
            raise ImageError(f"Cannot draw page {number + 1} of {path}: {one_line(error, max_length=120)}.") from error
        if drawn.ndim == 2:
            drawn = np.repeat(drawn[:, :, None], 3, axis=2)
        return np.ascontiguousarray(drawn[:, :, :3])


def _opened(path: Path) -> Any:
    require_extra("pypdfium2", "pdf")
    import pypdfium2

    # It tells how to build it anew for forms in XFA, whose pages are drawn all the same.
    logging.getLogger("pypdfium2").setLevel(logging.ERROR)
    if not path.is_file():
        raise ImageError(f"Expected a PDF at {path}, found no file. Check the path.")
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        reason = one_line(error, max_length=120).rstrip(".")
        raise ImageError(f"Cannot open the PDF {path}: {reason}. Check the file, or remove its password.") from error
