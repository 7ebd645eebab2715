"""Pictures are untrusted: bounded before decoding, every fault a reason and one line."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from vr1kit.formats.images import check_image, check_pictures, open_image, unpack_image
from vr1kit.records import REASONS, BadRecord, DataError, DetectionSet, Record


def draw(path, size=(32, 24), mode="RGB", **options):
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)
    return path


def write_huge_png(path, side=50_000):
    """50,000 x 50,000 grey pixels in a header; the data is a few bytes, for nobody should ask for it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )
    return path


def fault(path, **options):
    with pytest.raises(BadRecord) as caught:
        check_image(path, **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ") and "; " in message, "file and remedy, in one line"
    assert caught.value.reason in REASONS
    return caught.value


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_good_pictures_pass(tmp_path, name, mode):
    assert check_image(draw(tmp_path / name, (40, 30), mode)) == (40, 30)


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA"])
def test_palettes_and_alpha_are_fine(tmp_path, mode):
    assert check_image(draw(tmp_path / "a.png", (40, 30), mode)) == (40, 30)


@pytest.mark.parametrize("cut", [0.95, 0.5, 0.2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_truncated_jpeg(tmp_path, cut, options):
    path = draw(tmp_path / "a.jpg", (320, 240), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    assert fault(path).reason == "truncated"


def test_a_jpeg_that_ends_in_its_header(tmp_path):
    path = draw(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:40])
    assert fault(path).reason in ("truncated", "unreadable")


def test_a_truncated_png_and_one_with_a_broken_checksum(tmp_path):
    path = draw(tmp_path / "a.png", (64, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert fault(path).reason in ("truncated", "unreadable")
    broken = bytearray(whole)
    broken[40] ^= 0xFF
    path.write_bytes(bytes(broken))
    assert fault(path).reason == "unreadable"


def test_a_huge_png_is_refused_by_its_header(tmp_path, monkeypatch):
    path, small = write_huge_png(tmp_path / "bomb.png"), draw(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were asked for"))
    assert fault(path).reason == "too_large"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where PIL alone would warn, and decode
        assert "12000 x 12000" in str(fault(write_huge_png(tmp_path / "smaller.png", side=12_000)))
    assert fault(small, max_pixels=100).reason == "too_large"


def test_cmyk_and_16_bits_are_refused(tmp_path):
    assert fault(draw(tmp_path / "a.jpg", mode="CMYK")).reason == "cmyk"
    grey = Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100)
    grey.save(tmp_path / "deep.png")
    assert fault(tmp_path / "deep.png").reason == "deep_colour"


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    assert fault(tmp_path / "a.jpg").reason == "unreadable"
    (tmp_path / "empty.png").write_bytes(b"")
    assert fault(tmp_path / "empty.png").reason == "unreadable"
    draw(tmp_path / "a.tif")
    assert fault(tmp_path / "a.tif").reason == "unreadable"  # not among the formats: never reaches its decoder
    assert fault(tmp_path / "absent.png").reason == "absent"
    assert fault(tmp_path).reason == "unreadable"
    os.mkfifo(tmp_path / "pipe.png")
    assert fault(tmp_path / "pipe.png").reason == "unreadable"  # and does not wait for ever


def test_what_goes_wrong_while_a_picture_is_open_is_a_reason_too(tmp_path):
    path = draw(tmp_path / "a.jpg", (320, 240))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadRecord, match="truncated"), open_image(path) as image:
        image.convert("RGB")


def record(path, size=(32, 24), image_id=1):
    return Record(path, image_id, *size, np.zeros((0, 4)), (), "set")


def test_a_sets_pictures_are_checked_by_the_policy(tmp_path):
    good, bad = draw(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_text("no")
    records = (record(good), record(bad, image_id=2), record(good, (24, 32), image_id=3))
    data = DetectionSet("set", tmp_path / "x.json", records, {"cat": 1}, skipped={"absent": 2}, clipped=1)
    with pytest.raises(DataError, match="b.png: the picture is no picture"):
        check_pictures(data)
    left = check_pictures(data, on_error="skip")
    assert [r.image_id for r in left.records] == [1]
    assert left.skipped == {"absent": 2, "picture_size": 1, "unreadable": 1} and left.clipped == 1
    assert left.categories == data.categories and left.annotations == data.annotations
    with pytest.raises(DataError, match="the set is empty, all records were left out: 1 unreadable"):
        check_pictures(DetectionSet("set", tmp_path, (record(bad),), {}), on_error="skip")


def test_a_picture_shown_turned_is_told_apart_from_a_scaled_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = draw(tmp_path / "a.jpg", (32, 24), exif=exif)
    with pytest.raises(DataError, match="has 32 x 24 pixels, its annotation says 24 x 32; its EXIF says it is shown turned"):
        check_pictures(DetectionSet("set", tmp_path, (record(path, (24, 32)),), {}))
    with pytest.raises(DataError, match="scale the boxes"):
        check_pictures(DetectionSet("set", tmp_path, (record(draw(tmp_path / "b.jpg"), (64, 48)),), {}))


def test_pictures_from_inside_a_file_are_unpacked_once(tmp_path):
    content = draw(tmp_path / "a.jpg").read_bytes()
    path, size = unpack_image(content, tmp_path / "pictures")
    assert size == (32, 24) and path.suffix == ".jpg" and path.read_bytes() == content
    before = path.stat().st_mtime_ns
    assert unpack_image(content, tmp_path / "pictures") == (path, size)
    assert path.stat().st_mtime_ns == before and len(list((tmp_path / "pictures").iterdir())) == 1
    with pytest.raises(BadRecord, match="no picture"):
        unpack_image(b"no", tmp_path / "pictures")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="images=FOLDER"):
        unpack_image(content, tmp_path / "taken")
