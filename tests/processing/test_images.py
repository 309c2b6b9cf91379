"""Every kind of picture becomes upright RGB on white; every kind of non-picture becomes one clear line."""

from __future__ import annotations

import base64
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fastvlm.errors import ImageError
from fastvlm.processing.images import count_pages, image_size, read_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)

# The highest resident memory of a process: not resource.getrusage, which inherits the parent's.
PEAK_KB = """
def peak_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def half_red_half_blue(width: int = 8, height: int = 4) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_path_bytes_pil_array_and_data_url_are_the_same_picture(tmp_path: Path) -> None:
    image = half_red_half_blue()
    expected = np.asarray(image)
    data = encoded(image, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    sources = [tmp_path / "a.png", str(tmp_path / "a.png"), data, bytearray(data), image, expected, url]
    for source in sources:
        pixels = read_image(source)
        assert pixels.dtype == np.uint8
        assert pixels.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    # How a camera stores the picture, by the EXIF standard: what undoes the rotation that the tag asks for.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(data), upright)


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (*BLUE, 0))
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), [[RED, WHITE]])
    np.testing.assert_array_equal(read_image(np.asarray(image)), [[RED, WHITE]])
    half = read_image(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), [[RED, BLUE]])
    np.testing.assert_array_equal(read_image(encoded(image, "PNG", transparency=1)), [[RED, WHITE]])


def test_transparent_colour_of_rgb_and_grey() -> None:
    image = half_red_half_blue(2, 1)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG", transparency=BLUE)), [[RED, WHITE]])
    grey = Image.fromarray(np.array([[7, 9]], dtype=np.uint8))
    np.testing.assert_array_equal(read_image(encoded(grey, "PNG", transparency=9))[0, :, 0], [7, 255])


def test_grey_one_bit_and_grey_with_alpha() -> None:
    np.testing.assert_array_equal(read_image(Image.new("L", (1, 1), 77)), [[(77, 77, 77)]])
    np.testing.assert_array_equal(read_image(Image.new("1", (1, 1), 1)), [[WHITE]])
    np.testing.assert_array_equal(read_image(Image.new("LA", (1, 1), (77, 0))), [[WHITE]])
    np.testing.assert_array_equal(read_image(np.full((1, 1), 77, dtype=np.uint8)), [[(77, 77, 77)]])


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    pixels = read_image(encoded(Image.fromarray(values), form))
    np.testing.assert_array_equal(pixels[0, :, 1], [0, 1, 100, 255])


def test_dark_sixteen_bit_png_stays_dark() -> None:
    values = np.array([[0, 200]], dtype=np.uint16)
    assert read_image(encoded(Image.fromarray(values), "PNG")).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], dtype=np.float32), [0, 100, 255]),
        (np.array([[-1.0, 0.0, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, np.nan, 1.0]], dtype=np.float32), [0, 0, 255]),
        (np.array([[0, 100, 255]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 500_000, 1_000_000]], dtype=np.int32), [0, 128, 255]),
    ],
)
def test_thirty_two_bit_grey_is_scaled_by_its_range(values: np.ndarray, expected: list[int]) -> None:
    np.testing.assert_array_equal(read_image(Image.fromarray(values))[0, :, 2], expected)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(values), "TIFF"))[0, :, 2], expected)


def test_cmyk_jpeg() -> None:
    pixels = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(pixels.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    np.testing.assert_array_equal(read_image(data), np.asarray(frames[0]))


def test_the_given_array_is_not_shared() -> None:
    for shape in ((2, 2), (2, 2, 1), (2, 2, 3), (2, 2, 4)):
        array = np.zeros(shape, dtype=np.uint8)
        read_image(array)[:] = 9
        assert array.max() == 0


def _broken_png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), "PNG"))
    data[2000:2400] = bytes(400)
    return bytes(data)


def _truncated(form: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    return data[: len(data) // 2]


def _folder(folder: Path) -> object:
    return folder


def _written(data: bytes) -> Callable[[Path], object]:
    def write(folder: Path) -> object:
        (folder / "picture.png").write_bytes(data)
        return folder / "picture.png"

    return write


def _is(source: object) -> Callable[[Path], object]:
    return lambda folder: source


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(_written(b""), "empty file", id="zero-byte file"),
        pytest.param(_is(b""), "0 bytes", id="zero bytes"),
        pytest.param(_written(b"this is no picture at all"), "no image format", id="text file"),
        pytest.param(_is(b"%PDF-1.7\n%"), "got a PDF. `fastvlm read` takes", id="pdf"),
        pytest.param(_is(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "no image format", id="svg"),
        pytest.param(_written(_truncated("PNG")), "truncated", id="truncated png"),
        pytest.param(_is(_truncated("JPEG")), "truncated", id="truncated jpeg"),
        pytest.param(_is(_truncated("WEBP")), "Expected a", id="truncated webp"),
        pytest.param(_is(_truncated("GIF")), "truncated", id="truncated gif"),
        pytest.param(_is(_truncated("TIFF")), "Expected a", id="truncated tiff"),
        pytest.param(_is(b"\x89PNG\r\n\x1a\n" + bytes(40)), "Expected a", id="png of nothing"),
        pytest.param(_written(_broken_png()), "broken", id="corrupt pixels"),
        pytest.param(_written(png_header(40_000, 40_000)), "1,600,000,000", id="decompression bomb"),
        pytest.param(_is(png_header(13_350, 13_350)), "178,222,500", id="just over the limit"),
        pytest.param(_is(png_header(0, 10)), "Expected", id="zero width png"),
        pytest.param(lambda folder: folder / "none.png", "no such file", id="missing file"),
        pytest.param(_folder, "folder", id="folder"),
        pytest.param(_is("/dev/null"), "device", id="device"),
        pytest.param(_is("a\0b.png"), "Expected a picture at", id="nul in the path"),
        pytest.param(_is("x" * 5000), "Expected a picture at", id="endless path"),
        pytest.param(_is("https://example.org/a.png"), "Download it", id="http address"),
        pytest.param(_is("FILE:///tmp/a.png"), "without file://", id="file address"),
        pytest.param(_is("data:image/png;base64,@@@"), "data:image", id="data url of no base64"),
        pytest.param(_is("data:image/png;base64"), "no comma", id="data url without data"),
        pytest.param(_is("data:,"), "0 bytes", id="empty data url"),
        pytest.param(_is(np.zeros((4, 4, 3), dtype=np.float32)), "uint8", id="float array"),
        pytest.param(_is(np.zeros((3, 4, 5), dtype=np.uint8)), "3 x 4 x 5", id="channels first"),
        pytest.param(_is(np.zeros((4, 0, 3), dtype=np.uint8)), "at least one pixel", id="array of zero width"),
        pytest.param(_is(np.uint8(3) * np.ones((), dtype=np.uint8)), "uint8", id="array of no dimension"),
        pytest.param(_is(Image.new("RGB", (0, 5))), "at least one pixel", id="pil of zero width"),
        pytest.param(_is(42), "got int", id="a number"),
        pytest.param(_is(None), "got NoneType", id="nothing"),
    ],
)
def test_bad_pictures_are_one_line(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(make(tmp_path))
    message = str(caught.value)
    with pytest.raises(ImageError) as caught:
        read_image(make(tmp_path), reduction=lambda *_: 8)
    assert str(caught.value) == message, "however small it will be looked at"
    assert says in message
    assert message.startswith("Expected")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(half_red_half_blue(), "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission"):
        read_image(path)


def test_limit_is_the_callers_and_holds_for_every_source(tmp_path: Path) -> None:
    image = half_red_half_blue(10, 10)
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG"))
    for source in (tmp_path / "a.png", encoded(image, "PNG"), image, np.asarray(image)):
        assert read_image(source, max_pixels=100).shape == (10, 10, 3)
        with pytest.raises(ImageError, match="at most 99 pixels"):
            read_image(source, max_pixels=99)


@needs_proc
def test_limit_is_checked_before_decoding() -> None:
    # 13,000 x 13,000 is within Pillow's own limit and would take half a gigabyte; here it is never decoded.
    script = PEAK_KB + (
        "import sys\n"
        "from fastvlm.processing.images import read_image\n"
        "from fastvlm.errors import ImageError\n"
        "before = peak_kb()\n"
        "try:\n    read_image(sys.stdin.buffer.read(), max_pixels=1_000_000)\n"
        "except ImageError as error:\n    assert '169,000,000' in str(error), error\n"
        "else:\n    raise AssertionError('accepted')\n"
        "assert peak_kb() - before < 50_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        input=png_header(13_000, 13_000),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("look", [image_size, read_image])
def test_a_broken_picture_of_pillows_is_told_at_the_first_look(look: Callable[[object], object]) -> None:
    with pytest.raises(ImageError, match="broken"):
        look(Image.open(io.BytesIO(_broken_png())))


def scanned(path: Path, num_pages: int = 3) -> list[int]:
    """Write pages of 20, 30, 40 ... px; returns where the links to the next pages stand, by the format's own rules."""
    pages = [Image.new("RGB", (20 + 10 * number, 30), (number * 80, 0, 0)) for number in range(num_pages)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    data, links = path.read_bytes(), [4]
    while place := struct.unpack_from("<I", data, links[-1])[0]:
        (num_entries,) = struct.unpack_from("<H", data, place)
        links.append(place + 2 + 12 * num_entries)
    return links


def test_pages_of_a_scan_are_read_one_by_one(tmp_path: Path) -> None:
    scanned(tmp_path / "scan.tif")
    assert count_pages(tmp_path / "scan.tif") == 3
    for number in range(3):
        found = read_image(tmp_path / "scan.tif", page=number)
        assert found.shape == (30, 20 + 10 * number, 3) and (found[0, 0] == (80 * number, 0, 0)).all()
    assert (read_image(tmp_path / "scan.tif")[0, 0] == 0).all()
    with pytest.raises(ImageError, match=r"Expected page 4 of .*, found 3"):
        read_image(tmp_path / "scan.tif", page=3)


@pytest.mark.parametrize("damage", ["past the end", "to nonsense"])
def test_a_scan_with_a_broken_page_shows_the_others(tmp_path: Path, damage: str) -> None:
    links = scanned(tmp_path / "scan.tif")
    data = bytearray((tmp_path / "scan.tif").read_bytes())
    struct.pack_into("<I", data, links[1], len(data) + 1000 if damage == "past the end" else 9)
    (tmp_path / "scan.tif").write_bytes(data)
    assert count_pages(tmp_path / "scan.tif") == 2
    assert read_image(tmp_path / "scan.tif").shape == read_image(tmp_path / "scan.tif", page=0).shape == (30, 20, 3)
    with pytest.raises(ImageError, match=r"Expected a whole picture in .*scan\.tif"):
        read_image(tmp_path / "scan.tif", page=1)


def test_a_smaller_copy_in_a_scan_is_no_page(tmp_path: Path) -> None:
    page, copy = Image.new("RGB", (40, 30), RED), Image.new("RGB", (20, 15), RED)
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    other = Image.new("RGB", (50, 30), BLUE)
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[copy, other])
    assert count_pages(tmp_path / "scan.tif") == 2
    assert (read_image(tmp_path / "scan.tif", page=1)[0, 0] == BLUE).all()


def test_what_moves_is_one_page(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 30), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert count_pages(tmp_path / "moving.gif") == 1
    assert (read_image(tmp_path / "moving.gif")[0, 0] == RED).all()


def test_broken_metadata_does_not_lose_the_picture() -> None:
    data = encoded(half_red_half_blue(), "PNG", exif=b"Exif\0\0II*\0garbage and more garbage")
    assert read_image(data).shape == (4, 8, 3)


@pytest.mark.parametrize("moment", ["open", "load"])
def test_too_little_memory_is_not_told_as_a_broken_picture(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(half_red_half_blue(), "PNG")
    monkeypatch.setattr(*{"open": (Image, "open"), "load": (PngImagePlugin.PngImageFile, "load")}[moment], fail)
    with pytest.raises(ImageError, match="enough memory for the picture") as caught:
        read_image(data)
    assert "broken" not in str(caught.value)
    assert ("8 x 4 pixels" in str(caught.value)) == (moment == "load")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_no_finer_than_it_is_looked_at(orientation: int, tmp_path: Path) -> None:
    image = half_red_half_blue(640, 480)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    image.save(path, "JPEG", exif=exif.tobytes(), quality=95)
    asked: list[tuple[int, int]] = []

    def quarter(width_px: int, height_px: int) -> int:
        asked.append((width_px, height_px))
        return 4

    whole = read_image(path)
    for source in (path, path.read_bytes()):
        pixels = read_image(source, reduction=quarter)
        assert pixels.shape[:2] == (whole.shape[0] // 4, whole.shape[1] // 4)
        assert np.abs(pixels.astype(int) - whole[2::4, 2::4]).mean() < 2
    assert asked == [(whole.shape[1], whole.shape[0])] * 2  # upright, whatever the file stores
    assert np.array_equal(read_image(path, reduction=lambda *_: 1), whole)


def test_a_thin_jpeg_keeps_a_pixel() -> None:
    thin = Image.fromarray(np.full((3, 4000, 3), 90, np.uint8))
    assert read_image(encoded(thin, "JPEG"), reduction=lambda *_: 8).shape == (2, 2000, 3)


def test_what_is_no_jpeg_file_is_read_whole() -> None:
    image = half_red_half_blue(64, 64)
    in_memory = Image.open(io.BytesIO(encoded(image, "JPEG")))
    for source in (encoded(image, "PNG"), image, np.asarray(image), in_memory):
        assert read_image(source, reduction=lambda *_: 4).shape == (64, 64, 3)


def test_a_truncated_jpeg_is_told_at_a_reduced_scale_too() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    with pytest.raises(ImageError, match="truncated"):
        read_image(encoded(noise, "JPEG")[:-2000], reduction=lambda *_: 2)


@pytest.mark.parametrize("orientation", [0, 1, 8, 9])
def test_the_size_is_known_from_the_header_alone(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    half_red_half_blue(64, 48).save(path, "JPEG", exif=exif.tobytes())
    height, width = read_image(path).shape[:2]
    assert image_size(path) == image_size(path.read_bytes()) == image_size(Image.open(path)) == (width, height)
    assert image_size(np.zeros((3, 5), np.uint8)) == (5, 3)
    assert image_size(path.read_bytes()[:-20]) == (width, height), "its pixels may be broken"
    with pytest.raises(ImageError, match="no such file"):
        image_size(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=r"at most 100 pixels.*got 3,072"):
        image_size(path, max_pixels=100)
