"""Pictures that can be decoded: size bounded before anything is decoded, every fault a reason.

Pictures are untrusted input. Only `FORMATS` are tried, so that no rarely used decoder is reached by a file's first bytes;
the header's size is compared with `MAX_PIXELS` before the pixels are asked for. What a model would see wrongly is
refused: CMYK, whose colours depend on a press, and more than 8 bits a channel, which PIL cuts to white. Grey, palette and
alpha pictures are fine.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from vr1kit.records import BadRecord, DataError, DetectionSet, Faults

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # ours: those of the published sets, and BMP
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # of files that may be pictures
SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
MAX_PIXELS = 100_000_000  # ours: 10,000 x 10,000, which is 300 MB as RGB
DEEP_MODES = ("I", "F")  # and I;16, I;16B, ...
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF 2.32: the tag, and its values that swap width and height
# What PIL raises on broken files is not one class: github.com/python-pillow/Pillow, issue 9814.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error)


@contextmanager
def open_image(file: str | os.PathLike | BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """A picture whose header is fine: a known format, at most `max_pixels`, 8 bits a channel, no CMYK. Nothing is decoded yet.

    Raises BadRecord (unreadable, absent, too_large, cmyk, deep_colour, truncated), also for what goes wrong while it is open.
    """
    if isinstance(file, str | os.PathLike):
        _check_regular(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is ours
            image = Image.open(file, formats=FORMATS)
        with image:
            _check_header(image, max_pixels)
            yield image
    except BadRecord:
        raise
    except Image.DecompressionBombError:
        raise BadRecord("too_large", "has more pixels than PIL opens; scale the picture down") from None
    except Image.UnidentifiedImageError:
        raise BadRecord("unreadable", f"is no picture of a known format; save it as one of {', '.join(FORMATS)}") from None
    except BROKEN as error:
        reason = "truncated" if "truncated" in str(error) else "unreadable"
        raise BadRecord(reason, f"cannot be decoded ({error}); fetch the file again or leave it out") from None


def _check_regular(path: str | os.PathLike) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
            raise BadRecord("unreadable", "is not a file; give a picture")
    except OSError as error:
        raise BadRecord("absent", f"cannot be opened ({error.strerror}); add the picture") from None


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        what = f"has {width} x {height} pixels, more than {max_pixels:,}"
        raise BadRecord("too_large", f"{what}; scale the picture down")
    if image.mode == "CMYK":
        raise BadRecord("cmyk", "is CMYK, made for print; convert it to RGB with its colour profile")
    if image.mode in DEEP_MODES or image.mode.startswith("I;"):
        raise BadRecord("deep_colour", f"has more than 8 bits a channel (mode {image.mode}); scale it to 8 bits")


def check_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Decode one picture and throw it away. Returns (width, height) in px, as stored. Raises BadRecord with file and remedy."""
    try:
        with open_image(path, max_pixels) as image:
            size = image.size
            if image.format in ("JPEG", "MPO"):
                image.draft("L", (1, 1))  # an eighth of the size, grey: every byte is still read
            image.load()
            return size
    except BadRecord as error:
        raise error.at(path, "the picture") from None


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) in px from a picture's header. Raises BadRecord."""
    with open_image(path) as image:
        return image.size


def check_pictures(data: DetectionSet, on_error: str = "fail", max_pixels: int = MAX_PIXELS) -> DetectionSet:
    """`check_image` for every record, and its size against the record's. Returns the set of what is left, `skipped` added up.

    Raises DataError for the first bad picture under "fail", and where no picture is left.
    """
    faults = Faults(data.annotations, on_error)
    faults.skipped.update(data.skipped)
    faults.clipped = data.clipped
    kept = []
    for record in data.records:
        try:
            size = check_image(record.image_path, max_pixels)
            if size != (record.width, record.height):
                raise _wrong_size(record.image_path, size, (record.width, record.height)).at(record.image_path, "the picture")
            kept.append(record)
        except BadRecord as error:
            if on_error == "fail":
                raise
            faults.count(error.reason)
    return replace(faults.to_set(data.name, kept, data.categories, data.phrases), annotations=data.annotations)


def _wrong_size(path: Path, size: tuple[int, int], annotated: tuple[int, int]) -> BadRecord:
    with open_image(path) as image:
        turned = image.getexif().get(ORIENTATION) in TURNED
    remedy = (
        "its EXIF says it is shown turned: turn the pixels, or the boxes" if turned else "annotate it anew, or scale the boxes"
    )
    what = "has {} x {} pixels, its annotation says {} x {}".format(*size, *annotated)
    return BadRecord("picture_size", f"{what}; {remedy}")


def unpack_image(content: bytes, folder: Path) -> tuple[Path, tuple[int, int]]:
    """Write a picture that came inside another file to `folder`, named by its hash. Returns (path, (width, height) in px).

    The bytes are written as they are; what is there already is not written again. Raises BadRecord for what is no picture.
    """
    with open_image(io.BytesIO(content)) as image:
        size, suffix = image.size, SUFFIX_OF[image.format]
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}{suffix}"
    if not (path.is_file() and path.stat().st_size == len(content)):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written to ({error.strerror}); name another folder with images=FOLDER"
            ) from None
    return path, size
