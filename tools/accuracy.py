"""Which of an outline's two classes a detector prefers, given the true boxes of Shapes."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.dataset_mapper import DatasetMapper

from dnl_det.data.options import ENDINGS_OF_CUE, OUTLINES_OF_CUE, THING_CLASSES
from dnl_det.data.own_data import use_own_data
from dnl_det.engine import Predictor, fall_back_to_cpu, load_config

_IMAGES_AT_ONCE = 50


@torch.no_grad()
def accuracy_by_cue(config_file: str, weights: Path, overrides: Sequence[str]) -> dict[str, float]:
    """How often the true class is likelier than the other of the same outline.

    What AP mixes with finding boxes, and with how often a class stands in the training images, is
    left out: outline and box are given, and the validation images have both classes about equally
    often.

    Args:
        config_file: of a Faster R-CNN.
        weights: a checkpoint.
        overrides: ``KEY, VALUE, ...``, among them the validation data.

    Returns:
        By cue, of those whose outlines have two classes; per cent, 50 being chance. NaN where
        there is no such object.
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
        batch_size=_IMAGES_AT_ONCE,
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
            if pair := _pair(THING_CLASSES[true]):
                cue, other = pair
                right[cue].append(scores[true] > scores[THING_CLASSES.index(other)])
    return {
        cue: 100 * sum(right[cue]) / len(right[cue]) if right[cue] else float("nan")
        for cue, endings in ENDINGS_OF_CUE.items()
        if len(endings) == 2
    }


def _pair(name: str) -> tuple[str, str] | None:
    """The cue of a class, and the other class of its outline; None where there is none."""
    for cue, outlines in OUTLINES_OF_CUE.items():
        for outline in outlines:
            names = [outline + ending for ending in ENDINGS_OF_CUE[cue]]
            if name in names and len(names) == 2:
                return cue, names[1 - names.index(name)]
    return None
