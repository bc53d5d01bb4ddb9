"""Small segmentation models."""

import pytest
from detectron2.config import get_cfg

from dnl_det import add_dnl_config


@pytest.fixture
def small_cfg():
    """``small_cfg(KEY=value, ...)``: a narrow segmentation model; ``__`` for dots in ``MODEL``."""

    def make(**keys):
        cfg = get_cfg()
        add_dnl_config(cfg)
        cfg.merge_from_list(
            [
                *("MODEL.META_ARCHITECTURE", "DNLSemanticSegmentor", "MODEL.DEVICE", "cpu"),
                *("MODEL.BACKBONE.NAME", "build_dnl_resnet_deeplab_backbone"),
                *("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.NORM", "BN"),
                *("MODEL.RESNETS.STEM_TYPE", "deeplab", "MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
                *("MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
                *("MODEL.RESNETS.RES4_DILATION", 2, "MODEL.RESNETS.RES5_DILATION", 4),
                *("MODEL.RESNETS.CONTRACT_DILATION", True),
                *("MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"]),
                *("MODEL.SEM_SEG_HEAD.NAME", "DNLSemSegHead"),
                *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"], "MODEL.SEM_SEG_HEAD.NORM", "BN"),
                *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 8, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5),
            ]
        )
        for key, value in keys.items():
            node, _, leaf = key.replace("__", ".").rpartition(".")
            target = cfg.TEST if key.startswith("TEST") else cfg.MODEL
            for part in filter(None, node.removeprefix("TEST").strip(".").split(".")):
                target = target[part]
            target[leaf] = value
        return cfg

    return make
