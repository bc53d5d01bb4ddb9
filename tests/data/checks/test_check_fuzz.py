"""Whatever a JSON holds: it is reported, never a traceback, and what is left can be used."""

import contextlib
import copy
import io
import json

import pytest
from detectron2.config import get_cfg
from detectron2.data.datasets import load_coco_json
from faulty import HEIGHT, WIDTH, DataSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dnl_det import add_dnl_config
from dnl_det.data import build_mapper
from dnl_det.data.checks import Use, checked

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 1e9, -1e9, 1e308, 10**400, 2**53, 2**63, 0.5, WIDTH, HEIGHT]),
    st.integers(-60, 60),
    st.floats(allow_nan=True, allow_infinity=True),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5))
POLYGONS = st.lists(st.lists(NUMBERS, min_size=4, max_size=9), max_size=3)
RLES = st.fixed_dictionaries(
    {},
    optional={
        "size": st.sampled_from([[HEIGHT, WIDTH], [WIDTH, HEIGHT], [0, 0], [1], None, [10**9] * 2]),
        "counts": st.one_of(
            st.text("0123456789:;<=>?@ABCPQRSTUVWXYZ`abcdefghijklmno", max_size=9),
            st.lists(st.integers(-5, WIDTH * HEIGHT), max_size=5),
            st.just([100, 30, WIDTH * HEIGHT - 130]),
            SCALARS,
        ),
    },
)
VALUES = st.one_of(
    SCALARS,
    POLYGONS,
    RLES,
    st.lists(NUMBERS, max_size=8),
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)
ANYWHERE = st.lists(st.tuples(st.lists(st.integers(0, 99), max_size=6), VALUES), max_size=4)


def put(content, path, value):
    """Put a value where numbers lead: the keys of objects and the entries of lists in turn."""
    holder, key = None, None
    for number in path:
        if isinstance(content, dict) and content:
            holder, key = content, sorted(content)[number % len(content)]
        elif isinstance(content, list) and content:
            holder, key = content, number % len(content)
        else:
            break
        content = holder[key]
    if holder is not None:
        holder[key] = copy.deepcopy(value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    data = DataSet(tmp_path_factory.mktemp("fuzz"))
    for entry in data.content["categories"]:
        entry["supercategory"] = "animal"
    for entry in data.annotations:
        entry["keypoints"] = [9, 9, 2, 12, 12, 1]
    return data


def use(found, file, images, masks):
    """What a training and an evaluation do with it, down to pycocotools."""
    file.write_text(json.dumps(found.content))
    records = load_coco_json(str(file), str(images), "fuzz")
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.MASK_ON = masks
    if found.report.count("repaired", "mask-rle"):
        cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    mapper = build_mapper(cfg, is_train=True)
    for record in records:
        mapper(record)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        detections = [
            {**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 1.0}
            for a in found.content["annotations"]
        ]
        for task in ("bbox", "segm") if masks else ("bbox",):
            if task == "segm":
                detections = [
                    {**d, "segmentation": truth.annToRLE(a)}
                    for d, a in zip(detections, found.content["annotations"], strict=True)
                ]
            evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), task)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    return evaluation.stats


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(changes=ANYWHERE, masks=st.booleans(), evaluation=st.booleans())
def test_anything_is_reported_and_the_rest_can_be_used(sound, changes, masks, evaluation):
    from detectron2.data import MetadataCatalog

    content = copy.deepcopy(sound.content)
    for path, value in changes:
        put(content, path, value)
    sound.json.write_text(json.dumps(content))
    found = checked("fuzz", sound.json, sound.images, Use(evaluation=evaluation, masks=masks))
    found.report.text().encode()
    json.dumps(found.report.as_json()).encode()
    if "annotations" in found.content:
        MetadataCatalog.pop("fuzz", None)
        use(found, sound.json.with_name("repaired.json"), sound.images, masks)
        again = checked(
            "fuzz",
            sound.json.with_name("repaired.json"),
            sound.images,
            Use(evaluation=evaluation, masks=masks),
        )
        assert not again.report.changes_annotations, again.report.text()
