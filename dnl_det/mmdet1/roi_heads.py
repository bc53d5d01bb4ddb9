"""The box and mask heads as mmdetection 1.x trains them."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances
from torch import Tensor

from .masks import PixelMasks
from .matching import MMDet1Matcher


class MMDet1ROIAlign(ROIAlign):
    """RoIAlign without the half pixel's shift, with boxes smaller than a cell as they are.

    detectron2's ``ROIAlign`` without that shift enlarges a side below one cell to one; the one
    with it does not. This is the latter on boxes moved by the half cell that it takes off.
    """

    def __init__(self, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int):
        super().__init__(output_size, spatial_scale, sampling_ratio, aligned=True)

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """As in ``ROIAlign``: ``(N, C, H, W)`` and ``(R, 5)`` to ``(R, C, h, w)``."""
        half = 0.5 / self.spatial_scale
        return super().forward(input, rois + rois.new_tensor([0, half, half, half, half]))


@ROI_HEADS_REGISTRY.register()
class MMDet1ROIHeads(StandardROIHeads):
    """``StandardROIHeads`` with the matching, the pooling and the mask targets of mmdetection 1.x.

    1. Proposals are matched by :class:`MMDet1Matcher`, and the objects added to them with
       themselves.
    2. ``POOLER_TYPE: ROIAlign`` pools by :class:`MMDet1ROIAlign`.
    3. Masks are cropped as :class:`PixelMasks` does.

    Args: see ``StandardROIHeads``.
    """

    @configurable
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        arguments = super().from_config(cfg, input_shape)
        for pooler in arguments.values():
            if isinstance(pooler, ROIPooler):
                _leave_tiny_boxes(pooler)
        heads = cfg.MODEL.ROI_HEADS
        matcher = MMDet1Matcher(
            heads.IOU_THRESHOLDS, heads.IOU_LABELS, with_objects=heads.PROPOSAL_APPEND_GT
        )
        return {**arguments, "proposal_matcher": matcher}

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As in ``StandardROIHeads``, the targets' masks as :class:`PixelMasks`."""
        for image in targets:
            if image.has("gt_masks"):
                image.gt_masks = PixelMasks.of(image.gt_masks, *image.image_size)
        return super().label_and_sample_proposals(proposals, targets)


def _leave_tiny_boxes(pooler: ROIPooler) -> None:
    for i, align in enumerate(pooler.level_poolers):
        if isinstance(align, ROIAlign) and not align.aligned:
            pooler.level_poolers[i] = MMDet1ROIAlign(
                align.output_size, align.spatial_scale, align.sampling_ratio
            )
