"""Pasting and cropping masks as mmdetection 1.x does: whole pixels, resized by OpenCV."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, PolygonMasks
from pycocotools import mask as mask_api
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


class PixelMasks:
    """Objects' masks ``(h, w)``, cropped to the targets of the mask head.

    Stands in for detectron2's ``PolygonMasks`` and ``BitMasks`` in ``Instances``: of these, the
    first rasterises polygons in the box's own grid, the second samples the mask by RoIAlign.

    Args:
        masks: COCO's run lengths, one for each object, ``(H, W)`` all.
        rows: of each row of the image ``(h, w)``, which of the masks' it shows.
        columns: the same of each column.
        indices: which of ``masks``, in order; all by default.
    """

    def __init__(
        self,
        masks: Sequence[dict[str, Any]],
        rows: np.ndarray,
        columns: np.ndarray,
        indices: np.ndarray | None = None,
    ):
        self.masks, self.rows, self.columns = masks, rows, columns
        self.indices = np.arange(len(masks)) if indices is None else indices

    @classmethod
    def of(cls, masks: "PolygonMasks | BitMasks | PixelMasks", h: int, w: int) -> "PixelMasks":
        """detectron2's masks of an image ``(h, w)``; polygons by COCO's rasteriser."""
        if isinstance(masks, PixelMasks):
            return masks
        found = masks.polygons if isinstance(masks, PolygonMasks) else masks.tensor.cpu().numpy()
        return cls([_encode(mask, h, w) for mask in found], np.arange(h), np.arange(w))

    @classmethod
    def moved(
        cls, segmentations: Sequence[Any], size: tuple[int, int], transforms: T.Transform
    ) -> "PixelMasks":
        """Masks of an image ``size``, height and width, in the image that transforms make of it.

        mmdetection 1.x resizes and flips the pixels of each mask; the rows and columns of all move
        alike.

        Args:
            segmentations: polygons, COCO's run lengths or bitmaps.
            size: height and width of the image that they are of.
            transforms: resizing, flips and crops.

        Raises:
            ValueError: a transform that does not leave rows and columns what they are.
        """
        y, x = np.indices(size, dtype=np.float32)
        rows, columns = transforms.apply_segmentation(y), transforms.apply_segmentation(x)
        if not ((rows == rows[:, :1]).all() and (columns == columns[:1]).all()):
            raise ValueError(
                "the masks of MMDet1RCNN can be resized, flipped and cropped, and no more: "
                f"{transforms}. Take the other augmentations out, or set "
                "MODEL.META_ARCHITECTURE to GeneralizedRCNN"
            )
        masks = [_encode(segmentation, *size) for segmentation in segmentations]
        return cls(masks, rows[:, 0].astype(np.int64), columns[0].astype(np.int64))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int | slice | Tensor) -> "PixelMasks":
        chosen = item.cpu().numpy() if isinstance(item, Tensor) else item
        indices = np.atleast_1d(self.indices[chosen])
        return PixelMasks(self.masks, self.rows, self.columns, indices)

    def to(self, *args: Any, **kwargs: Any) -> "PixelMasks":
        """Itself: the masks stay on the CPU, where OpenCV is."""
        return self

    @property
    def tensor(self) -> Tensor:
        """The masks as those of ``BitMasks``, ``(N, h, w)``, bool."""
        bitmaps = [mask_api.decode(self.masks[i]) for i in self.indices.tolist()]
        masks = [self._cut(bitmap, np.s_[:], np.s_[:]) for bitmap in bitmaps]
        empty = np.zeros((0, len(self.rows), len(self.columns)), dtype=np.uint8)
        return torch.from_numpy(np.stack(masks) if masks else empty).bool()

    def nonempty(self) -> Tensor:
        """Which masks have a pixel in the image, ``(N,)``, bool."""
        y, x = (slice(shown.min(), shown.max() + 1) for shown in (self.rows, self.columns))
        masks = [self.masks[i] for i in self.indices.tolist()]
        found = [mask_api.area(mask) > 0 for mask in masks]
        if masks and masks[0]["size"] != [y.stop - y.start, x.stop - x.start]:  # a crop
            found = [mask_api.decode(mask)[y, x].any() for mask in masks]
        return torch.from_numpy(np.array(found, dtype=bool))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What each mask is within its box.

        The inclusive corners ``x1, y1, x2 - 1, y2 - 1`` are truncated to whole pixels, and the
        ``max(x2 - x1, 1)`` by ``max(y2 - y1, 1)`` pixels from ``(x1, y1)`` on resized bilinearly
        by OpenCV, as uint8.

        Args:
            boxes: ``(R, 4)``, x1, y1, x2, y2 in pixels, exclusive, inside the image.
            mask_size: side ``M`` of the targets.

        Returns:
            ``(R, M, M)``, bool, on the device of ``boxes``.
        """
        indices = self.indices.tolist()
        bitmaps = {i: mask_api.decode(self.masks[i]) for i in set(indices)}
        targets = np.zeros((len(self), mask_size, mask_size), dtype=np.uint8)
        corners = (boxes - boxes.new_tensor([0, 0, 1, 1])).cpu().numpy().astype(np.int64)
        for target, i, (x1, y1, x2, y2) in zip(targets, indices, corners, strict=True):
            rows, columns = np.s_[y1 : max(y2, y1) + 1], np.s_[x1 : max(x2, x1) + 1]
            crop = self._cut(bitmaps[i], rows, columns)
            target[:] = cv2.resize(crop, (mask_size, mask_size), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(targets).bool().to(boxes.device)

    def _cut(self, bitmap: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Rows and columns of the image from the bitmap of a mask."""
        return np.ascontiguousarray(bitmap[:, self.columns[columns]][self.rows[rows]])


def _encode(mask: Any, h: int, w: int) -> dict[str, Any]:
    """Polygons, run lengths or a bitmap of an image ``(h, w)`` as COCO's run lengths."""
    encoded: dict[str, Any]
    if isinstance(mask, list):
        polygons = [np.asarray(part, dtype=np.float64).tolist() for part in mask]
        encoded = mask_api.merge(mask_api.frPyObjects(polygons, h, w))
    elif isinstance(mask, dict):
        encoded = mask
    else:
        encoded = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return encoded
