"""Panoptic and semantic data: evaluated to the end, and PQ against numbers worked out by hand."""

import json

import numpy as np
import panoptic_data
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.datasets import register_coco_panoptic
from detectron2.structures import Boxes, Instances
from PIL import Image

from dnl_det import add_dnl_config
from dnl_det.analysis import Grid, record_attention
from dnl_det.data import build_mapper
from dnl_det.engine import Trainer
from dnl_det.evaluation import LabelError, build_evaluator
from dnl_det.evaluation.panoptic import PanopticEvaluator, count_segments
from dnl_det.evaluation.panoptic import _mean as mean_quality

COUNT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the panoptic data set is."""
    folder = tmp_path_factory.mktemp("panoptic")
    panoptic_data.write_panoptic(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    """The name of a registered panoptic data set."""
    panoptic_data.register_panoptic("boxes", folder)
    yield "boxes_separated"
    panoptic_data.remove_panoptic("boxes")


@pytest.fixture
def cfg(data, tmp_path):
    """A small Panoptic FPN with attention."""
    cfg = get_cfg()
    add_dnl_config(cfg)
    four = ["res2", "res3", "res4", "res5"]
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.MASK_ON", True),
            *("MODEL.BACKBONE.NAME", "build_dnl_resnet_fpn_backbone"),
            *("MODEL.RESNETS.OUT_FEATURES", four, "MODEL.FPN.IN_FEATURES", four),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.FPN.OUT_CHANNELS", 16),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [128], [256]]),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.NUM_CLASSES", 2),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
            *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
            *("MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 16),
            *("MODEL.SEM_SEG_HEAD.NORM", ""),
            *("MODEL.DNL.RES4", [-2], "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
            *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64),
            *("DATASETS.TRAIN", (data,), "DATASETS.TEST", (data,), "DATALOADER.NUM_WORKERS", 0),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", str(tmp_path)),
            *("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 16, "SEED", 1),
        ]
    )
    return cfg


def perfect(image):
    """What a model that makes no mistake gives for an image."""
    ids = panoptic_data.segments(image)
    found = Instances(ids.shape)
    found.pred_masks = torch.from_numpy(np.stack([ids == 65000, ids == 12]))
    # The polygons of the cat and the dog, which the annotated image cuts nothing off.
    x = 8.0 * image
    found.pred_boxes = Boxes(torch.tensor([[x, 20, x + 24, 50], [56, 10, 80, 40]]))
    found.scores, found.pred_classes = torch.ones(2), torch.tensor([0, 1])
    stuff = np.stack([(ids == 65000) | (ids == 12), ids == 300, ids == 7])
    infos = [
        {"id": 1, "isthing": True, "category_id": 0, "score": 1.0},
        {"id": 2, "isthing": True, "category_id": 1, "score": 1.0},
        {"id": 3, "isthing": False, "category_id": 1, "area": 1},
        {"id": 4, "isthing": False, "category_id": 2, "area": 1},
    ]
    panoptic = np.select([ids == 65000, ids == 12, ids == 300, ids == 7], [1, 2, 3, 4])
    return {
        "instances": found,
        "sem_seg": torch.from_numpy(stuff).float(),
        "panoptic_seg": (torch.from_numpy(panoptic).int(), infos),
    }


def evaluate(cfg, name, model):
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for inputs in build_detection_test_loader(cfg, name, mapper=build_mapper(cfg, is_train=False)):
        evaluator.process(inputs, [model(one) for one in inputs])
    return evaluator.evaluate()


def test_perfect_segments_get_100_everywhere(cfg, data):
    results = evaluate(cfg, data, lambda image: perfect(image["image_id"]))
    assert {round(v, 8) for v in results["panoptic_seg"].values()} == {100}
    assert len(results["panoptic_seg"]) == 9
    assert results["sem_seg"]["mIoU"] == results["sem_seg"]["pACC"] == 100
    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)


def test_semantic_data_have_the_iou_worked_out_by_hand(cfg):
    # All sky: of image 1, 64 x 96 pixels, the last 4 rows count nothing.
    ids = np.stack([panoptic_data.segments(image) for image in range(1, COUNT + 1)])
    all_sky = torch.tensor([0.0, 1, 0])[:, None, None].expand(3, 64, 96)
    results = evaluate(cfg, "boxes_stuffonly", lambda image: {"sem_seg": all_sky})["sem_seg"]
    sky = 100 * (ids == 300).sum() / (COUNT * 60 * 96)
    assert results["IoU-sky"] == pytest.approx(sky)
    assert results["IoU-ground"] == results["IoU-things"] == 0
    assert results["mIoU"] == pytest.approx(sky / 3)
    assert results["pACC"] == pytest.approx(sky)


@pytest.mark.parametrize("library", ["pillow", "opencv"])
def test_panoptic_fpn_trains_and_is_evaluated(cfg, library):
    cfg.INPUT.IMAGE_LIBRARY = library
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = trainer._last_eval_results
    assert set(results) == {"bbox", "segm", "sem_seg", "panoptic_seg"}
    assert 0 <= results["panoptic_seg"]["PQ"] <= 100
    assert results["sem_seg"]["pACC"] > 0


def test_the_semantic_head_may_have_attention_too(cfg):
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NAME, head.IN_FEATURES, head.LOSS_MEAN = "DNLSemSegHead", ["p3", "p2", "p4"], "labelled"
    trainer = Trainer(cfg)
    block = trainer.model.sem_seg_head.attention
    assert block is not None
    before = block.conv_value.weight.detach().clone()
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert not torch.equal(block.conv_value.weight, before)
    results = trainer._last_eval_results
    assert set(results) == {"bbox", "segm", "sem_seg", "panoptic_seg"}
    assert 0 <= results["panoptic_seg"]["PQ"] <= 100
    assert results["sem_seg"]["pACC"] > 0
    with record_attention(trainer.model) as record:
        trainer.model.eval()([{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}])
    assert record["sem_seg_head.attention"].grid == Grid(8, 12, (8, 8))


def grid(*rows):
    return np.array([[int(character) for character in row] for row in rows])


def test_matches_crowds_and_pixels_of_nothing_by_hand():
    annotated = grid("1111122222", "1111122222", "3333344444", "0000044444")
    found = grid("1111112222", "1111112222", "5555566666", "5555566660")
    annotations = [
        {"id": 1, "category_id": 10},
        {"id": 2, "category_id": 10},
        {"id": 3, "category_id": 20},
        {"id": 4, "category_id": 20, "iscrowd": 1},
    ]
    detections = [
        {"id": 1, "category_id": 10},  # 10 of 12 pixels: IoU 10 / 12
        {"id": 2, "category_id": 20},  # 8 of 10, but another category
        {"id": 5, "category_id": 20},  # 5 of 5, and 5 more of nothing: IoU 1
        {"id": 6, "category_id": 20},  # in the crowd
    ]
    counts = count_segments(annotated, annotations, found, detections)
    assert counts == {
        10: {"iou": pytest.approx(10 / 12), "tp": 1, "fp": 0, "fn": 1},
        20: {"iou": 1, "tp": 1, "fp": 1, "fn": 0},
    }


def test_pq_of_counts_by_hand(cfg, data):
    evaluator = PanopticEvaluator(data)
    evaluator.reset()
    cat, sky = panoptic_data.CAT, panoptic_data.SKY
    evaluator._predictions = [
        {cat: {"iou": 1.5, "tp": 2, "fp": 1}, sky: {"fn": 1}},
        {cat: {"iou": 0.6, "tp": 1, "fn": 2}},
    ]
    results = evaluator.evaluate()["panoptic_seg"]
    # SQ 2.1 / 3; RQ 3 / (3 + 0.5 + 1)
    assert results["SQ_th"] == pytest.approx(70)
    assert results["RQ_th"] == pytest.approx(100 * 3 / 4.5)
    assert results["PQ_th"] == pytest.approx(70 * 3 / 4.5)
    assert results["PQ_st"] == 0
    assert results["PQ"] == pytest.approx(35 * 3 / 4.5)  # the mean of two categories


def test_an_image_without_panoptic_annotations_is_named(data):
    evaluator = PanopticEvaluator(data)
    with pytest.raises(ValueError, match=r"panoptic.json has no annotations of image 9 \(a.jpg\)"):
        evaluator.process([{"image_id": 9, "file_name": "a.jpg"}], [{}])


@pytest.mark.parametrize("value", [3, 4, 254, 300])
def test_a_label_that_is_no_class_is_named(cfg, data, tmp_path, value):
    """3 would count as ignored, 4 as another class, and the others crash."""
    file = tmp_path / "labels.png"
    labels = np.full((64, 96), 255, dtype=np.uint16)
    labels[:2], labels[5, 7] = 2, value
    Image.fromarray(labels).save(file)
    evaluator = build_evaluator(cfg, "boxes_stuffonly")
    evaluator.reset()
    evaluator.input_file_to_gt_file = {"a.jpg": str(file)}
    inputs, outputs = [{"file_name": "a.jpg"}], [{"sem_seg": torch.zeros(3, 64, 96)}]
    allowed = "must be from 0 to 2, one of the 3 stuff_classes of 'boxes_stuffonly', or 255"
    with pytest.raises(LabelError, match=rf"labels.png has the label {value}: {allowed}"):
        evaluator.process(inputs, outputs)
    labels[5, 7] = 0
    Image.fromarray(labels).save(file)
    evaluator.process(inputs, outputs)
    assert evaluator._conf_matrix.sum() == labels.size


def test_labels_in_colour_are_named(cfg, data, tmp_path):
    file = tmp_path / "colours.png"
    Image.new("RGB", (96, 64)).save(file)
    evaluator = build_evaluator(cfg, "boxes_stuffonly")
    evaluator.reset()
    evaluator.input_file_to_gt_file = {"a.jpg": str(file)}
    with pytest.raises(LabelError, match=r"colours.png is an image of mode RGB: .* must have one"):
        evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": torch.zeros(3, 64, 96)}])


@pytest.mark.parametrize("instances", [True, False])
def test_panoptic_data_without_semantic_labels_end_with_what_to_use(cfg, folder, instances):
    name = "boxes_standard"
    arguments = panoptic_data.METADATA, *(str(folder / n) for n in ("images", "panoptic"))
    truth = str(folder / "instances.json") if instances else None
    register_coco_panoptic(name, *arguments, str(folder / "panoptic.json"), truth)
    cfg.DATASETS.TEST = (name,)
    try:
        with pytest.raises(
            SystemExit,
            match="^error: data set 'boxes_standard' has images without "
            "'sem_seg_file_name'.* use 'boxes_standard_separated'",
        ):
            Trainer.test(cfg, Trainer.build_model(cfg))
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_pq_is_that_of_an_independent_library(tmp_path):
    """Random regions, some crowds and some pixels of nothing, against hotcoco's numbers."""
    hotcoco = pytest.importorskip("hotcoco.panoptic")
    generator = np.random.default_rng(0)
    contents: dict = {"gt": [], "found": []}
    counts: dict = {}
    for image in range(12):
        truth = np.kron(generator.integers(0, 6, (4, 5)), np.ones((8, 8), int))
        moved = np.roll(truth, generator.integers(-3, 4, 2), axis=(0, 1))
        found = np.where(generator.random(truth.shape) < 0.1, generator.integers(0, 6), moved)
        infos = []
        for kind, ids in (("gt", truth), ("found", found)):
            segments = [
                {
                    **{"id": int(k), "category_id": int(k) % 3 + 1, "iscrowd": 0},
                    "area": int((ids == k).sum()),
                }
                for k in np.unique(ids[ids > 0])
            ]
            if kind == "gt" and image % 4 == 0:
                segments[0]["iscrowd"] = 1
            (tmp_path / kind).mkdir(exist_ok=True)
            colors = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=2)
            Image.fromarray(colors.astype(np.uint8)).save(tmp_path / kind / f"{image}.png")
            entry = {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
            contents[kind].append(entry)
            infos.append(segments)
        for category, one in count_segments(truth, infos[0], found, infos[1]).items():
            known = counts.setdefault(category, dict.fromkeys(one, 0))
            counts[category] = {key: known[key] + one[key] for key in one}

    categories = [{"id": k, "name": str(k), "isthing": int(k > 1)} for k in (1, 2, 3)]
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 32, "width": 40} for k in range(12)]
    for kind, annotations in contents.items():
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{kind}.json").write_text(json.dumps(content))
    theirs = hotcoco.pq_compute(str(tmp_path / "gt.json"), str(tmp_path / "found.json"))
    for group, members in (("All", [1, 2, 3]), ("Things", [2, 3]), ("Stuff", [1])):
        pq, sq, rq = mean_quality(counts[k] for k in members)
        assert [theirs[group][key] for key in ("pq", "sq", "rq")] == pytest.approx(
            [pq / 100, sq / 100, rq / 100], abs=1e-12
        )
        assert 0.05 < theirs[group]["pq"] < 0.95
