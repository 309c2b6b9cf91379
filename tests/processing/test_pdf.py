"""Pages of a PDF as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvlm.errors import ImageError, MissingExtraError
from fastvlm.processing.pdf import LONG_SIDE_PX, count_pages, read_page

pytest.importorskip("pypdfium2")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    pages = [Image.new("RGB", size, color) for size, color in (((200, 100), (255, 0, 0)), ((50, 150), (0, 0, 255)))]
    pages[0].save(tmp_path / "two.pdf", save_all=True, append_images=pages[1:])
    return tmp_path / "two.pdf"


def test_pages_keep_their_aspect_and_colours(document: Path) -> None:
    assert count_pages(document) == 2
    first, second = read_page(document, 0, long_side_px=400), read_page(document, 1, long_side_px=400)
    assert first.shape == (200, 400, 3) and first.dtype == np.uint8
    assert second.shape[0] == 400 and abs(second.shape[1] - 133) <= 1
    assert np.abs(first[100, 200].astype(int) - [255, 0, 0]).max() < 16, "red, not blue"
    assert np.abs(second[200, 60].astype(int) - [0, 0, 255]).max() < 16
    assert max(read_page(document, 0).shape) <= LONG_SIDE_PX


def test_what_was_filled_into_a_form_is_drawn(tmp_path: Path) -> None:
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R] >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Annots [4 0 R] >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (city) /V (Rome) /F 4 /Rect [20 20 180 80] /AP << /N 5 0 R >> >>",
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 160 60] /Length 21 >>\nstream\n0 g 40 20 80 20 re f\nendstream",
    )
    body, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    (tmp_path / "form.pdf").write_bytes(body + b"xref\n0 6\n0000000000 65535 f \n" + table + end)
    page = read_page(tmp_path / "form.pdf", 0, long_side_px=400)
    assert (page[80:120, 120:280] < 16).all(), "the ink of the field's value, a black box here"
    assert page[:30].min() > 200, "and nothing around the field"


def test_what_is_no_pdf_or_no_page_is_told_in_one_line(document: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(document.read_bytes()[:200])
    for path, number in ((tmp_path / "none.pdf", 0), (broken, 0), (document, 7)):
        with pytest.raises(ImageError) as error:
            read_page(path, number)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_library_is_named(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"fastvlm\[pdf\]"):
        count_pages(document)
