"""Pasting masks as mmdetection 1.x does: whole pixels, resized by OpenCV."""

import cv2
import numpy as np
import torch
from torch import Tensor


def paste_masks(
    probabilities: Tensor, boxes: Tensor, h: int, w: int, threshold: float = 0.5
) -> Tensor:
    """Masks of a whole image from those of its boxes.

    A box's corners are truncated to whole pixels, and its probabilities resized bilinearly to
    ``max(x2 - x1 + 1, 1)`` by ``max(y2 - y1 + 1, 1)`` of them.

    Args:
        probabilities: ``(R, M, M)``, 0 to 1.
        boxes: ``(R, 4)``, x1, y1, x2, y2 in pixels of the image, including the last one.
        h, w: the image's height and width; what lies outside is cut off.
        threshold: a pixel above it belongs to the object.

    Returns:
        ``(R, h, w)``, bool, on the device of ``probabilities``.
    """
    masks = np.zeros((len(boxes), h, w), dtype=bool)
    corners = boxes.cpu().numpy().astype(np.int64)
    grids = probabilities.float().cpu().numpy()
    for mask, grid, (x1, y1, x2, y2) in zip(masks, grids, corners, strict=True):
        size = (max(int(x2 - x1 + 1), 1), max(int(y2 - y1 + 1), 1))
        inside = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR) > threshold
        left, top = max(-x1, 0), max(-y1, 0)
        inside = inside[top : max(h - y1, 0), left : max(w - x1, 0)]
        y, x = max(y1, 0), max(x1, 0)
        mask[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return torch.from_numpy(masks).to(probabilities.device)
