"""What test-time augmentation can be said not to work for before a run starts."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, SemanticSegmentor

from .rules import is_finite

# Subclasses of GeneralizedRCNN for which detectron2's test-time augmentation is wrong, and why.
_NOT_AUGMENTED = {
    "PanopticFPN": "it merges boxes and masks alone",
    "MMDet1RCNN": "it scales boxes and pastes masks as detectron2 does, not as mmdetection 1.x",
}


def check_test_augmentation(cfg: CfgNode) -> None:
    """Check that there is test-time augmentation for this model, and its keys.

    Detectors have detectron2's ``GeneralizedRCNNWithTTA``, which does not do for all what is meant;
    models of semantic segmentation have ``SemanticSegmentorWithTTA``.

    Raises:
        ValueError: names the key, its value and what to set.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    kind = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    if isinstance(kind, type) and issubclass(kind, SemanticSegmentor):
        scales = cfg.TEST.AUG.SCALES
        if not scales or not all(is_finite(scale) and scale > 0 for scale in scales):
            raise ValueError(
                f"TEST.AUG.SCALES: {scales!r} must be factors of the test size above 0, one or "
                "more, such as [0.5, 1.0, 1.5]"
            )
        return
    why = _NOT_AUGMENTED.get(name)
    if not (isinstance(kind, type) and issubclass(kind, GeneralizedRCNN)):
        why = "it takes GeneralizedRCNN and SemanticSegmentor alone"
    refused = {
        f"MODEL.META_ARCHITECTURE {name}": why,
        "MODEL.ROI_HEADS.NAME RROIHeads": cfg.MODEL.ROI_HEADS.NAME == "RROIHeads"
        and "it turns no rotated boxes back",
        "MODEL.KEYPOINT_ON True": cfg.MODEL.KEYPOINT_ON and "it merges no keypoints",
        "MODEL.LOAD_PROPOSALS True": cfg.MODEL.LOAD_PROPOSALS and "it moves no proposals",
    }
    for keys, reason in refused.items():
        if reason:
            raise ValueError(
                f"TEST.AUG.ENABLED: True is test-time augmentation, which does not work with "
                f"{keys}: {reason}. Set TEST.AUG.ENABLED False"
            )
    sizes = cfg.TEST.AUG.MIN_SIZES
    if not sizes or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"TEST.AUG.MIN_SIZES: {sizes!r} must be the shorter sides of the images in pixels, one "
            "or more, such as (400, 600, 800)"
        )
    if type(largest := cfg.TEST.AUG.MAX_SIZE) is not int or largest < 1:
        raise ValueError(f"TEST.AUG.MAX_SIZE: {largest!r} must be a whole number from 1 on")
