"""Reading and resizing images by Pillow, as detectron2 does, or by OpenCV, as mmdetection does.

Both resize bilinearly; when an image shrinks, Pillow averages over all the pixels that fall on a
new one, and OpenCV takes the four nearest, so that what a model sees differs.
"""

import copy
import os
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from ..mmdet1 import InclusiveResize, MMDet1RCNN

IMAGE_LIBRARIES = ("pillow", "opencv")


def build_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """The mapper that ``INPUT.IMAGE_LIBRARY`` and ``MODEL.META_ARCHITECTURE`` ask for.

    Raises:
        ValueError: an unknown ``INPUT.IMAGE_LIBRARY``.
    """
    mapper = OpenCVMapper(cfg, is_train) if _uses_opencv(cfg) else DatasetMapper(cfg, is_train)
    if cfg.MODEL.META_ARCHITECTURE == MMDet1RCNN.__name__:
        augs = mapper.augmentations.augs
        inclusive = [InclusiveResize(a) if isinstance(a, T.ResizeShortestEdge) else a for a in augs]
        mapper.augmentations = T.AugmentationList(inclusive)
    return mapper


def build_test_resize(cfg: CfgNode) -> T.ResizeShortestEdge:
    """The resizing of test images, ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``.

    Raises:
        ValueError: an unknown ``INPUT.IMAGE_LIBRARY``.
    """
    kind = OpenCVResizeShortestEdge if _uses_opencv(cfg) else T.ResizeShortestEdge
    sides = cfg.INPUT.MIN_SIZE_TEST
    return kind([sides, sides], cfg.INPUT.MAX_SIZE_TEST)


def read_image(cfg: CfgNode, file: str, image_format: str) -> np.ndarray:
    """An image upright, by the library that ``INPUT.IMAGE_LIBRARY`` names.

    Args:
        file: its path.
        image_format: ``BGR`` or ``RGB``.

    Returns:
        ``(H, W, 3)``, uint8.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as an image, or an unknown ``INPUT.IMAGE_LIBRARY``.
    """
    if not os.path.isfile(file):
        raise FileNotFoundError(f"there is no file {file}")
    if _uses_opencv(cfg):
        return read_with_opencv(file, image_format)
    try:
        return detection_utils.read_image(file, format=image_format)
    except Exception as error:  # Pillow's decoders raise what they like
        raise ValueError(f"{file} cannot be read as an image ({error})") from error


def read_with_opencv(file: str, image_format: str) -> np.ndarray:
    """An image as ``cv2.imread`` reads it: 8 bits, three channels, upright.

    Raises:
        ValueError: it cannot be read as an image, or another ``image_format`` than BGR and RGB.
    """
    if image_format not in ("BGR", "RGB"):
        raise ValueError(
            f"INPUT.FORMAT: {image_format!r} must be BGR or RGB with INPUT.IMAGE_LIBRARY opencv"
        )
    image = cv2.imread(file, cv2.IMREAD_COLOR)  # BGR
    if image is None:
        raise ValueError(f"{file} cannot be read as an image by OpenCV, or is absent")
    return image if image_format == "BGR" else np.ascontiguousarray(image[:, :, ::-1])


class OpenCVResizeTransform(T.ResizeTransform):
    """``cv2.resize``: images bilinearly, segmentations by the nearest pixel."""

    def apply_image(self, img: np.ndarray, interp: Any = None) -> np.ndarray:
        """Resize ``(H, W)`` or ``(H, W, C)``."""
        return cv2.resize(img, (self.new_w, self.new_h), interpolation=cv2.INTER_LINEAR)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize labels ``(H, W)``."""
        size = (self.new_w, self.new_h)
        return cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST)

    def inverse(self) -> "OpenCVResizeTransform":
        """Back to the size before."""
        return OpenCVResizeTransform(self.new_h, self.new_w, self.h, self.w)


class OpenCVResizeShortestEdge(T.ResizeShortestEdge):
    """detectron2's resizing, to the same sizes, by OpenCV."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform for one image ``(H, W, C)``."""
        transform = super().get_transform(image)
        if not isinstance(transform, T.ResizeTransform):  # a size of 0 means: as it is
            return transform
        return OpenCVResizeTransform(transform.h, transform.w, transform.new_h, transform.new_w)


class OpenCVMapper(DatasetMapper):
    """detectron2's mapper, with images read and resized by OpenCV.

    Of detectron2's options, precomputed proposals are not supported.

    Raises:
        ValueError: ``MODEL.LOAD_PROPOSALS`` is set, or an image cannot be read.
    """

    @configurable
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.proposal_topk is not None:
            raise ValueError(
                "MODEL.LOAD_PROPOSALS: True is not supported with INPUT.IMAGE_LIBRARY opencv; "
                "set one of them back"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        arguments["augmentations"] = [_by_opencv(a) for a in arguments["augmentations"]]
        return arguments

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """See ``DatasetMapper``."""
        sample = copy.deepcopy(dataset_dict)
        image = read_with_opencv(sample["file_name"], self.image_format)
        detection_utils.check_image_size(sample, image)
        stuff = None
        if "sem_seg_file_name" in sample:
            stuff = cv2.imread(sample.pop("sem_seg_file_name"), cv2.IMREAD_GRAYSCALE)

        augmented = T.AugInput(image, sem_seg=stuff)
        transforms = self.augmentations(augmented)
        channels_first = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        sample["image"] = torch.from_numpy(channels_first)  # (3, H, W)
        if augmented.sem_seg is not None:
            sample["sem_seg"] = torch.from_numpy(augmented.sem_seg.astype(np.int64))  # (H, W)
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, augmented.image.shape[:2])
        return sample


def _uses_opencv(cfg: CfgNode) -> bool:
    library = cfg.INPUT.IMAGE_LIBRARY
    if library not in IMAGE_LIBRARIES:
        allowed = ", ".join(IMAGE_LIBRARIES)
        raise ValueError(f"INPUT.IMAGE_LIBRARY: {library!r} is not one of {allowed}")
    return library == "opencv"


def _by_opencv(augmentation: T.Augmentation) -> T.Augmentation:
    if type(augmentation) is not T.ResizeShortestEdge:
        return augmentation
    return OpenCVResizeShortestEdge(
        augmentation.short_edge_length,
        augmentation.max_size,
        "range" if augmentation.is_range else "choice",
    )
