"""Test-time augmentation is refused before the start where it would be wrong or fail at the end."""

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from torch import nn

from dnl_det import add_dnl_config
from dnl_det.engine import Trainer, load_config
from dnl_det.modeling.check_augmentation import check_test_augmentation


@META_ARCH_REGISTRY.register()
class OwnDetectorForAugmentation(GeneralizedRCNN):
    """A user's own one."""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("MODEL.META_ARCHITECTURE RetinaNet", "RetinaNet: it takes GeneralizedRCNN and"),
        ("MODEL.META_ARCHITECTURE FCOS", "FCOS: it takes"),
        ("MODEL.META_ARCHITECTURE ProposalNetwork", "ProposalNetwork: it takes"),
        ("MODEL.META_ARCHITECTURE PanopticFPN", "PanopticFPN: it merges boxes and masks alone"),
        ("MODEL.META_ARCHITECTURE MMDet1RCNN", "MMDet1RCNN: it scales boxes and pastes masks as"),
        ("MODEL.ROI_HEADS.NAME RROIHeads", "RROIHeads: it turns no rotated boxes back"),
        ("MODEL.KEYPOINT_ON True", "KEYPOINT_ON True: it merges no keypoints"),
        ("MODEL.LOAD_PROPOSALS True", "LOAD_PROPOSALS True: it moves no proposals"),
        (
            "MODEL.META_ARCHITECTURE SemanticSegmentor TEST.AUG.SCALES []",
            r"TEST.AUG.SCALES: \[\] must be factors",
        ),
        (
            "MODEL.META_ARCHITECTURE SemanticSegmentor TEST.AUG.SCALES [0,1]",
            r"TEST.AUG.SCALES: \[0, 1\] must be factors",
        ),
        ("TEST.AUG.MIN_SIZES ()", r"TEST.AUG.MIN_SIZES: \(\) must be the shorter sides"),
        ("TEST.AUG.MIN_SIZES (0,)", r"TEST.AUG.MIN_SIZES: \(0,\) must be the shorter sides"),
        ("TEST.AUG.MAX_SIZE 0", "TEST.AUG.MAX_SIZE: 0 must be a whole number"),
    ],
)
def test_what_it_does_not_work_with_is_named(tmp_path, keys, message):
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    words = keys.split(" ")
    load_config(str(tmp_path / "config.yaml"), words)
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / "config.yaml"), [*words, "TEST.AUG.ENABLED", "True"])


@pytest.mark.parametrize("name", ["GeneralizedRCNN", "OwnDetectorForAugmentation"])
def test_what_it_works_with_passes(name):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    check_test_augmentation(cfg)


def test_an_evaluation_from_python_is_refused_too():
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "MMDet1RCNN"
    with pytest.raises(ValueError, match="MMDet1RCNN: it scales boxes"):
        Trainer.test_with_tta(cfg, nn.Identity())
