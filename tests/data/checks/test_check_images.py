"""Image files that cannot be used, or are converted as they are read."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from faulty import HEIGHT, WIDTH, check, codes, exif, noise, only, picture
from PIL import Image
from PIL.ImageFile import ImageFile

from dnl_det.data.checks import Use, checked


def missing(data):
    data.file(2).unlink()


def a_folder(data):
    data.file(2).unlink()
    data.file(2).mkdir()


def zero_bytes(data):
    data.file(2).write_bytes(b"")


def no_image(data):
    data.file(2).write_bytes(b"<html>404 not found</html>")


def a_program_for_ghostscript(data):
    file = data.file(2)
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 36\nshowpage\n")


def floating_point(data):
    Image.fromarray(noise(HEIGHT, WIDTH).astype(np.float32)).save(data.rename(2, "tif"))


def truncated(ending):
    def change(data):
        file = data.rename(2, ending)
        picture().save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])

    change.__name__ = f"truncated_{ending}"
    return change


def damaged(data):
    content = bytearray(data.file(2).read_bytes())
    content[len(content) // 2] ^= 255  # a check sum is wrong now
    data.file(2).write_bytes(content)


def another_size(data):
    picture(width=30, height=20).save(data.file(2))


def sizes_swapped(data):
    data.entries[1].update(width=HEIGHT, height=WIDTH)


def rotated_after_annotation(data):
    picture().save(data.rename(2, "jpg"), exif=exif(6))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (missing, "image-missing"),
        (a_folder, "image-missing"),
        (zero_bytes, "image-zero-bytes"),
        (no_image, "image-unreadable"),
        (a_program_for_ghostscript, "image-unreadable"),
        (floating_point, "image-unreadable"),
        *[(truncated(ending), "image-truncated") for ending in ("jpg", "png", "bmp", "tif", "gif")],
        (truncated("webp"), "image-unreadable"),
        (damaged, "image-truncated"),
        (another_size, "image-size"),
        (sizes_swapped, "image-size"),
        (rotated_after_annotation, "image-size"),
    ],
)
def test_an_image_that_cannot_be_used_is_left_out_of_training_alone(data, change, code):
    change(data)
    found = check(data)
    assert codes(found, "skipped") == {code: 1, "annotation-image-skipped": 2}
    assert only(found, code).file == data.entries[1]["file_name"]
    assert only(found, code).image_id == 2
    assert [image["id"] for image in found.content["images"]] == [1, 3, 4]
    assert {a["image_id"] for a in found.content["annotations"]} == {1, 3, 4}
    found = check(data, evaluation=True)
    assert codes(found, "error") == {code: 1}
    assert found.content == {}


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp"])
def test_a_truncated_file_is_seen_by_its_end_without_decoding_all(data, ending, monkeypatch):
    monkeypatch.setattr("dnl_det.data.checks.dataset._DECODED_AT_START", 0)
    decoded = []
    load = ImageFile.load
    monkeypatch.setattr(ImageFile, "load", lambda self: decoded.append(self.filename) or load(self))
    truncated(ending)(data)
    found = checked("mine", data.write(), data.images, Use())
    assert codes(found, "skipped") == {"image-truncated": 1, "annotation-image-skipped": 2}
    assert decoded == [str(data.file(2))]


def test_sizes_come_from_the_file_where_nothing_depends_on_them(data):
    del data.entries[0]["width"]
    data.entries[1]["height"] = float(HEIGHT)
    data.annotations[4:6] = []  # of image 3
    data.entries[2]["width"] = 7
    found = check(data)
    assert codes(found) == {"image-size-taken": 3}
    assert codes(found, "note") == {"image-unannotated": 1}
    assert {(e["width"], e["height"]) for e in found.content["images"]} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize(
    ("mode", "ending", "options", "expected"),
    [
        ("L", "jpg", {}, {"image-grey"}),
        ("1", "png", {}, {"image-grey"}),
        ("RGBA", "png", {}, {"image-alpha"}),
        ("LA", "png", {}, {"image-grey", "image-alpha"}),
        ("P", "png", {"transparency": 3}, {"image-alpha"}),
        ("CMYK", "jpg", {}, {"image-cmyk"}),
        ("I;16", "png", {}, {"image-16-bit", "image-grey"}),
        ("I;16", "tif", {}, {"image-16-bit", "image-grey"}),
        ("RGB", "jpg", {"exif": exif(6)}, {"image-rotated"}),
        ("RGB", "png", {"exif": exif(3)}, {"image-rotated"}),
    ],
)
def test_images_that_are_converted_on_reading_are_counted(data, mode, ending, options, expected):
    sides = (HEIGHT, WIDTH) if ending == "jpg" and options else (WIDTH, HEIGHT)  # before turning
    picture(mode, *sides).save(data.rename(2, ending), **options)
    for evaluation in (False, True):
        found = check(data, evaluation=evaluation)
        assert codes(found) == dict.fromkeys(expected, 1)
        assert {only(found, code).image_id for code in expected} == {2}
        assert not found.report.changes_annotations


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_of_16_bits_are_counted(data, ending):
    import cv2

    cv2.imwrite(str(data.rename(2, ending)), noise(HEIGHT, WIDTH, 3, dtype=np.uint16))
    assert codes(check(data)) == {"image-16-bit": 1}


def test_most_images_missing_is_an_error(data):
    for k in (1, 2, 3):
        data.file(k).unlink()
    found = check(data)
    assert codes(found, "error") == {"images-mostly-unusable": 1}
    data.file(4).unlink()
    assert "images-none" in codes(check(data), "error")


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_that_says(width, height, *more):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


def altered(image_format, offset, sides, kind):
    """A whole small image whose header says other sides."""
    file = io.BytesIO()
    picture().save(file, image_format)
    content = bytearray(file.getvalue())
    if image_format == "JPEG":
        offset += content.index(b"\xff\xc0")
    struct.pack_into(kind, content, offset, *sides)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        png_that_says(60000, 60000),
        altered("JPEG", 5, (65000, 65000), ">HH"),
        altered("BMP", 18, (60000, 60000), "<ii"),
        altered("GIF", 6, (65000, 65000), "<HH"),
    ],
)
def test_an_image_bomb_is_refused_without_being_decoded(data, content):
    data.file(2).write_bytes(content)
    for evaluation in (False, True):
        found = check(data, evaluation=evaluation)
        assert codes(found, "error") == {"image-bomb": 1}
        assert only(found, "image-bomb").image_id == 2


def test_a_bomb_in_an_image_s_text_is_not_unpacked(data):
    text = zlib.compress(bytes(300_000_000), 9)
    content = png_that_says(WIDTH, HEIGHT, chunk(b"zTXt", b"a\0\0" + text))
    data.file(2).write_bytes(content)
    tracemalloc.start()
    found = check(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "image-unreadable" in codes(found) or "image-truncated" in codes(found)
    assert most < 100_000_000
