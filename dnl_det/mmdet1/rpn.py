"""The region proposal network as mmdetection 1.x trains it.

Legend: N: images, A: anchors of all levels, (h, w): an image's size.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, shapes_to_tensor
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from .matching import MMDet1Matcher


@PROPOSAL_GENERATOR_REGISTRY.register()
class MMDet1RPN(RPN):
    """``RPN`` with the targets, the losses and the proposals of mmdetection 1.x.

    1. Anchors are matched by :class:`MMDet1Matcher`, those inside the image alone: an object's
       best anchor is the best of these.
    2. An anchor is inside with ``x1, y1 >= -b``, ``x2 - 1 < w + b`` and ``y2 - 1 < h + b``, where
       ``b`` is ``MODEL.RPN.BOUNDARY_THRESH``; below 0 all are.
    3. Both losses are divided by the number of anchors sampled in the batch,
       ``sum_n max(positive_n, 1) + max(negative_n, 1)``.
    4. Proposals are clipped to the image's pixels: ``x1`` to between 0 and ``w - 1``, ``x2`` to
       between 1 and ``w``, likewise for ``h``.

    The anchors are sampled as in detectron2. Args: see ``RPN``.
    """

    @configurable
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        matcher = MMDet1Matcher(cfg.MODEL.RPN.IOU_THRESHOLDS, cfg.MODEL.RPN.IOU_LABELS)
        return {**super().from_config(cfg, input_shape), "anchor_matcher": matcher}

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As in ``RPN``: of each image, labels ``(A,)`` and the matched boxes ``(A, 4)``."""
        boxes = Boxes.cat(anchors).tensor
        all_labels, all_matched = [], []
        for targets in gt_instances:
            objects = targets.gt_boxes
            inside = self._inside(boxes, *targets.image_size).nonzero()[:, 0]
            overlaps = retry_if_cuda_oom(pairwise_iou)(objects, Boxes(boxes[inside]))
            matches, labels_inside = retry_if_cuda_oom(self.anchor_matcher)(overlaps)
            labels = labels_inside.new_full((len(boxes),), -1, device=boxes.device)
            labels[inside] = labels_inside.to(boxes.device)
            all_labels.append(self._subsample_labels(labels))
            matched = torch.zeros_like(boxes, dtype=objects.tensor.dtype)
            if len(objects) > 0:
                matched[inside] = objects.tensor[matches.to(boxes.device)]
            all_matched.append(matched)
        return all_labels, all_matched

    def _inside(self, boxes: Tensor, h: int, w: int) -> Tensor:
        border = self.anchor_boundary_thresh
        if border < 0:
            return torch.ones_like(boxes[:, 0], dtype=torch.bool)
        first = (boxes[:, :2] >= -border).all(dim=1)
        last = (boxes[:, 2:] - 1 < boxes.new_tensor([w, h]) + border).all(dim=1)
        return first & last

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """As in ``RPN``, divided by the number of sampled anchors."""
        losses = super().losses(
            anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes
        )
        labels = torch.stack(gt_labels)  # (N, A)
        sampled = sum((labels == kind).sum(dim=1).clamp(min=1).sum() for kind in (0, 1))
        factor = self.batch_size_per_image * len(labels) / sampled
        return {name: loss * factor for name, loss in losses.items()}

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """As in ``RPN``, clipped to the pixels of each image."""
        with torch.no_grad():  # the heads take the proposals as given
            decoded = self._decode_proposals(anchors, pred_anchor_deltas)
            sizes = torch.stack([shapes_to_tensor(list(size)) for size in image_sizes])
            sizes = sizes.to(decoded[0])[:, None]  # (N, 1, 2)
            proposals = [
                # Infinite ones stay: they are found below, and end the training.
                clip_to_pixels(level, sizes).where(level.isfinite(), level)
                for level in decoded
            ]
            return find_top_rpn_proposals(
                proposals,
                pred_objectness_logits,
                image_sizes,
                self.nms_thresh,
                self.pre_nms_topk[self.training],
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )


def clip_to_pixels(boxes: Tensor, size: Tensor) -> Tensor:
    """Clip boxes so that the first and the last pixel of each are in the image.

    Args:
        boxes: ``(..., 4)``, x1, y1, x2, y2 in pixels, exclusive.
        size: ``(..., 2)``, the image's height and width.
    """
    sides = size.flip(-1)
    return boxes.clamp(sides.new_tensor([0, 0, 1, 1]), torch.cat([sides - 1, sides], dim=-1))
