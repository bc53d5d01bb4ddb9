"""What a detector makes of each cue of Shapes: a relation, one cue of the image, or nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.dataset_mapper import DatasetMapper

from dnl_det.data.own_data import use_own_data
from dnl_det.data.shapes import ENDINGS_OF_CUE, OUTLINES_OF_CUE, THING_CLASSES
from dnl_det.engine import Predictor, fall_back_to_cpu, load_config

CUES = {
    "tag": "tag classes (a relation)",
    "beacon": "beacon classes (one cue for all)",
    "plain": "plain classes (no context)",
}
# Of each class whose outline has two: the cue that decides, and the other one.
PAIRS = {
    name: (cue, other)
    for cue, outlines in OUTLINES_OF_CUE.items()
    for outline in outlines
    for name, other in permutations([outline + ending for ending in ENDINGS_OF_CUE[cue]], 2)
}


def ap_by_cue(results: Mapping[str, float], task: str) -> dict[str, float]:
    """Mean AP over the classes of each of :data:`CUES`, per cent; NaN where there is none.

    Args:
        results: of an evaluation on Shapes, such as ``{"bbox/AP-circle_black": 41.2, ...}``.
        task: ``bbox`` or ``segm``.
    """
    found = {}
    for cue in CUES:
        prefixes = tuple(f"{task}/AP-{outline}" for outline in OUTLINES_OF_CUE[cue])
        values = [value for key, value in results.items() if key.startswith(prefixes)]
        found[cue] = fmean(values) if values else float("nan")
    return found


@torch.no_grad()
def accuracy_by_cue(config_file: str, weights: Path, overrides: Sequence[str]) -> dict[str, float]:
    """How often the true class is likelier than the other of the same outline, given the boxes.

    What AP mixes with finding boxes, and with how often a class stands in the training images, is
    left out: outline and box are given, and the validation images have both classes about equally
    often.

    Args:
        config_file: of a Faster R-CNN.
        weights: a checkpoint.
        overrides: ``KEY, VALUE, ...``, among them the validation data.

    Returns:
        By cue, of those whose outlines have two classes; per cent, 50 being chance. A cue without
        objects is left out.
    """
    cfg = load_config(config_file, [*overrides, "MODEL.WEIGHTS", str(weights)])
    fall_back_to_cpu(cfg)
    use_own_data(cfg)
    model: Any = Predictor(cfg).model
    heads = model.roi_heads
    loader = build_detection_test_loader(
        dataset=get_detection_dataset_dicts(cfg.DATASETS.TEST),
        mapper=DatasetMapper(  # one that keeps the annotations, and changes nothing
            is_train=True, augmentations=[], image_format=cfg.INPUT.FORMAT
        ),
        batch_size=50,
    )
    right = defaultdict(list)
    for batch in loader:
        features = model.backbone(model.preprocess_image(batch).tensor)
        objects = [image["instances"].to(model.device) for image in batch]
        pooled = heads.box_pooler(
            [features[name] for name in heads.box_in_features], [o.gt_boxes for o in objects]
        )
        logits, _ = heads.box_predictor(heads.box_head(pooled))
        classes = torch.cat([o.gt_classes for o in objects])
        for scores, true in zip(logits.tolist(), classes.tolist(), strict=True):
            if pair := PAIRS.get(THING_CLASSES[true]):
                cue, other = pair
                right[cue].append(scores[true] > scores[THING_CLASSES.index(other)])
    return {cue: 100 * fmean(right[cue]) for cue in CUES if right[cue]}
