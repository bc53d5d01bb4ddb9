"""One graph of a detector that holds for images of any size.

detectron2 is written for ``torch.jit``: its shapes become tensors there. ``torch.export`` keeps
them as symbols, and refuses to branch on the number of boxes. :func:`capture` takes these branches
for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.ops import nms

# A graph's outputs, in their order, and the fields of Instances.
OUTPUTS = {
    "boxes": "pred_boxes",
    "scores": "scores",
    "classes": "pred_classes",
    "masks": "pred_masks",
}
_ROI_HEADS, _META_ARCH = "detectron2.modeling.roi_heads", "detectron2.modeling.meta_arch"
_PROPOSALS = "detectron2.modeling.proposal_generator.proposal_utils"
_BATCH_NORM = F.batch_norm
_USES_NMS = (
    f"{_ROI_HEADS}.fast_rcnn",
    f"{_META_ARCH}.retinanet",
    _PROPOSALS,
    "dnl_det.mmdet1.rcnn",
)
_USES_LEN = (
    "detectron2.structures.boxes",
    "detectron2.structures.instances",
    "detectron2.modeling.poolers",
    f"{_ROI_HEADS}.cascade_rcnn",
    f"{_META_ARCH}.retinanet",
    _PROPOSALS,
)


class TensorDetector(nn.Module):
    """A detector of one image, from tensors to tensors.

    Args:
        model: a ``GeneralizedRCNN`` or a ``DenseDetector`` of detectron2, in eval mode.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model

    def forward(self, image: Tensor, scale: Tensor | None = None) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            image: ``(3, H, W)`` in the channels' order of ``INPUT.FORMAT``.
            scale: ``(4,)``, of ``MMDet1RCNN``: its side over that of the original image, for x, y,
                x, y.

        Returns:
            Boxes ``(D, 4)``, x1, y1, x2, y2 in pixels of ``image``; scores ``(D,)``; classes
            ``(D,)``, int64; with a mask head, probabilities ``(D, 1, M, M)`` within each box.
        """
        inputs = [{"image": image} if scale is None else {"image": image, "scale": scale}]
        if isinstance(self.model, DenseDetector):
            images = self.model.preprocess_image(inputs)
            features = self.model.backbone(images.tensor)
            levels = [features[name] for name in self.model.head_in_features]
            found = self.model.forward_inference(images, levels, self.model.head(levels))[0]
        else:
            found = self.model.inference(inputs, do_postprocess=False)[0]
        fields = {name: found.get(field) for name, field in OUTPUTS.items() if found.has(field)}
        return fields.pop("boxes").tensor, *fields.values()


@torch.no_grad()
def trace(model: nn.Module, arguments: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """A ``TensorDetector`` as TorchScript. Args: see :func:`capture`."""
    with patch_builtin_len():
        return torch.jit.trace(TensorDetector(model), arguments, check_trace=False)


@torch.no_grad()
def capture(model: nn.Module, arguments: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """A ``TensorDetector`` by ``torch.export``, with free height and width.

    Args:
        model: the detector.
        arguments: those of an image.
    """
    sizes = {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    shapes = (sizes, {})[: len(arguments)]
    with _symbolic(model):
        return torch.export.export(
            TensorDetector(model), arguments, dynamic_shapes=shapes, strict=False
        )


@contextmanager
def _symbolic(model: nn.Module) -> Iterator[None]:
    """Replace what asks for numbers that a graph of any size does not have."""
    with ExitStack() as stack:
        patch = stack.enter_context
        patch(mock.patch.object(model, "preprocess_image", _one_image(model)))
        patch(mock.patch(f"{_PROPOSALS}._is_tracing", return_value=True))
        poolers = "detectron2.modeling.poolers.convert_boxes_to_pooler_format"
        patch(mock.patch(poolers, lambda boxes: F.pad(boxes[0].tensor, (1, 0))))
        for module in _USES_NMS:
            patch(mock.patch(f"{module}.batched_nms", batched_nms))
        for module in ("dnl_det.mmdet1.rpn", "dnl_det.mmdet1.rcnn"):
            patch(mock.patch(f"{module}.shapes_to_tensor", _shapes_to_tensor))
        patch(mock.patch("torch.nn.functional.batch_norm", _batch_norm))
        patch(patch_builtin_len(_USES_LEN))
        patch(_Branches())
        yield


def _one_image(model: Any) -> Any:
    """``preprocess_image`` of one image: normalised, and padded for the backbone."""

    def preprocess(inputs: list[dict[str, Tensor]]) -> ImageList:
        image = (inputs[0]["image"] - model.pixel_mean) / model.pixel_std
        h, w = image.shape[-2:]
        divisor = max(model.backbone.size_divisibility, 1)
        padded = F.pad(image, (0, -w % divisor, 0, -h % divisor))
        return ImageList(padded[None], [(h, w)])

    return preprocess


def _shapes_to_tensor(shape: Sequence[int]) -> Tensor:
    """detectron2's; ``torch.as_tensor`` would keep the example's numbers."""
    return torch.stack([torch.scalar_tensor(side) for side in shape])


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """torchvision's, also of no boxes, without a branch.

    Two boxes of classes and places of their own come last: torchvision says of its ``nms`` under
    ``torch.export`` that it keeps two boxes at least.
    """
    boxes = torch.cat([boxes.float(), boxes.new_tensor([[0, 0, 1, 1]] * 2, dtype=torch.float32)])
    scores = torch.cat([scores, scores.new_full((2,), -torch.inf)])
    classes = torch.cat([classes, classes.new_tensor([-1, -2])])
    apart = classes.to(boxes) * (boxes.max() + 1)
    return nms(boxes + apart[:, None], scores, threshold)[:-2]


def _batch_norm(x: Tensor, mean: Tensor, variance: Tensor, *rest: Any, **options: Any) -> Tensor:
    """torch's, also of a number of boxes that may be none, which torch branches on."""
    if isinstance(x.shape[0], torch.SymInt):
        return _affine(x, mean, variance, *rest, **options)
    return _BATCH_NORM(x, mean, variance, *rest, **options)


def _affine(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation in eval mode, by the running mean and variance."""
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    shift = shift if bias is None else shift + bias
    return x * scale[:, None, None] + shift[:, None, None]


class _Branches(TorchFunctionMode):
    """Branches of detectron2 on values: all boxes are finite, and there are some.

    Neither changes what the graph computes for finite values: see :func:`batched_nms` for none.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.Tensor.__bool__:
            return True
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.numel and isinstance(result, torch.SymInt):
            return 1
        return result
