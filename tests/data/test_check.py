"""Every fault of a data set is found, told by its code, file and id, and dealt with as said."""

import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from faulty import HEIGHT, SECOND, SQUARE, WIDTH, DataSet, annotation
from PIL import Image
from PIL.ImageFile import ImageFile
from pycocotools import mask as mask_util

from dnl_det.data import register_shapes
from dnl_det.data.check import Use, check_dataset, checked, raise_errors
from dnl_det.data.faults import FAULTS
from dnl_det.data.findings import DataError


@pytest.fixture
def data(tmp_path):
    return DataSet(tmp_path)


def check(data, **use):
    return checked("mine", data.write(), data.images, Use(thorough=True, **use))


def codes(found, *kinds):
    """``{code: count}`` of the findings of some kinds; by default of all but notes."""
    kinds = kinds or ("error", "skipped", "repaired")
    return {code: len(v) for kind, code, v in found.report.groups() if kind in kinds}


def only(found, code):
    (finding,) = found.report.findings[next(k for k in found.report.findings if k[1] == code)]
    return finding


def test_a_sound_data_set_has_no_finding(data):
    for evaluation in (False, True):
        before = json.loads(data.write().read_text())
        found = check(data, evaluation=evaluation, masks=True)
        assert not found.report.findings
        assert not found.report.changes_annotations
        assert found.content == before
    assert "nothing found" in found.report.text()


# --- image files -------------------------------------------------------------------------------


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


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
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])

    change.__name__ = f"truncated_{ending}"
    return change


def damaged(data):
    content = bytearray(data.file(2).read_bytes())
    content[len(content) // 2] ^= 255  # a check sum is wrong now
    data.file(2).write_bytes(content)


def another_size(data):
    Image.fromarray(noise(20, 30, 3)).save(data.file(2))


def sizes_swapped(data):
    data.entries[1].update(width=HEIGHT, height=WIDTH)


def rotated_after_annotation(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(data.rename(2, "jpg"), exif=exif)


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
    monkeypatch.setattr("dnl_det.data.check._DECODED_AT_START", 0)
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


def converted(data, image, ending, **options):
    image.save(data.rename(2, ending), **options)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(
    ("image", "ending", "options", "expected"),
    [
        (lambda: Image.fromarray(noise(HEIGHT, WIDTH)), "jpg", {}, {"image-grey"}),
        (lambda: Image.fromarray(noise(HEIGHT, WIDTH) > 99), "png", {}, {"image-grey"}),
        (lambda: Image.fromarray(noise(HEIGHT, WIDTH, 4)), "png", {}, {"image-alpha"}),
        (
            lambda: Image.fromarray(noise(HEIGHT, WIDTH, 2), "LA"),
            "png",
            {},
            {"image-grey", "image-alpha"},
        ),
        (
            lambda: Image.fromarray(noise(HEIGHT, WIDTH)).convert("P"),
            "png",
            {"transparency": 3},
            {"image-alpha"},
        ),
        (lambda: Image.fromarray(noise(HEIGHT, WIDTH, 4), "CMYK"), "jpg", {}, {"image-cmyk"}),
        (
            lambda: Image.fromarray(noise(HEIGHT, WIDTH, dtype=np.uint16)),
            "png",
            {},
            {"image-16-bit", "image-grey"},
        ),
        (
            lambda: Image.fromarray(noise(HEIGHT, WIDTH, dtype=np.uint16)),
            "tif",
            {},
            {"image-16-bit", "image-grey"},
        ),
        (
            lambda: Image.fromarray(noise(WIDTH, HEIGHT, 3)),
            "jpg",
            {"exif": exif(6)},
            {"image-rotated"},
        ),
        (
            lambda: Image.fromarray(noise(HEIGHT, WIDTH, 3)),
            "png",
            {"exif": exif(3)},
            {"image-rotated"},
        ),
    ],
)
def test_images_that_are_converted_on_reading_are_counted(data, image, ending, options, expected):
    converted(data, image(), ending, **options)
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


# --- hostile -------------------------------------------------------------------------------------


def png_that_says(width, height):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_an_image_bomb_is_refused_without_being_decoded(data):
    data.file(2).write_bytes(png_that_says(60000, 60000))
    data.entries[1].update(width=60000, height=60000)
    for evaluation in (False, True):
        found = check(data, evaluation=evaluation)
        assert codes(found, "error") == {"image-bomb": 1}
        assert only(found, "image-bomb").image_id == 2


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../annotations.json",
        "sub/../../annotations.json",
        "..\\annotations.json",
        "C:\\windows\\win.ini",
        "2.png\0.jpg",
        "\ud800.png",
    ],
)
def test_paths_out_of_the_folder_are_refused(data, name, monkeypatch):
    data.entries[1]["file_name"] = name
    opened = []
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: opened.append(str(path)) or real(path))
    found = check(data)
    assert codes(found, "error") == {"image-path": 1}
    assert only(found, "image-path").image_id == 2
    assert len(opened) == 3
    assert all(path.startswith(str(data.images)) for path in opened)


def test_a_link_within_the_folder_is_followed(data, tmp_path):
    data.file(2).rename(tmp_path / "elsewhere.png")
    data.file(2).symlink_to(tmp_path / "elsewhere.png")
    assert not check(data).report.findings


def test_control_characters_do_not_reach_the_terminal(data):
    data.entries[1]["file_name"] = "\x1b[2Jgone\n" + "x" * 5000
    text = check(data).report.text()
    assert "\\x1b[2Jgone\\n" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 1000
    text.encode()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "json-unreadable"),
        (b'{"images": [', "json-unreadable"),
        (b"\xff\xfe\x00", "json-unreadable"),
        (b'{"images": ' + b"9" * 5000 + b"}", "json-unreadable"),
        (b"[" * 100_000 + b"]" * 100_000, "json-depth"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json-depth"),
        # Less deep than Python's limit, but read again from deeper within detectron2.
        (b'{"info": ' + b"[" * 900 + b"]" * 900 + b"}", "json-depth"),
        (b"[]", "json-format"),
        (b"null", "json-format"),
        (b"{}", "json-format"),
        (b'{"images": {}, "annotations": [], "categories": []}', "json-format"),
        (b'{"images": [], "annotations": []}', "json-format"),
    ],
)
def test_an_unreadable_json_is_an_error(data, content, code):
    data.json.write_bytes(content)
    found = checked("mine", data.json, data.images, Use())
    assert set(codes(found)) == {code}
    assert "annotations.json" in found.report.text()


def test_a_json_of_absurd_size_is_not_read(data, monkeypatch):
    data.write()
    with data.json.open("r+b") as file:
        file.truncate(10**10)  # a sparse file: it takes no room
    found = checked("mine", data.json, data.images, Use())
    assert codes(found) == {"json-size": 1}
    assert "10,000 MB, more than 4,096" in found.report.text()


def test_a_json_that_is_no_file_is_not_waited_for(data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "gone"):
        found = checked("mine", path, data.images, Use())
        assert codes(found) == {"json-missing": 1}
    found = checked("mine", data.write(), tmp_path / "gone", Use())
    assert "json-missing" in codes(found, "error")


# --- lists and ids -------------------------------------------------------------------------------


def test_empty_lists(data):
    data.content.update(images=[], annotations=[], categories=[])
    assert set(codes(check(data), "error")) == {
        "images-none",
        "annotations-none",
        "category-broken",
    }


def test_no_annotations_at_all(data):
    data.content["annotations"] = []
    for evaluation in (False, True):
        assert codes(check(data, evaluation=evaluation), "error") == {"annotations-none": 1}
    del data.content["annotations"]
    assert codes(check(data), "error") == {"json-format": 1}
    found = check(data, evaluation=True)
    assert codes(found, "note") == {"annotations-absent": 1}
    assert not found.report.has_errors


def test_crowds_alone_are_no_annotations(data):
    for entry in data.annotations:
        entry["iscrowd"] = 1
    assert codes(check(data), "error") == {"annotations-none": 1}


def test_sparse_ids_are_notes(data):
    for entry in data.content["categories"]:
        entry["id"] *= 10
    for entry in data.entries:
        entry["id"] += 100
    for entry in data.annotations:
        entry["category_id"] *= 10
        entry["image_id"] += 100
    found = check(data)
    assert codes(found) == {}
    assert codes(found, "note") == {"category-ids-sparse": 1, "image-ids-sparse": 1}


def test_ids_as_text_are_read(data):
    data.content["categories"][0]["id"] = "1"
    data.entries[1]["id"] = " 2"
    data.annotations[2].update(image_id="2", category_id=1.0, id="3")
    found = check(data)
    assert codes(found) == {"id-as-text": 5}
    assert found.categories == [(1, "cat"), (2, "dog")]
    assert [i["id"] for i in found.content["images"]] == [1, 2, 3, 4]
    assert [a["id"] for a in found.content["annotations"]] == list(range(1, 9))
    assert {type(a["image_id"]) for a in found.content["annotations"]} == {int}


@pytest.mark.parametrize("bad", [None, "one", True, 2**60, 1.5, [1], {"a": 1}])
def test_ids_that_are_no_whole_numbers(data, bad):
    data.entries[1]["id"] = bad
    data.annotations[4]["image_id"] = bad
    data.annotations[6]["category_id"] = bad
    data.annotations[7]["id"] = bad
    found = check(data)
    assert codes(found) == {
        "image-broken": 1,
        "annotation-broken": 2,
        "annotation-image-unknown": 2,
        "annotation-id": 1,
    }
    assert len(found.content["annotations"]) == 4
    data.content["categories"][0]["id"] = bad
    assert codes(check(data), "error") == {"category-broken": 1}


def test_unknown_ids(data):
    data.annotations[0]["image_id"] = 99
    data.annotations[1]["category_id"] = 0
    found = check(data)
    assert codes(found) == {"annotation-image-unknown": 1, "annotation-category-unknown": 1}
    assert only(found, "annotation-image-unknown").annotation_id == 1
    assert only(found, "annotation-category-unknown").annotation_id == 2


def test_repeated_categories(data):
    categories = data.content["categories"]
    categories.append(dict(categories[0]))
    found = check(data)
    assert codes(found) == {"category-repeated": 1}
    assert found.categories == [(1, "cat"), (2, "dog")]
    categories[-1]["name"] = "cow"
    assert codes(check(data), "error") == {"category-conflict": 1}


def test_category_names(data):
    data.content["categories"] += [{"id": 3, "name": "dog"}, {"id": 4}, {"id": 5, "name": 7}]
    found = check(data)
    assert codes(found) == {"category-unnamed": 2, "category-name-repeated": 2}
    assert codes(found, "note") == {"category-unused": 3}
    names = [name for _, name in found.categories]
    assert names == ["cat", "dog (id 2)", "dog (id 3)", "class_4", "7"]


def test_repeated_images(data):
    data.entries.append(dict(data.entries[0]))
    found = check(data)
    assert codes(found) == {"image-repeated": 1}
    assert len(found.content["images"]) == 4
    data.entries[-1]["file_name"] = "2.png"
    found = check(data)
    assert codes(found) == {"image-conflict": 1, "annotation-image-skipped": 2}
    assert [image["id"] for image in found.content["images"]] == [2, 3, 4]
    assert codes(check(data, evaluation=True), "error") == {"image-conflict": 1}


def test_one_file_twice(data):
    data.entries[1]["file_name"] = "1.png"
    found = check(data)
    assert codes(found, "note") == {"image-file-repeated": 1}
    assert "image 1 is of it too" in found.report.text()


@pytest.mark.parametrize(
    "entry", [None, 7, [], {"id": 9}, {"file_name": "x"}, {"id": 9, "file_name": 3}]
)
def test_broken_image_entries(data, entry):
    data.entries.append(entry)
    assert codes(check(data)) == {"image-broken": 1}
    assert codes(check(data, evaluation=True), "error") == {"image-broken": 1}


@pytest.mark.parametrize("entry", [None, 7, [], {}, {"id": 9, "image_id": 1}])
def test_broken_annotations(data, entry):
    data.annotations.append(entry)
    found = check(data)
    assert codes(found) == {"annotation-broken": 1}
    assert len(found.content["annotations"]) == 8


def test_annotation_ids(data):
    ids = [0, -4, 5, 5, None, "x", 2**70, 8]
    for entry, identity in zip(data.annotations, ids, strict=True):
        entry["id"] = identity
    found = check(data)
    assert codes(found) == {"annotation-id": 6}
    assert [a["id"] for a in found.content["annotations"]] == [9, 10, 5, 11, 12, 13, 14, 8]


def test_an_annotation_twice_is_taken_once(data):
    data.annotations.append(dict(data.annotations[0]))
    found = check(data)
    assert codes(found) == {"annotation-repeated": 1}
    assert len(found.content["annotations"]) == 8


# --- boxes and masks -----------------------------------------------------------------------------


BROKEN_BOXES = [None, [], [1, 2, 3], [1, 2, 3, "4"], [1, 2, float("nan"), 4], [1, 2, 10**400, 4], 5]


@pytest.mark.parametrize(
    ("box", "code"),
    [
        *[(box, "box-broken") for box in BROKEN_BOXES],
        ([8, 6, 0, 16], "box-degenerate"),
        ([8, 6, 16, -16], "box-degenerate"),
        ([WIDTH, 6, 16, 16], "box-outside"),
        ([8, -20, 16, 16], "box-outside"),
    ],
)
def test_boxes_are_taken_from_masks_or_left_out(data, box, code):
    data.annotations[0]["bbox"] = box
    found = check(data)
    assert codes(found, "repaired") == {code: 1}
    assert only(found, code).annotation_id == 1
    assert only(found, code).file == "1.png"
    assert found.content["annotations"][0]["bbox"] == [8, 6, 16, 16]
    del data.annotations[0]["segmentation"]
    found = check(data)
    assert codes(found, "skipped") == {code: 1}
    assert [a["id"] for a in found.content["annotations"]] == list(range(2, 9))


def test_boxes_over_the_edge_are_cut_beyond_rounding(data):
    data.annotations[1].update(bbox=[28, 10, 20.9, 20], segmentation=[])
    data.annotations[3].update(bbox=[28, 10, 40, 20])
    found = check(data, masks=False)
    assert codes(found) == {"box-over-edge": 1}
    assert found.content["annotations"][1]["bbox"] == [28, 10, 20.9, 20]
    assert found.content["annotations"][3]["bbox"] == [28, 10, 20, 20]


def test_corners_in_place_of_sizes_are_noted(data):
    data.annotations[0]["bbox"] = [8, 6, 24, 22]
    data.annotations[1]["bbox"] = [2, 2, 10, 10]
    assert codes(check(data), "note") == {"box-unlike-mask": 2}


EIGHT = [8, 6, 24, 22, 24, 6, 8, 22]  # crosses itself once; its halves' areas cancel


@pytest.mark.parametrize(
    ("mask", "found_codes", "left"),
    [
        (SQUARE, {"polygon-flat": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, 4]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, 4, 5, 6, 7]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, None, 5, 6]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, "4", 5, 6]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, float("nan"), 5, 6]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, float("inf"), 5, 6]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [1, 2, 3, 10**400, 5, 6]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [[1, 2], [3, 4], [5, 6]]], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, []], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, 7], {"polygon-broken": 1}, [SQUARE]),
        ([SQUARE, [3, 3, 9, 9, 6, 6]], {"polygon-degenerate": 1}, [SQUARE]),
        ([SQUARE, [3, 3, 9, 3, 6, 3]], {"polygon-degenerate": 1}, [SQUARE]),
        ([SQUARE, [3, 3, 3, 3, 3, 3]], {"polygon-degenerate": 1}, [SQUARE]),
        ([SQUARE, [50, 3, 60, 3, 60, 9]], {"polygon-outside": 1}, [SQUARE]),
        ([SQUARE, [3, -9, 9, -9, 9, 0]], {"polygon-outside": 1}, [SQUARE]),
        ([SQUARE, [3, 3, 9e8, 3, 3, 9e8]], {"polygon-outside": 1}, [SQUARE]),
        ([SQUARE, [40, 3, 60, 3, 60, 9]], {}, [SQUARE, [40, 3, 60, 3, 60, 9]]),
        ([EIGHT], {}, [EIGHT]),
        ([], {"mask-absent": 1}, None),
        ({}, {"mask-absent": 1}, None),
        (None, {"mask-absent": 1}, None),
        ("mask", {"mask-broken": 1, "mask-absent": 1}, None),
        ([[1, 2, 3, 4]], {"polygon-broken": 1, "mask-absent": 1}, None),
        ([[]], {"polygon-broken": 1, "mask-absent": 1}, None),
    ],
)
@pytest.mark.parametrize("evaluation", [False, True])
def test_masks(data, mask, found_codes, left, evaluation):
    data.annotations[0]["segmentation"] = mask
    found = check(data, evaluation=evaluation)
    assert codes(found) == found_codes
    kept = found.content["annotations"][0]
    if left is None:  # its box to be ignored
        x, y, width, height = kept["bbox"]
        assert kept["iscrowd"] == 1
        assert kept["segmentation"] == [[x, y, x + width, y, x + width, y + height, x, y + height]]
        found = check(data, evaluation=evaluation, masks=False)
        assert "mask-absent" not in codes(found)
        assert found.content["annotations"][0]["iscrowd"] == 0
        assert "segmentation" not in found.content["annotations"][0]
    else:
        assert kept["segmentation"] == left
        assert kept["iscrowd"] == 0


def test_notes_of_polygons(data):
    data.annotations[0]["segmentation"] = [EIGHT]
    data.annotations[2]["segmentation"] = [SQUARE, [40, 3, 60, 3, 60, 9]]
    assert codes(check(data), "note") == {
        "polygon-crossing": 1,
        "polygon-over-edge": 1,
        "box-unlike-mask": 1,
    }
    data.annotations[0]["segmentation"] = [[8, 6, 24, 22, 24, 8, 8, 22]]
    assert codes(check(data), "note")["polygon-crossing"] == 1
    quick = checked("mine", data.json, data.images, Use())
    assert "polygon-crossing" not in codes(quick, "note")


def test_no_mask_at_all(data):
    for entry in data.annotations:
        del entry["segmentation"]
    assert codes(check(data), "note") == {"masks-none": 1}
    assert codes(check(data, masks=True), "error") == {"masks-none": 1}
    assert not check(data, masks=False).report.findings


def rle(mask, compressed):
    packed = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": list(mask.shape), "counts": packed["counts"].decode()}
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], changes])).tolist()}


@pytest.mark.parametrize("compressed", [False, True])
def test_rle_is_kept_and_counted(data, compressed):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[6:22, 8:24] = True
    mask[10, 12] = False  # a hole
    data.annotations[0].update(segmentation=rle(mask, compressed), area=None, bbox=None)
    data.annotations[2].update(segmentation=rle(mask, compressed), iscrowd=1)
    found = check(data)
    assert codes(found) == {"mask-rle": 1, "area": 1, "box-broken": 1}
    assert codes(found, "note") == {"crowd": 1}
    kept = found.content["annotations"][0]
    assert kept["segmentation"] == rle(mask, compressed)
    assert (kept["area"], kept["bbox"]) == (255, [8, 6, 16, 16])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"size": [WIDTH, HEIGHT]}, "rle-broken"),
        ({"size": [10**9, 10**9]}, "rle-broken"),
        ({"size": None}, "rle-broken"),
        ({"counts": None}, "rle-broken"),
        ({"counts": [5, 5]}, "rle-broken"),
        ({"counts": [-8, 8, WIDTH * HEIGHT]}, "rle-broken"),
        ({"counts": [1.5, WIDTH * HEIGHT - 1.5]}, "rle-broken"),
        ({"counts": "\u1234"}, "rle-broken"),
        ({"counts": "oooooooooooooooooooo0"}, "rle-broken"),
        ({"counts": "PPPP"}, "rle-broken"),
        ({"counts": "0"}, "rle-broken"),
        ({"counts": [WIDTH * HEIGHT]}, "rle-empty"),
    ],
)
def test_broken_rle_never_reaches_pycocotools(data, change, code):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[6:22, 8:24] = True
    data.annotations[0]["segmentation"] = {**rle(mask, True), **change}
    assert codes(check(data)) == {code: 1, "mask-absent": 1}


@pytest.mark.parametrize("seed", range(30))
def test_runs_are_those_of_pycocotools(seed):
    from dnl_det.data.run_length import runs_of

    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 90), rng.integers(1, 400))) < rng.random() ** 2
    expected = rle(mask, False)["counts"]
    assert runs_of(rle(mask, True), *mask.shape) == expected
    assert runs_of(rle(mask, False), *mask.shape) == expected


def test_flags_and_areas(data):
    values = [None, "0", 2, True, 0.0, 1, 0, 0]
    for entry, value in zip(data.annotations, values, strict=True):
        entry["iscrowd"] = value
    data.annotations[6].update(ignore=1)
    data.annotations[7].update(ignore=0, area=-1)
    del data.annotations[0]["iscrowd"]
    found = check(data)
    assert codes(found) == {"crowd-flag": 5, "ignore-flag": 1, "area": 1}
    assert [a["iscrowd"] for a in found.content["annotations"]] == [0, 0, 1, 1, 0, 1, 1, 0]
    assert found.content["annotations"][7]["area"] == 16 * 20
    assert not any("ignore" in a for a in found.content["annotations"])


@pytest.mark.parametrize("area", [None, "9", float("nan"), float("inf"), [3]])
def test_areas_are_of_masks(data, area):
    data.annotations[0].update(area=area, segmentation=[[8, 6, 24, 6, 24, 22]])
    found = check(data)
    assert codes(found) == {"area": 1}
    assert found.content["annotations"][0]["area"] == 128


# --- polygons ------------------------------------------------------------------------------------


def crosses_by_fractions(polygon):
    """Exactly, each edge with each."""
    from fractions import Fraction

    points = [(Fraction(x), Fraction(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    edges = list(zip(points, points[1:] + points[:1], strict=True))

    def side(a, b, c):
        value = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        return (value > 0) - (value < 0)

    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for index, (a, b) in enumerate(edges)
        for c, d in edges[:index]
    )


def test_crossings_and_areas_are_exact():
    from dnl_det.data.polygons import Polygons

    rng = np.random.default_rng(3)
    polygons = []
    for _ in range(400):
        n = int(rng.integers(3, 14))
        angles = np.sort(rng.random(n)) * 6.28 if rng.random() < 0.6 else rng.random(n) * 6.28
        polygon = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.integers(20, 40, (n, 1))
        polygons.append(np.round(polygon).reshape(-1).tolist())
    expected = [crosses_by_fractions(polygon) for polygon in polygons]
    assert 50 < sum(expected) < 350
    assert Polygons(polygons).crossing().tolist() == expected
    square = np.array([1e6, 1e6] * 4) + [0, 0, 0, 3, 2, 3, 2, 0]
    assert Polygons([square.tolist(), polygons[0]]).areas()[0] == 6


# --- registered data sets ------------------------------------------------------------------------


def test_a_whole_data_set_passes_and_is_counted(shapes):
    assert len(check_dataset("shapes_train", Use()).content["images"]) == 12
    assert len(check_dataset("shapes_val", Use(evaluation=True)).content["images"]) == 6


def test_real_coco_images_pass(shared):
    root = shared / "datasets" / "coco"
    for split in ("train", "val"):
        json_file = root / "annotations" / f"instances_{split}2017.json"
        found = checked(split, json_file, root / f"{split}2017", Use(thorough=True, masks=True))
        assert codes(found) == {}
        assert found.content == json.loads(json_file.read_text())
        assert len(found.content["images"]) == 80


def test_unknown_names_get_near_ones():
    with pytest.raises(
        ValueError, match=r"no data set 'coco_2017_vall'; near it are coco_2017_val"
    ):
        check_dataset("coco_2017_vall", Use())


def test_absent_shapes_say_how_to_make_them(tmp_path, data_root):
    register_shapes(tmp_path / "nowhere")
    try:
        found = check_dataset("shapes_val", Use())
        with pytest.raises(DataError, match=r"python -m dnl_det shapes --output"):
            raise_errors([found.report])
    finally:
        register_shapes(data_root)


def test_other_classes_than_a_data_set_is_known_for(data):
    from detectron2.data.datasets import register_coco_instances

    classes = {"thing_classes": ["cat", "cow"]}
    register_coco_instances("mine", classes, str(data.write()), str(data.images))
    try:
        found = check_dataset("mine", Use())
    finally:
        DatasetCatalog.remove("mine")
    assert codes(found, "error") == {"categories-differ": 1}


# --- the report ----------------------------------------------------------------------------------


def test_all_is_told_at_once_with_counts_and_examples(data):
    for k in range(9, 30):
        data.annotations.append(annotation(k, 1, 7, SECOND))
    data.file(2).unlink()
    data.file(3).write_bytes(b"")
    found = check(data, evaluation=True)
    text = found.report.text(examples=2)
    assert re.search(r"error    image-missing x 1: .*\n +image 2, 2.png", text)
    assert re.search(r"error    image-zero-bytes x 1: .*\n +image 3, 3.png", text)
    assert "skipped  annotation-category-unknown x 21: " in text
    assert "annotation 10, image 1: category_id 7" in text
    assert "annotation 11, " not in text
    assert "... and 19 more" in text
    assert "2 error, 25 skipped, 0 repaired" in text
    content = found.report.as_json()
    (unknown,) = (f for f in content["findings"] if f["code"] == "annotation-category-unknown")
    assert unknown["count"] == len(unknown["where"]) == 21
    assert unknown["where"][20] == {
        "annotation_id": 29,
        "image_id": 1,
        "detail": "category_id 7",
    }
    json.dumps(content)
    with pytest.raises(DataError, match="image-missing") as error:
        raise_errors([found.report])
    assert "image-zero-bytes" in str(error.value)


def test_every_code_is_documented(root):
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", (root / "docs" / "DATA.md").read_text(), re.M)
    assert sorted(rows) == sorted(FAULTS)
