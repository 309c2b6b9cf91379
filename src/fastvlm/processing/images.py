"""Pictures from files, bytes, PIL and arrays to one form: uint8, height x width x 3, upright, on white."""

from __future__ import annotations

import base64
import binascii
import io
import re
import stat
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fastvlm.batches import UInt8Array
from fastvlm.errors import ImageError, one_line

MAX_PIXELS = 178_000_000
"""About 13,300 x 13,300, half a gigabyte as uint8; just under the limit at which Pillow itself refuses."""

# Pillow hands these formats to programs outside of it.
_REFUSED_FORMATS = ("EPS", "WMF")
_REDUCED_FORMATS = ("JPEG", "MPO")
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
_PDF_START = b"%PDF"
_SUBFILE_TYPE, _IS_NO_PAGE = 254, 0b101
"""TIFF's tag for what an image of a file is, and its bits for a smaller copy and for a mask."""

_MOST_FRAMES = 10_000
_EXIF_ORIENTATION = 0x0112
_TURNED_ORIENTATIONS = (5, 6, 7, 8)
_CHANGED_ORIENTATIONS = (2, 3, 4, *_TURNED_ORIENTATIONS)

Seen = TypeVar("Seen")

Reduction = Callable[[int, int], int]
"""By how much the sides of a picture of (width, height) may be divided without losing what is looked at."""


def read_image(
    source: object, *, max_pixels: int = MAX_PIXELS, reduction: Reduction | None = None, page: int = 0
) -> UInt8Array:
    """Read a picture as uint8, H x W x 3, RGB.

    source: a path, the bytes of a file, a data: URL, a PIL image, or a uint8 array of H x W, H x W x 3 or H x W x 4.
    The camera's orientation (EXIF) is applied, transparency is laid on white, an animation gives its first frame,
    and 16-bit grey is scaled to 8. Grey of 32 bits counts as 0 to 1 (float), 0 to 255 or 0 to 65535 when its values
    lie there, and is otherwise stretched over its range. Colour profiles are not applied.
    reduction: where it allows, a JPEG file is decoded at a half, a quarter or an eighth of its sides, which takes a
    fraction of the time; other formats are always read whole. page: of a file in TIFF with several, from 0.
    Raises ImageError, one line, on whatever cannot be read or has more than `max_pixels` (known from the header).
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels=max_pixels)

    def decode(image: Image.Image, name: str) -> UInt8Array:
        _check_size(image, name=name, max_pixels=max_pixels)
        if reduction is not None and image is not source:
            _decode_at_reduced_scale(image, reduction)
        if page and image is not source:
            _turn_to(page, image, name=name)
            _check_size(image, name=name, max_pixels=max_pixels)
        return _from_pil(image, name=name)

    return _look(source, decode, max_pixels=max_pixels)


def image_size(source: object, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) in pixels of what `read_image` gives, from a file's header alone: its pixels may be broken.

    A PIL image is decoded, and told where it is broken. Takes and raises what `read_image` does.
    """
    if isinstance(source, np.ndarray):
        height_px, width_px = _from_array(source, max_pixels=max_pixels).shape[:2]
        return width_px, height_px

    def measure(image: Image.Image, name: str) -> tuple[int, int]:
        _check_size(image, name=name, max_pixels=max_pixels)
        if image is source:
            with _decoding(image, name=name):
                image.load()  # whoever reads it next would not be told any more that it is broken
        return (image.height, image.width) if _is_turned(image) else image.size

    return _look(source, measure, max_pixels=max_pixels)


def count_pages(source: object) -> int:
    """How many pages a file in TIFF has, as scanners write them; everything else is one.

    A page that cannot be found any more is the last one that counts: reading it tells what is wrong with it.
    Raises what `read_image` does for what is no picture.
    """
    if isinstance(source, np.ndarray | Image.Image):
        return 1
    return _look(source, lambda image, _: len(_frames_of_pages(image)), max_pixels=MAX_PIXELS)


def _look(source: object, look: Callable[[Image.Image, str], Seen], *, max_pixels: int) -> Seen:
    """Open a picture and look at it; `look` is also given what errors call it."""
    if isinstance(source, Image.Image):
        return look(source, "the given PIL image")
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_bytes(bytes(source), look, name="the given bytes", max_pixels=max_pixels)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _in_bytes(_data_of_url(source), look, name="the data: URL", max_pixels=max_pixels)
    if isinstance(source, str) and (scheme := re.match(r"(https?|ftp|file)://", source, re.IGNORECASE)):
        advice = "Give its path without file://." if scheme[1].lower() == "file" else "Download it and give its path."
        raise ImageError(f"Expected a picture on this machine, got the address {_short(source)}. {advice}")
    if source == "":
        raise ImageError("Expected a picture, got an empty path. Give the path of a file.")
    if isinstance(source, str | Path):
        return _in_path(Path(source), look, max_pixels=max_pixels)
    raise ImageError(
        f"Expected a picture as a path, bytes, a PIL image or a uint8 array, got {type(source).__name__}. Convert it."
    )


def _in_path(path: Path, look: Callable[[Image.Image, str], Seen], *, max_pixels: int) -> Seen:
    name = _short(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"Expected a picture at {name}, got a folder. Give the path of one file in it.")
        if stat.S_ISFIFO(status.st_mode):
            return _in_bytes(path.read_bytes(), look, name=name, max_pixels=max_pixels)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"Expected a picture at {name}, got a device. Give the path of a file.")
        if status.st_size == 0:
            raise ImageError(f"Expected a picture at {name}, got an empty file. Save or download it again.")
        with path.open("rb") as file:
            return _in_file(file, look, name=name, max_pixels=max_pixels)
    except FileNotFoundError as error:
        raise ImageError(f"Expected a picture at {name}, found no such file. Check the path.") from error
    except PermissionError as error:
        raise ImageError(f"Expected a picture at {name}, got no permission to read it. Change its mode.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"Expected a picture at {name}, got: {_reason(error)}. Check the path.") from error


def _in_bytes(data: bytes, look: Callable[[Image.Image, str], Seen], *, name: str, max_pixels: int) -> Seen:
    if not data:
        raise ImageError(f"Expected a picture in {name}, got nothing (0 bytes). Save or download it again.")
    return _in_file(io.BytesIO(data), look, name=name, max_pixels=max_pixels)


def _in_file(file: IO[bytes], look: Callable[[Image.Image, str], Seen], *, name: str, max_pixels: int) -> Seen:
    with _quiet_pillow():
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            file.seek(0)
            if file.read(len(_PDF_START)) == _PDF_START:
                raise ImageError(
                    f"Expected a picture in {name}, got a PDF. `fastvlm read` takes one whose name ends in .pdf."
                ) from error
            raise ImageError(
                f"Expected a picture in {name}, got a file of no image format that is known here. "
                "Save it as PNG or JPEG."
            ) from error
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\d+", str(error))
            raise _too_large(int(pixels[0]) if pixels else None, name=name, max_pixels=max_pixels) from error
        except MemoryError as error:
            raise _no_memory(name=name) from error
        except Exception as error:  # a broken header can make any plugin fail in any way
            raise _corrupt(error, name=name) from error
        with image:
            if image.format in _REFUSED_FORMATS:
                raise ImageError(f"Expected a picture of pixels in {name}, got {image.format}. Save it as PNG or JPEG.")
            return look(image, name)


def _frames_of_pages(image: Image.Image) -> list[int]:
    """Where the pages of a file are among all that it holds; smaller copies and masks of pages are none."""
    if image.format != "TIFF":
        return [0]
    found = []
    for frame in range(_MOST_FRAMES):
        try:
            image.seek(frame)
        except EOFError:
            break
        except Exception:  # a broken directory can make the plugin fail in any way
            found.append(frame)
            break
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # which only the plugin's own class has
        if not tags.get(_SUBFILE_TYPE, 0) & _IS_NO_PAGE:
            found.append(frame)
    return found or [0]


def _turn_to(page: int, image: Image.Image, *, name: str) -> None:
    frames = _frames_of_pages(image)
    if page >= len(frames):
        raise ImageError(f"Expected page {page + 1} of {name}, found {len(frames)}. Choose one of these.")
    with _decoding(image, name=name):
        image.seek(0)  # a page that could not be found is asked for anew
        image.seek(frames[page])


def _decode_at_reduced_scale(image: Image.Image, reduction: Reduction) -> None:
    """Have a JPEG file decoded at a fraction of its sides; Pillow does nothing here for other formats."""
    width_px, height_px = image.size
    # PNG tells it behind the pixels: asking would decode these, and hide it where they are broken.
    is_turned = image.format in _REDUCED_FORMATS and _is_turned(image)
    divisor = reduction(height_px, width_px) if is_turned else reduction(width_px, height_px)
    if divisor > 1:
        image.draft(None, (max(1, width_px // divisor), max(1, height_px // divisor)))


def _is_turned(image: Image.Image) -> bool:
    """Whether the camera's orientation exchanges width and height."""
    return _orientation(image) in _TURNED_ORIENTATIONS


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # broken metadata says nothing about the pixels
        return None


def _check_size(image: Image.Image, *, name: str, max_pixels: int) -> None:
    if image.width == 0 or image.height == 0:
        raise ImageError(f"Expected at least one pixel in {name}, got {image.width} x {image.height}. Save it again.")
    if image.width * image.height > max_pixels:
        raise _too_large(image.width * image.height, name=name, max_pixels=max_pixels)


def _from_pil(image: Image.Image, *, name: str) -> UInt8Array:
    with _decoding(image, name=name):
        image.load()
        return _to_rgb(_upright(image), source_format=image.format)


@contextmanager
def _decoding(image: Image.Image, *, name: str) -> Iterator[None]:
    with _quiet_pillow():
        try:
            yield
        except MemoryError as error:
            raise _no_memory(f" of {image.width} x {image.height} pixels", name=name) from error
        except Exception as error:  # broken pixels can make any plugin fail in any way
            raise _corrupt(error, name=name) from error


def _from_array(array: npt.NDArray[np.generic], *, max_pixels: int) -> UInt8Array:
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not is_picture:
        raise ImageError(
            "Expected an array of uint8 and H x W, H x W x 3 or H x W x 4, got "
            f"{array.dtype} and {' x '.join(map(str, array.shape))}. Scale it to 0 to 255, channels last."
        )
    if array.size == 0:
        raise ImageError(f"Expected at least one pixel in the given array, got {array.shape[1]} x {array.shape[0]}.")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise _too_large(array.shape[0] * array.shape[1], name="the given array", max_pixels=max_pixels)
    pixels = array.astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 4:
        return _to_rgb(Image.fromarray(pixels), source_format=None)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) not in _CHANGED_ORIENTATIONS:
        return image  # `exif_transpose` would copy it
    try:
        return ImageOps.exif_transpose(image) or image
    except Exception:  # broken metadata says nothing about the pixels, which were read
        return image


def _to_rgb(image: Image.Image, *, source_format: str | None) -> UInt8Array:
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float64) / 257)
    if image.mode == "I":
        return _grey(_scale_to_bytes(np.asarray(image), is_sixteen_bit=source_format in _SIXTEEN_BIT_FORMATS))
    if image.mode == "F":
        return _grey(_scale_to_bytes(np.nan_to_num(np.asarray(image)), is_sixteen_bit=False))
    if image.has_transparency_data:
        # What is transparent is drawn for paper; the colour that it hides is arbitrary.
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _scale_to_bytes(values: npt.NDArray[np.generic], *, is_sixteen_bit: bool) -> npt.NDArray[np.float64]:
    is_float = values.dtype.kind == "f"
    scaled = values.astype(np.float64)
    low, high = float(scaled.min()), float(scaled.max())
    if low >= 0 and high <= 65535 and (is_sixteen_bit or high > 255):
        return scaled / 257
    if low >= 0 and high <= 1 and is_float:
        return scaled * 255
    if low >= 0 and high <= 255:
        return scaled
    return (scaled - low) * (255 / (high - low)) if high > low else np.zeros_like(scaled)


def _grey(values: npt.NDArray[np.float64]) -> UInt8Array:
    grey = np.rint(values).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _data_of_url(url: str) -> bytes:
    header, comma, data = url.partition(",")
    try:
        if not comma:
            raise ValueError("no comma after the header")
        if header.lower().endswith(";base64"):
            return base64.b64decode("".join(urllib.parse.unquote(data).split()), validate=True)
        return urllib.parse.unquote_to_bytes(data)
    except (ValueError, binascii.Error) as error:
        raise ImageError(
            f"Expected data:image/...;base64, and the picture's bytes, got {_short(url)} ({_reason(error)}). "
            "Encode the picture again."
        ) from error


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    # Pillow warns of large pictures and odd metadata on standard error; the limit and the errors here say it better.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        yield


def _too_large(num_pixels: int | None, *, name: str, max_pixels: int) -> ImageError:
    got = "more" if num_pixels is None else f"{num_pixels:,}"
    return ImageError(f"Expected at most {max_pixels:,} pixels in {name}, got {got}. Make the picture smaller.")


def _no_memory(size: str = "", *, name: str) -> ImageError:
    return ImageError(
        f"Expected enough memory for the picture{size} in {name}, got too little. "
        "Make the picture smaller, or end other programs."
    )


def _corrupt(error: Exception, *, name: str) -> ImageError:
    state = "a truncated" if "truncated" in str(error).lower() else "a broken"
    return ImageError(f"Expected a whole picture in {name}, got {state} one ({_reason(error)}). Save it again.")


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:100] + "...")


def _reason(error: BaseException) -> str:
    return one_line(error, max_length=160)
