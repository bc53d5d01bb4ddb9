"""Mask R-CNN that trains, and reports detections, as mmdetection 1.x does.

detectron2 suppresses overlapping boxes in the resized image and scales the survivors to the
original. mmdetection 1.x scales all boxes first, so that their overlap counts original pixels,
and pastes masks of whole pixels. The detections differ in which boxes survive and by fractions of
a pixel.

Legend: R: regions of one image, K: classes, D: detections, (h, w): the original image's size.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import batched_nms, shapes_to_tensor
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .initialisation import initialise
from .masks import paste_masks
from .resizing import resize_scale
from .roi_heads import MMDet1ROIHeads
from .rpn import MMDet1RPN, clip_to_pixels

# The field of Instances with the inclusive boxes in the original image.
_ORIGINAL = "original_boxes"


@META_ARCH_REGISTRY.register()
class MMDet1RCNN(GeneralizedRCNN):
    """``GeneralizedRCNN`` with the training and the inference of mmdetection 1.x.

    It is trained by :class:`MMDet1RPN` and :class:`MMDet1ROIHeads`, which stand for the config's
    ``RPN`` and ``StandardROIHeads``, on boxes resized as :class:`InclusiveResize` does, and starts
    with the values of :func:`initialise`.

    In inference, for an image resized by ``s``, with inclusive corners:

    1. boxes / s; class-wise suppression and the best ``TEST.DETECTIONS_PER_IMAGE`` of these;
    2. masks from the features under the survivors * s;
    3. reported are the survivors in original pixels, and their 28 x 28 probabilities resized
       bilinearly by OpenCV to the whole pixels of the box, ``> 0.5``.

    Args:
        min_size: of the test images, ``INPUT.MIN_SIZE_TEST``. With ``max_size`` it gives the
            resized sides; ``s`` is their ratio to the original's, before they are rounded. An
            image that was resized otherwise is scaled by the ratio of each side.
        max_size: ``INPUT.MAX_SIZE_TEST``.
        kwargs: see ``GeneralizedRCNN``.

    Raises:
        ValueError: another proposal generator, or other heads.
    """

    @configurable
    def __init__(self, *, min_size: int, max_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        for key, part, kind in (
            ("PROPOSAL_GENERATOR", self.proposal_generator, MMDet1RPN),
            ("ROI_HEADS", self.roi_heads, MMDet1ROIHeads),
        ):
            if not isinstance(part, kind):
                raise ValueError(
                    f"MODEL.{key}.NAME: {type(part).__name__} does not compute as mmdetection 1.x: "
                    f"take {kind.__name__}, or set MODEL.META_ARCHITECTURE to GeneralizedRCNN"
                )
        initialise(self)
        self.min_size, self.max_size = min_size, max_size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        cfg = cfg.clone()
        cfg.defrost()
        for node, theirs, ours in (
            (cfg.MODEL.PROPOSAL_GENERATOR, "RPN", MMDet1RPN),
            (cfg.MODEL.ROI_HEADS, "StandardROIHeads", MMDet1ROIHeads),
        ):
            if node.NAME == theirs:
                node.NAME = ours.__name__
        return {
            **super().from_config(cfg),
            "min_size": cfg.INPUT.MIN_SIZE_TEST,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
        }

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """As ``GeneralizedRCNN.inference``.

        Returns:
            ``[{"instances": Instances}]``, boxes and masks ``(R, h, w)`` in the original image;
            without ``do_postprocess`` ``[Instances]`` in the resized one, masks ``(R, 1, 28, 28)``.

        Raises:
            ValueError: masks of the original image in a trace.
        """
        if detected_instances is not None:  # boxes from elsewhere, such as augmented images
            return super().inference(batched_inputs, detected_instances, do_postprocess)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        scales = [
            self._scale(size, inputs, images.tensor.device)
            for size, inputs in zip(images.image_sizes, batched_inputs, strict=True)
        ]
        found = self._detect_boxes(features, proposals, scales)
        found = self.roi_heads.forward_with_given_boxes(features, found)
        if not do_postprocess:
            for instances in found:
                instances.remove(_ORIGINAL)
            return found
        return [
            {"instances": _report(instances, instances.get(_ORIGINAL), *_size(instances, inputs))}
            for instances, inputs in zip(found, batched_inputs, strict=True)
        ]

    def _detect_boxes(
        self, features: dict[str, Tensor], proposals: list[Instances], scales: list[Tensor]
    ) -> list[Instances]:
        """The box head's detections in the resized image, and their boxes in the original."""
        heads = self.roi_heads
        levels = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(levels, [p.proposal_boxes for p in proposals])
        predictions = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_predictor.predict_boxes(predictions, proposals)
        probabilities = heads.box_predictor.predict_probs(predictions, proposals)
        return [
            self._suppress(b, p, scale, image.image_size)
            for b, p, scale, image in zip(boxes, probabilities, scales, proposals, strict=True)
        ]

    def _suppress(
        self, boxes: Tensor, probabilities: Tensor, scale: Tensor, image_size: tuple[int, int]
    ) -> Instances:
        # boxes: (R, K * 4), or (R, 4) if they are class-agnostic; probabilities: (R, K + 1)
        predictor = self.roi_heads.box_predictor
        finite = boxes.isfinite().all(dim=1) & probabilities.isfinite().all(dim=1)
        scores = probabilities[:, :-1]
        region, label = ((scores > predictor.test_score_thresh) & finite[:, None]).nonzero().T
        scores = scores[region, label]
        boxes = boxes.unflatten(1, (-1, 4))  # (R, K or 1, 4)
        resized = boxes[region, label if boxes.shape[1] > 1 else 0]  # (D, 4)
        resized = clip_to_pixels(resized, shapes_to_tensor(list(image_size)).to(resized))

        last = scale.new_tensor([0, 0, 1, 1])
        original = (resized - last) / scale  # inclusive
        keep = batched_nms(original + last, scores, label, predictor.test_nms_thresh)
        keep = keep[: predictor.test_topk_per_image]
        instances = Instances(image_size)
        instances.pred_boxes = Boxes(original[keep] * scale + last)
        instances.scores = scores[keep]
        instances.pred_classes = label[keep]
        instances.set(_ORIGINAL, original[keep])
        return instances

    def _scale(
        self, image_size: tuple[int, int], inputs: dict[str, Any], device: torch.device
    ) -> Tensor:
        """Resized / original, for x1, y1, x2, y2: given, or from ``height`` and ``width``."""
        if "scale" in inputs:  # in a graph for any of them
            return inputs["scale"].to(device)
        original = inputs.get("height", image_size[0]), inputs.get("width", image_size[1])
        return box_scale(original, image_size, self.min_size, self.max_size).to(device)


def box_scale(
    original: tuple[int, int], resized: tuple[int, int], min_size: int, max_size: int
) -> Tensor:
    """``s`` of :class:`MMDet1RCNN`, float32 ``(4,)``, for x1, y1, x2, y2.

    Args:
        original: height and width in pixels.
        resized: the same.
        min_size: see :class:`MMDet1RCNN`.
        max_size: see :class:`MMDet1RCNN`.
    """
    y, x = resize_scale(original, resized, (min_size,), max_size)
    return torch.tensor([x, y, x, y], dtype=torch.float32)


def in_original_image(instances: Instances, scale: Tensor, h: int, w: int) -> Instances:
    """What :class:`MMDet1RCNN` reports of its detections without post-processing.

    Args:
        instances: in the resized image.
        scale: see :func:`box_scale`.
        h: the original image's height in pixels.
        w: its width.
    """
    last = scale.new_tensor([0, 0, 1, 1])
    return _report(instances, (instances.pred_boxes.tensor - last) / scale, h, w)


def _size(instances: Instances, inputs: dict[str, Any]) -> tuple[int, int]:
    h, w = instances.image_size
    return inputs.get("height", h), inputs.get("width", w)


def _report(instances: Instances, inclusive: Tensor, h: int, w: int) -> Instances:
    result = Instances((h, w))
    result.pred_boxes = Boxes(inclusive + inclusive.new_tensor([0, 0, 1, 1]))
    result.scores = instances.scores
    result.pred_classes = instances.pred_classes
    if instances.has("pred_masks"):
        if torch.jit.is_tracing():
            raise ValueError(
                "MMDet1RCNN pastes masks by OpenCV, which a trace cannot record: trace "
                "model.inference(..., do_postprocess=False), or set MODEL.META_ARCHITECTURE: "
                "GeneralizedRCNN"
            )
        probabilities = instances.pred_masks[:, 0]  # (R, 28, 28)
        result.pred_masks = paste_masks(probabilities, inclusive, h, w)
    if instances.has("pred_keypoints"):  # (R, K, 3): x, y, score; points have no last pixel
        height, width = instances.image_size
        scale = inclusive.new_tensor([w / width, h / height, 1])
        result.pred_keypoints = instances.pred_keypoints * scale
    return result
