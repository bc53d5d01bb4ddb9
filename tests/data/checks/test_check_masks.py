"""Boxes and masks that cannot be used, and what becomes of them."""

import numpy as np
import pytest
from faulty import HEIGHT, SQUARE, WIDTH, check, codes, only
from pycocotools import mask as mask_util

from dnl_det.data.checks import Use, checked
from dnl_det.data.checks.polygons import Polygons
from dnl_det.data.checks.run_length import runs_of

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


@pytest.mark.parametrize("bad", [None, "x", [1, 2], [1, 2, "2"], [1, 2, [2]], [1, 2, 10**400], 5])
def test_keypoints_that_cannot_be_loaded_are_dropped(data, bad):
    data.annotations[0]["keypoints"] = [3, 4, 2, 0, 0, 0]
    assert not check(data).report.findings
    data.annotations[0]["keypoints"] = bad
    found = check(data)
    assert codes(found) == {"keypoints": 1}
    assert "keypoints" not in found.content["annotations"][0]


@pytest.mark.parametrize("area", [None, "9", float("nan"), float("inf"), [3]])
def test_areas_are_of_masks(data, area):
    data.annotations[0].update(area=area, segmentation=[[8, 6, 24, 6, 24, 22]])
    found = check(data)
    assert codes(found) == {"area": 1}
    assert found.content["annotations"][0]["area"] == 128


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
