"""Areas that no mask and no box can have move objects between small, medium and large."""

import json

import pytest
from faulty import SQUARE, check, codes, only

from dnl_det.data.checks import Report
from dnl_det.data.checks.boxes import check_area
from dnl_det.data.checks.masks import Item, check_masks

OVERLAPPING = [12.0, 6.0, 28.0, 6.0, 28.0, 22.0, 12.0, 22.0]  # SQUARE and 4 columns more


@pytest.mark.parametrize("area", [0, 1, 126, 600, 25_600])
@pytest.mark.parametrize("masks", [None, False])
def test_an_area_that_the_mask_cannot_have_is_replaced(data, area, masks):
    data.annotations[0]["area"] = area
    found = check(data, masks=masks)
    assert codes(found) == {"area-implausible": 1}
    assert only(found, "area-implausible").detail == f"area {area}, now 256"
    assert found.content["annotations"][0]["area"] == 256


@pytest.mark.parametrize("area", [128, 256, 512])
def test_rounding_and_other_ways_of_counting_are_left(data, area):
    data.annotations[0]["area"] = area
    assert not check(data).report.findings


@pytest.mark.parametrize(("area", "wanted"), [(0, 256), (1.0, 256), (25_600, 256), (9, 9)])
def test_without_a_mask_the_box_decides(data, area, wanted):
    data.annotations[0].update(area=area)
    del data.annotations[0]["segmentation"]
    found = check(data, masks=False)
    assert codes(found) == ({} if area == wanted else {"area-implausible": 1})
    assert found.content["annotations"][0]["area"] == wanted


def test_polygons_that_overlap_count_once_where_there_is_no_area(data):
    data.annotations[0].update(segmentation=[SQUARE, OVERLAPPING], area=None)
    data.annotations[2].update(segmentation=[SQUARE, OVERLAPPING], area=512)  # as COCO counts
    data.annotations[4].update(segmentation=[SQUARE] * 5, area=256)
    found = check(data)
    assert codes(found) == {"area": 1}
    assert [a["area"] for a in found.content["annotations"][:5:2]] == [320, 512, 256]


def test_other_tools_areas_of_boxes_are_left(data):
    thin = [8.0, 6.0, 10.0, 6.0, 24.0, 22.0, 22.0, 22.0]
    data.annotations[0].update(segmentation=[thin], area=256)
    assert not check(data).report.findings


def test_what_crosses_itself_or_the_edge_has_the_area_of_its_pixels(data):
    eight = [8, 6, 24, 22, 24, 6, 8, 22]
    beyond = [40, 6, 80, 6, 80, 22, 40, 22]
    for index, mask in ((0, eight), (2, beyond)):
        data.annotations[index].update(segmentation=[mask], area=None, bbox=None)
    found = check(data).content["annotations"]
    assert found[0]["area"] == pytest.approx(128, abs=16)
    assert found[2]["area"] == 8 * 16


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_s_own_areas_are_all_left(shared, split):
    content = json.loads(
        (shared / f"datasets/coco/annotations/instances_{split}2017.json").read_text()
    )
    images = {image["id"]: image for image in content["images"]}
    report = Report("coco")
    items = [Item(a, images[a["image_id"]], report) for a in content["annotations"]]
    check_masks(items, crossings=False)
    for item in items:
        check_area(item)
    boxes = [Item(dict(i.annotation, segmentation=None), i.image, report) for i in items]
    for item in boxes:
        check_area(item)
    assert len(items) > 700
    assert not report.count("repaired")
