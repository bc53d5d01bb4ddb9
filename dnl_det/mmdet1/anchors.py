"""The anchors of mmdetection 1.x: rounded to pixels."""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.modeling.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    BufferList,
    DefaultAnchorGenerator,
)
from torch import Tensor


@ANCHOR_GENERATOR_REGISTRY.register()
class MMDet1AnchorGenerator(DefaultAnchorGenerator):
    """Anchors with corners on whole pixels, around the middle of a cell's first pixels.

    At stride ``s``, an anchor of size ``a`` and ratio ``r`` (height / width) has the centre
    ``c = (s - 1) / 2``, the width ``w = a / sqrt(r)`` and the height ``h = a * sqrt(r)``; its
    inclusive corners are ``round(c -+ (w - 1) / 2)``, and likewise for ``h``. With mmdetection's
    one size a level (8 strides) the order is that of the ratios, there and here.

    Args:
        sizes: see ``DefaultAnchorGenerator``.
        aspect_ratios: see ``DefaultAnchorGenerator``.
        strides: see ``DefaultAnchorGenerator``.
        offset: must be 0, since mmdetection's grid starts at the corner.

    Raises:
        ValueError: another ``offset``.
    """

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.0,
    ):
        if offset != 0:
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.OFFSET: {offset} must be 0.0 with MMDet1AnchorGenerator"
            )
        # The base class calls _calculate_anchors with sizes and ratios for each level.
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)

    def _calculate_anchors(
        self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[Sequence[float]]
    ) -> BufferList:
        levels = zip(sizes, aspect_ratios, self.strides, strict=True)
        return BufferList([rounded_anchors(size, ratio, s) for size, ratio, s in levels])


def rounded_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float], stride: int) -> Tensor:
    """The anchors of the first cell of a level.

    Returns:
        ``(len(sizes) * len(aspect_ratios), 4)``, x1, y1, x2, y2 in pixels, exclusive, float32.
    """
    centre = 0.5 * (stride - 1)
    ratio_roots = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    corners = []
    for size in sizes:
        w = size * (1 / ratio_roots)
        h = size * ratio_roots
        half = torch.stack([w - 1, h - 1], dim=1) * 0.5  # (ratios, 2)
        corners.append(torch.cat([(centre - half).round(), (centre + half).round() + 1], dim=1))
    return torch.cat(corners)
