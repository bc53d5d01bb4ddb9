"""Data sets of semantic segmentation that detectron2 lacks, from the files as they are published.

``ade20k_150_sem_seg_train`` and ``..._val``: ADE20K's 150 classes. detectron2's
``ade20k_sem_seg_train`` needs files of other labels, which a script of its makes.
``pascal_context_59_sem_seg_train`` and ``..._val``: the 59 classes of PASCAL-Context.

The labels of both begin with 1; 0 is ignored. ``docs/DATA.md`` says how to get the files.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES

from .registering import default_root, register

# In the order of the labels from 1 on, which is the alphabet's: the most frequent classes of
# R. Mottaghi et al., CVPR 2014.
PASCAL_CONTEXT_59 = (
    *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book"),
    *("bottle", "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth"),
    *("computer", "cow", "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food"),
    *("grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse", "person"),
    *("plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign"),
    *("sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall"),
    *("water", "window", "wood"),
)
_LABELS = {"evaluator_type": "sem_seg", "ignore_label": 255, "label_offset": 1}


def register_builtin(root: str | os.PathLike[str] | None = None) -> None:
    """Register the data sets of this module, to be loaded from folders of ``root``.

    Importing ``dnl_det`` does so for the default.

    Args:
        root: the folder that holds all data sets; ``default_root()`` if None.
    """
    root = default_root() if root is None else root
    ade20k = Path(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        images, labels = str(ade20k / "images" / folder), str(ade20k / "annotations" / folder)
        register(
            f"ade20k_150_sem_seg_{split}",
            partial(_load_folders, images, labels),
            image_root=images,
            sem_seg_root=labels,
            stuff_classes=[name.strip() for name in ADE20K_SEM_SEG_CATEGORIES],
            **_LABELS,
        )
    voc = Path(root, "VOCdevkit", "VOC2010")
    images, labels = str(voc / "JPEGImages"), str(voc / "SegmentationClassContext")
    for split in ("train", "val"):
        list_file = str(voc / "ImageSets" / "SegmentationContext" / f"{split}.txt")
        register(
            f"pascal_context_59_sem_seg_{split}",
            partial(_load_list, list_file, images, labels),
            image_root=images,
            sem_seg_root=labels,
            list_file=list_file,
            stuff_classes=list(PASCAL_CONTEXT_59),
            **_LABELS,
        )


def _load_folders(images: str, labels: str) -> list[dict[str, Any]]:
    return [record | {"label_offset": 1} for record in load_sem_seg(labels, images)]


def _load_list(list_file: str, images: str, labels: str) -> list[dict[str, Any]]:
    return [
        {
            "file_name": os.path.join(images, f"{name}.jpg"),
            "sem_seg_file_name": os.path.join(labels, f"{name}.png"),
            "label_offset": 1,
        }
        for name in Path(list_file).read_text().split()
    ]
