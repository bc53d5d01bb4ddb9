"""What resizing an image does to its boxes in mmdetection 1.x.

It scales a box's first and its last pixel, so that a width ``w`` becomes ``(w - 1) * s + 1``, not
``w * s``. Detections are scaled back likewise; a model has to be trained with the one if the other
reports its boxes.
"""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T


def resize_scale(
    original: tuple[int, int], resized: tuple[int, int], short_sides: Sequence[int], max_size: int
) -> tuple[float, float]:
    """Resized / original, before the resized sides were rounded.

    Args:
        original, resized: height and width in pixels.
        short_sides: the lengths that the shorter side may have been resized to.
        max_size: the longest that the longer side may be.

    Returns:
        Of height and width: the same, unless the image was resized otherwise.
    """
    sides = np.array(original)
    for short_side in short_sides:
        ratio = min(max_size / sides.max(), short_side / sides.min())
        if ((sides * ratio + 0.5).astype(int) == resized).all():
            return float(ratio), float(ratio)
    return resized[0] / original[0], resized[1] / original[1]


class InclusiveResize(T.Augmentation):
    """A resizing after which boxes are those of mmdetection 1.x; images and masks as before.

    Args:
        resize: the resizing.
    """

    def __init__(self, resize: T.ResizeShortestEdge):
        super().__init__()
        self.resize = resize

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform for one image ``(H, W, C)``."""
        transform = self.resize.get_transform(image)
        if not isinstance(transform, T.ResizeTransform):  # a size of 0 means: as it is
            return transform
        original, resized = (transform.h, transform.w), (transform.new_h, transform.new_w)
        lengths = self.resize.short_edge_length
        if self.resize.is_range:  # any between: the one taken, unless the longer side was limited
            lengths = (min(resized), lengths[1])
        scale = resize_scale(original, resized, lengths, self.resize.max_size)
        return T.TransformList([transform, _InclusiveBoxes(original, resized, scale)])


class _InclusiveBoxes(T.NoOpTransform):
    """Turns boxes that a ``ResizeTransform`` has scaled into those of mmdetection 1.x."""

    def __init__(
        self, original: tuple[int, int], resized: tuple[int, int], scale: tuple[float, float]
    ):
        super().__init__()
        y, x = scale
        rounding = y * original[0] / resized[0], x * original[1] / resized[1]
        self.factor = np.array([rounding[1], rounding[0]] * 2)
        self.shift = np.array([0, 0, 1 - x, 1 - y])

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Boxes ``(N, 4)``, x1, y1, x2, y2 in pixels, exclusive."""
        return box * self.factor + self.shift

    def inverse(self) -> T.Transform:
        """Not there: nothing scales boxes back through the augmentations of training."""
        raise NotImplementedError("boxes resized as in mmdetection 1.x are not scaled back")
