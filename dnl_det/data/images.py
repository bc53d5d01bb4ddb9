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
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Keypoints, PolygonMasks

from ..mmdet1 import InclusiveResize, MMDet1RCNN, PixelMasks
from .augmentations import RandomScale, check_augmentations, is_semantic, order_for_labels
from .labels import check_label_size, check_label_values, read_labels
from .reading import UnreadableImageError, read_with_opencv, read_with_pillow

IMAGE_LIBRARIES = ("pillow", "opencv")
# By INPUT.FORMAT; L is grey.
CHANNELS = {"BGR": 3, "RGB": 3, "YUV-BT.601": 3, "L": 1}


def check_image_keys(cfg: CfgNode) -> None:
    """Check that images have the channels that the model subtracts a mean from.

    Raises:
        ValueError: an ``INPUT.FORMAT`` that ``INPUT.IMAGE_LIBRARY`` does not give, or another
            number of channels than ``MODEL.PIXEL_MEAN`` and ``PIXEL_STD`` have.
    """
    _uses_opencv(cfg)
    form = cfg.INPUT.FORMAT
    if form not in CHANNELS:
        raise ValueError(f"INPUT.FORMAT: {form!r} is not one of {', '.join(CHANNELS)}")
    channels = CHANNELS[form]
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(numbers := cfg.MODEL[key]) != channels:
            raise ValueError(
                f"MODEL.{key}: {numbers} must have {channels} "
                f"number{'s' * (channels > 1)}, one for each channel of INPUT.FORMAT {form}"
            )


def build_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """The mapper that ``INPUT.IMAGE_LIBRARY`` and ``MODEL.META_ARCHITECTURE`` ask for.

    Raises:
        ValueError: an unknown ``INPUT.IMAGE_LIBRARY``, or a value of an augmentation's key that is
            not allowed.
    """
    if is_train:
        check_augmentations(cfg)
    mapper = OpenCVMapper(cfg, is_train) if _uses_opencv(cfg) else FileMapper(cfg, is_train)
    mapper.ignored_label = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if is_semantic(cfg) or cfg.MODEL.META_ARCHITECTURE == "PanopticFPN":
        mapper.label_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if cfg.MODEL.META_ARCHITECTURE == MMDet1RCNN.__name__:
        augs = mapper.augmentations.augs
        inclusive = [InclusiveResize(a) if isinstance(a, T.ResizeShortestEdge) else a for a in augs]
        mapper.augmentations = T.AugmentationList(inclusive)
        # A box of a mask is another than the one that mmdetection 1.x resizes: a crop cuts it.
        mapper.recompute_boxes = False
        mapper.pixel_masks = mapper.use_instance_mask
    return mapper


def build_test_resize(cfg: CfgNode, scale: float = 1.0) -> T.ResizeShortestEdge:
    """The resizing of test images, to ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``.

    Args:
        scale: multiplies both; for test-time augmentation.

    Raises:
        ValueError: an unknown ``INPUT.IMAGE_LIBRARY``.
    """
    kind = OpenCVResizeShortestEdge if _uses_opencv(cfg) else ResizeShortestEdge
    shortest, longest = cfg.INPUT.MIN_SIZE_TEST * scale, cfg.INPUT.MAX_SIZE_TEST * scale
    # Fractions: only the sides of the image are rounded.
    return kind([shortest], longest, "choice")


def read_image(cfg: CfgNode, file: str, image_format: str) -> np.ndarray:
    """An image upright, by the library that ``INPUT.IMAGE_LIBRARY`` names.

    Args:
        file: its path.
        image_format: ``BGR`` or ``RGB``.

    Returns:
        ``(H, W, 3)``, uint8.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: it cannot be read as an image.
        ValueError: an unknown ``INPUT.IMAGE_LIBRARY``.
    """
    if not os.path.isfile(file):
        raise FileNotFoundError(f"there is no file {file}")
    read = read_with_opencv if _uses_opencv(cfg) else read_with_pillow
    return read(file, image_format)


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


class ResizeShortestEdge(T.ResizeShortestEdge):
    """detectron2's resizing, in which no side becomes shorter than one pixel."""

    transform = T.ResizeTransform

    @classmethod
    def like(cls, augmentation: T.Augmentation) -> T.Augmentation:
        """This class with the options of detectron2's own; any other augmentation unchanged."""
        if type(augmentation) is not T.ResizeShortestEdge:
            return augmentation
        return cls(
            augmentation.short_edge_length,
            augmentation.max_size,
            "range" if augmentation.is_range else "choice",
        )

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform for one image ``(H, W, C)``."""
        theirs = super().get_transform(image)
        if not isinstance(theirs, T.ResizeTransform):  # a size of 0 means: as it is
            return theirs
        return self.transform(theirs.h, theirs.w, max(1, theirs.new_h), max(1, theirs.new_w))


class OpenCVResizeShortestEdge(ResizeShortestEdge):
    """The same, to the same sizes, by OpenCV."""

    transform = OpenCVResizeTransform


class FileMapper(DatasetMapper):
    """detectron2's mapper, for all files and for images without an object too.

    It names the file that cannot be read, and reads 16 bits rightly.
    """

    resize = ResizeShortestEdge
    ignored_label = 255  # of semantic segmentation
    label_classes = 0  # how many; 0: not known
    pixel_masks = False  # rasterised before the image is resized, as mmdetection 1.x does

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        augmentations = [cls.resize.like(a) for a in arguments["augmentations"]]
        if is_train and is_semantic(cfg):
            augmentations = order_for_labels(cfg, augmentations)
        if is_train and (scales := cfg.INPUT.SCALE_RANGE):
            augmentations = [
                RandomScale(a, scales) if isinstance(a, T.ResizeShortestEdge) else a
                for a in augmentations
            ]
        if is_train and cfg.INPUT.COLOR_AUG_SSD:
            # Here: it registers the models of that project, which takes two seconds.
            from detectron2.projects.point_rend import ColorAugSSDTransform

            augmentations.append(ColorAugSSDTransform(cfg.INPUT.FORMAT))
        arguments["augmentations"] = augmentations
        return arguments

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """See ``DatasetMapper``.

        Raises:
            UnreadableImageError: the image cannot be read, or has another size than annotated.
            LabelError: so are its semantic labels; or, in training, one of them is no class.
        """
        sample = copy.deepcopy(dataset_dict)
        image = self._read(sample["file_name"])
        try:
            detection_utils.check_image_size(sample, image)
        except detection_utils.SizeMismatchError as error:
            raise UnreadableImageError(str(error)) from error
        stuff = None
        if "sem_seg_file_name" in sample:
            file = sample.pop("sem_seg_file_name")
            offset = sample.pop("label_offset", 0)
            stuff = read_labels(file, offset, self.ignored_label)
            if self.is_train and self.label_classes:
                check_label_values(stuff, file, self.label_classes, offset, self.ignored_label)
            check_label_size(stuff, file, image.shape[:2], sample["file_name"])
            # OpenCV resizes no 64 bits.
            stuff = stuff.astype(np.int32 if stuff.max() > 255 else np.uint8)

        augmented = T.AugInput(image, sem_seg=stuff)
        transforms = self.augmentations(augmented)
        shape = augmented.image.shape[:2]
        channels_first = np.array(augmented.image.transpose(2, 0, 1), order="C")
        sample["image"] = torch.from_numpy(channels_first)  # (C, H, W)
        if augmented.sem_seg is not None:
            sample["sem_seg"] = torch.from_numpy(augmented.sem_seg.astype(np.int64))  # (H, W)
        if self.proposal_topk is not None:
            detection_utils.transform_proposals(
                sample, shape, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, shape)
        return sample

    def _transform_annotations(
        self, sample: dict[str, Any], transforms: T.Transform, shape: tuple[int, int]
    ) -> None:
        objects = [a for a in sample["annotations"] if not a.get("iscrowd")]
        if objects and self.pixel_masks and all("segmentation" in a for a in objects):
            size = sample["height"], sample["width"]
            masks = PixelMasks.moved([a.pop("segmentation") for a in objects], size, transforms)
            flip = self.keypoint_hflip_indices if self.use_keypoint else None
            moved = [
                detection_utils.transform_instance_annotations(
                    a, transforms, shape, keypoint_hflip_indices=flip
                )
                for a in objects
            ]
            instances = detection_utils.annotations_to_instances(moved, shape)
            instances.gt_masks = masks
            sample["instances"] = detection_utils.filter_empty_instances(instances)
            del sample["annotations"]
            return
        if objects:
            super()._transform_annotations(sample, transforms, shape)
            return
        # All the fields, which detectron2 takes from the first object.
        del sample["annotations"]
        nothing = detection_utils.annotations_to_instances([], shape)
        if self.use_instance_mask:
            bitmask = self.instance_mask_format == "bitmask"
            nothing.gt_masks = BitMasks(torch.zeros(0, *shape)) if bitmask else PolygonMasks([])
        if self.use_keypoint:
            nothing.gt_keypoints = Keypoints(torch.zeros(0, len(self.keypoint_hflip_indices), 3))
        sample["instances"] = nothing

    def _read(self, file: str) -> np.ndarray:
        return read_with_pillow(file, self.image_format)


class OpenCVMapper(FileMapper):
    """The same, with images read and resized by OpenCV."""

    resize = OpenCVResizeShortestEdge

    def _read(self, file: str) -> np.ndarray:
        return read_with_opencv(file, self.image_format)


def _uses_opencv(cfg: CfgNode) -> bool:
    """Whether OpenCV reads and resizes; what the config asks for with it must be possible."""
    library, form = cfg.INPUT.IMAGE_LIBRARY, cfg.INPUT.FORMAT
    if library not in IMAGE_LIBRARIES:
        allowed = ", ".join(IMAGE_LIBRARIES)
        raise ValueError(f"INPUT.IMAGE_LIBRARY: {library!r} is not one of {allowed}")
    if library == "opencv" and form not in ("BGR", "RGB"):
        raise ValueError(
            f"INPUT.FORMAT: {form!r} must be BGR or RGB with INPUT.IMAGE_LIBRARY opencv; others "
            "need INPUT.IMAGE_LIBRARY: pillow"
        )
    if library == "opencv" and cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError(
            "MODEL.LOAD_PROPOSALS: True is not supported with INPUT.IMAGE_LIBRARY opencv; "
            "set one of them back"
        )
    return library == "opencv"
