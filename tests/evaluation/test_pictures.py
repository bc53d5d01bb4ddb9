"""Drawn pictures show what they were given, where it is."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, Instances
from detectron2.utils import logger

from dnl_det.evaluation.pictures import draw_annotations, draw_detections, draw_labels

BLANK = np.full((96, 160, 3), 200, dtype=np.uint8)


def instances(scores):
    result = Instances((96, 160))
    result.pred_boxes = Boxes(torch.tensor([[40.0, 30.0, 80.0, 70.0]] * len(scores)))
    result.scores = torch.tensor(scores)
    result.pred_classes = torch.zeros(len(scores), dtype=torch.long)
    result.pred_masks = torch.zeros(len(scores), 96, 160, dtype=torch.bool)
    result.pred_masks[:, 35:65, 45:75] = True
    return result


@pytest.mark.parametrize(("score", "drawn"), [(0.6, True), (0.4, False)])
def test_detections_above_the_threshold_are_drawn_where_they_are(score, drawn):
    metadata = MetadataCatalog.get("shapes_val")
    picture = draw_detections(BLANK, instances([score]), metadata, threshold=0.5)
    assert picture.shape == (480, 800, 3)
    changed = (picture != 200).any(axis=2)
    assert changed[5 * 50, 5 * 60] == drawn, "the middle of the mask"
    assert changed.any() == drawn
    assert not changed[:, 5 * 110 :].any()


def test_no_detections_and_no_annotations_leave_the_image():
    metadata = MetadataCatalog.get("shapes_val")
    for picture in (
        draw_detections(BLANK, instances([]), metadata, threshold=0.0),
        draw_annotations(BLANK, {"annotations": []}, metadata),
    ):
        assert (picture == 200).all()


def test_annotations_are_drawn_where_they_are(shapes):
    record = DatasetCatalog.get("shapes_val")[0]
    image = read_image(record["file_name"], format="BGR")
    metadata = MetadataCatalog.get("shapes_val")
    picture = draw_annotations(image, record, metadata).astype(int)
    plain = draw_annotations(image, {"annotations": []}, metadata).astype(int)
    changed = (np.abs(picture - plain) > 8).any(axis=2)
    for annotation in record["annotations"]:
        x, y, width, height = (3.75 * side for side in annotation["bbox"])
        inside = changed[int(y) : int(y + height), int(x) : int(x + width)]
        assert inside.mean() > 0.2


def drawn_width(name):
    """Pixels that a detection with this class name takes of a picture 800 wide."""
    metadata = Metadata(name="named", thing_classes=[name])
    picture = draw_detections(BLANK, instances([0.6]), metadata, threshold=0.5)
    return np.ptp(np.flatnonzero((picture != 200).any(axis=(0, 2))))


def test_dollars_are_drawn_and_are_no_mathematics():
    assert drawn_width("$mmmmmmmm$") > drawn_width("mmmmmmmm") + 20
    for broken in (r"$\frac{1}{$", "a $x^{2$ b_c", "$$"):
        drawn_width(broken)


def test_a_long_name_is_shortened_on_the_picture():
    assert drawn_width("long " * 40) < 400


def test_characters_without_a_glyph_are_one_warning(recwarn, caplog, monkeypatch):
    monkeypatch.setattr(logger, "_LOG_COUNTER", logger.Counter())
    for name in ("\U00020000", "\U00020001\U00020002", "\x00\n\ud800", "cat"):
        drawn_width(name)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    (message,) = caplog.messages
    assert "lacks characters of class names" in message


COLORS = [(0, 0, 0), (250, 0, 0), (0, 0, 250)]


@pytest.mark.parametrize("given", [True, False])
def test_labels_are_drawn_where_they_are_in_their_colours(given):
    colors = {"stuff_colors": COLORS} if given else {}
    metadata = Metadata(name="named", stuff_classes=["$_{", "long " * 40, "never"], **colors)
    labels = np.full((96, 160), 255)
    labels[:48, :80], labels[48:, 80:] = 0, 1
    picture = draw_labels(BLANK, labels, metadata)
    assert picture.shape == (480, 800, 3)
    first, second = picture[20, 20], picture[460, 780]
    for nothing in (picture[20, 780], picture[460, 20]):
        assert (nothing == 200).all()
    assert np.abs(first.astype(int) - second).max() > 30
    assert (draw_labels(BLANK, labels, metadata) == picture).all()
    if given:
        assert np.allclose(first, (100, 100, 100), atol=2)
        assert np.allclose(second, (225, 100, 100), atol=2)


def test_the_name_of_a_label_is_on_it():
    labels = np.zeros((96, 160), dtype=int)
    pictures = [
        draw_labels(BLANK, labels, Metadata(name="named", stuff_classes=[name]))
        for name in ("mmmm", "mmmmmmmmmmmm")
    ]
    changed = (pictures[0] != pictures[1]).any(axis=2)
    assert changed[200:280, 300:500].any()
    assert not changed[:100].any()
