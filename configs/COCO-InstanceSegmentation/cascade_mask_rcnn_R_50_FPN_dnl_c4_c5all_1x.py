"""The YAML config of this name in Python."""

from detectron2 import model_zoo

from ..common.attention import put_attention
from .mask_rcnn_R_50_FPN_dnl_c4_c5all_modern_1x import (  # noqa: F401
    dataloader,
    lr_multiplier,
    optimizer,
    train,
)

model = model_zoo.get_config("common/models/cascade_rcnn.py").model
model.backbone.bottom_up.freeze_at = 2
model.proposal_generator.post_nms_topk = (2000, 1000)

put_attention(model)
