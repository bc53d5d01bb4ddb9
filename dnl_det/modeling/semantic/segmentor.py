"""Semantic segmentation of an image at its own size, at once or window by window.

K: classes, H, W: height, width of the model's input, h, w: of the original image.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.structures import ImageList
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn
from torch.nn import functional as F

from .check import check_sliding_window
from .head import DNLSemSegHead


@META_ARCH_REGISTRY.register()
class DNLSemanticSegmentor(SemanticSegmentor):
    """``SemanticSegmentor`` whose inference is that of mmsegmentation and of the authors.

    Each image is segmented by itself, without padding. Logits are resized to the input's size H x W
    and then to the original image's; detectron2 resizes them by the stride and crops, which is
    another result where the stride does not divide H and W. With a window, the input is cut into
    windows, the last ones flush with its edge, and the logits of each pixel are averaged.

    It takes any head of ``SEM_SEG_HEADS_REGISTRY``.

    Args:
        window: height and width of the windows in pixels; none: the whole image.
        window_stride: how far windows are apart, vertically and horizontally.
        align_corners: of the resizing of logits.
        kwargs: see ``SemanticSegmentor``.
    """

    @configurable
    def __init__(
        self,
        *,
        window: Sequence[int] = (),
        window_stride: Sequence[int] = (),
        align_corners: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.window, self.window_stride = tuple(window), tuple(window_stride)
        self.align_corners = align_corners

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_sliding_window(cfg)
        return {
            **super().from_config(cfg),
            "window": cfg.TEST.SLIDING_WINDOW.SIZE,
            "window_stride": cfg.TEST.SLIDING_WINDOW.STRIDE,
            "align_corners": cfg.MODEL.SEM_SEG_HEAD.ALIGN_CORNERS,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """As ``SemanticSegmentor``.

        Args:
            batched_inputs: ``image`` ``(3, H, W)``, in training ``sem_seg`` ``(H, W)``, and
                ``height``, ``width`` of the original image; H, W if absent.

        Returns:
            In training a dict of losses, else for each image ``{"sem_seg": logits (K, h, w)}``.
        """
        if self.training:
            return super().forward(batched_inputs)
        return [{"sem_seg": self._segment(inputs)} for inputs in batched_inputs]

    def _segment(self, inputs: dict[str, Any]) -> Tensor:
        image = (inputs["image"].to(self.device) - self.pixel_mean) / self.pixel_std
        logits = self._windows(image) if self.window else self._logits(image)
        size = inputs.get("height", image.shape[-2]), inputs.get("width", image.shape[-1])
        return self._resize(logits, size)[0]

    def _logits(self, image: Tensor) -> Tensor:
        """Of an image or a window ``(3, H, W)``: ``(1, K, H, W)``."""
        backbone = self.backbone
        images = ImageList.from_tensors(
            [image],
            backbone.size_divisibility,  # an FPN's; a ResNet has none and pads nothing
            padding_constraints=backbone.padding_constraints,
        )
        features = backbone(images.tensor)
        if isinstance(self.sem_seg_head, DNLSemSegHead):
            logits = self._resize(self.sem_seg_head.predict(features), images.tensor.shape[-2:])
        else:
            logits, _ = self.sem_seg_head(features)
        height, width = image.shape[-2:]
        return logits[..., :height, :width]

    def _windows(self, image: Tensor) -> Tensor:
        """The mean of the logits that a pixel has in each of its windows."""
        height, width = image.shape[-2:]
        total: Tensor | None = None
        count = image.new_zeros(height, width)
        for rows in _spans(height, self.window[0], self.window_stride[0]):
            for columns in _spans(width, self.window[1], self.window_stride[1]):
                logits = self._logits(image[:, rows, columns])
                if total is None:
                    total = logits.new_zeros(1, logits.shape[1], height, width)
                total[:, :, rows, columns] += logits
                count[rows, columns] += 1
        assert total is not None  # there is at least one window
        return total / count

    def _resize(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        if logits.shape[-2:] == torch.Size(size):
            return logits
        return F.interpolate(logits, list(size), mode="bilinear", align_corners=self.align_corners)


@contextmanager
def whole_images(model: nn.Module) -> Iterator[None]:
    """Within this context a model of any kind segments images at once, without windows.

    What its attention is recorded on is the whole image then, not the last window.
    """
    window = getattr(model, "window", ())
    if window:
        log_first_n(
            logging.INFO,
            "TEST.SLIDING_WINDOW is not used here: attention is looked at in whole images.",
            name=__name__,
        )
        model.window = ()  # type: ignore[assignment]
    try:
        yield
    finally:
        if window:
            model.window = window


def _spans(length: int, window: int, stride: int) -> Iterator[slice]:
    """Where windows begin and end along a side; the last ends with it."""
    for start in range(0, max(length - window, 0) + stride, stride):
        end = min(start + window, length)
        yield slice(max(end - window, 0), end)
        if end == length:
            return
