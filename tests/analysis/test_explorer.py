"""The explorer's page as a file: complete by itself, and what it holds."""

import base64
import io
import json
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dnl_det.analysis.page import GENERATOR, block_names
from dnl_det.analysis.page.detections import describe_detections, mask_rings

from .pages import DNL, NAMES, detections, make_page, picture
from .test_record import RES3, RES4, _detector


def content_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_page_needs_nothing_but_itself(tmp_path):
    page = make_page(tmp_path)[0].read_text()
    assert GENERATOR in page
    assert not re.search(r"\{\{\w+\}\}", page)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_names_cannot_break_out_of_the_page(tmp_path):
    title = "</script><script>alert(1)</script>.jpg"
    page = make_page(tmp_path, title=title, model="<!-- <script>")[0].read_text()
    assert title not in page
    assert page.count("<script") == page.count("</script>") == 4
    assert content_of(page)["title"] == title
    assert [d["label"] for d in content_of(page)["detections"]] == NAMES


def test_the_picture_is_the_image_and_not_larger_than_need_be(tmp_path):
    content = content_of(make_page(tmp_path)[0].read_text())["image"]
    kind, data = content["source"].split(",")
    assert kind == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown, picture())

    page = make_page(tmp_path, picture=(2000, 3200))[0].read_text()
    content = content_of(page)["image"]
    assert (content["width"], content["height"]) == (3200, 2000)
    assert Image.open(io.BytesIO(base64.b64decode(content["source"].split(",")[1]))).size == (
        1600,
        1000,
    )


def test_statistics_and_parameters_of_each_block(tmp_path):
    file, record = make_page(tmp_path, kinds=(DNL, {"name": "gc", "in_channels": 16}))
    first, second = content_of(file.read_text())["blocks"]
    assert (first["kind"], first["mode"], first["gamma"]) == ("dnl", "disentangled", 0.5)
    assert first["positions"] == [24, 40]
    assert (first["keys"]["height"], first["keys"]["width"]) == (23, 38)  # 90 x 150 of 96 x 160
    assert first["statistics"]["gamma"] == 0.5
    assert 0 < first["statistics"]["pairwise_entropy"] < 1
    assert (second["kind"], second["pairwise"], second["hasGamma"]) == ("gc", False, False)
    assert second["statistics"]["pairwise_entropy"] is None
    assert second["uniform"] == 1 / record["layers.3"].key_positions


def test_the_maps_of_all_blocks_share_the_budget(tmp_path):
    def codes(**options):
        page = make_page(tmp_path, **options)[0].read_text()
        steps = [block["step"] for block in content_of(page)["blocks"]]
        return steps, sum(map(len, re.findall(r'id="codes-\d">(.*?)</script>', page)))

    steps, whole = codes()
    assert steps == [[1, 1], [1, 1]]
    steps, size = codes(budget=3 * whole // 5)
    # The small block leaves the large one more than half.
    assert steps == [[1, 2], [1, 1]]
    assert size <= 3 * whole // 5


def test_rings_enclose_the_mask():
    mask = detections().pred_masks[0].numpy()
    rings = mask_rings(mask, 200)
    assert len(rings) == 2  # the disc, and its hole
    drawn = np.zeros(mask.shape, np.uint8)
    polygons = [np.floor(np.reshape(ring, (-1, 2))).astype(np.int32) for ring in rings]
    cv2.fillPoly(drawn, polygons, 1)
    assert (drawn.astype(bool) ^ mask).sum() < 0.06 * mask.sum()
    assert mask_rings(np.zeros((5, 5), bool), 5) == []


def test_detections_best_first_with_their_classes():
    found = detections()
    found.scores = torch.tensor([0.2, 0.7])
    first, second = describe_detections(found, NAMES[:1], 200)
    assert (first["label"], first["score"], first["box"]) == ("class 2", 0.7, [130, 20, 170, 60])
    assert second["label"] == "circle"
    assert first["colour"] != second["colour"]
    found.scores = torch.tensor([0.01, 0.01])
    assert describe_detections(found, NAMES, 200) == describe_detections(None, NAMES, 200) == []


def test_blocks_have_short_names():
    assert block_names(_detector()) == {"res3.0": RES3, "res4.1": RES4}
    assert block_names(torch.nn.Linear(1, 1)) == {}


@pytest.mark.parametrize("gamma", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, gamma):
    with pytest.raises(ValueError, match="not finite"):
        make_page(tmp_path, gamma=gamma)
