"""The Shapes data set: images in which the class of an object needs context, in COCO's format.

Three cues decide the class of an outline; an option sets the share of each.

* tag (a relation): a circle or a square has its class from its outline AND from the black or white
  centre of the tag of its colour, a small square elsewhere in the image.
* beacon (one cue for all): a triangle or a star has its class from its outline AND from the pattern
  of the image's only beacon.
* plain (the control): a cross or a moon is a class by itself.

Nothing within an object's box, its colour, size or place tells more than the outline does, so the
AP of each class says which kind of context a model uses. The files, under one folder::

    annotations/instances_train.json    annotations/instances_val.json
    train/000001.bmp ...                val/000001.bmp ...
    labels_train/000001.png ...         labels_val/000001.png ...

A label map has one channel: 0 for the background, else the category's id.
"""

import json
import os
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from .options import CATEGORY_IDS, ENDINGS_OF_CUE, OUTLINES_OF_CUE, SPLITS, ShapesOptions
from .scene import Scene, make_scene

DESCRIPTION = "Shapes: images in which the class of an object needs context"
VERSION = "1"  # goes up when the same options give another data set
LICENSE = {
    "id": 1,
    "name": "Apache License 2.0",
    "url": "https://www.apache.org/licenses/LICENSE-2.0",
}


def write_shapes(
    output: str | os.PathLike[str],
    options: ShapesOptions | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> bool:
    """Write a data set, all of it or nothing.

    Args:
        output: the folder to make.
        options: what to make; the defaults of ShapesOptions if None.
        overwrite: whether to replace a Shapes data set made with other options.
        progress: whether to show progress on stderr.

    Returns:
        True if it was written, False if the same data set was already there. Label maps that it
        lacks are added.

    Raises:
        ValueError: ``output`` holds something else; or the options leave no room in the image.
    """
    output = Path(output).absolute()
    options = options or ShapesOptions()
    exists = output.exists() and not (output.is_dir() and not any(output.iterdir()))
    if exists:
        difference = _difference(output, options)
        if difference is None:
            for split in SPLITS:
                _add_labels(output, split)
            return False
        if not overwrite:
            raise ValueError(
                f"{output} holds another Shapes data set ({difference}): choose another folder, "
                "or replace it with --overwrite (overwrite=True)"
            )

    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        (partial / "annotations").mkdir(parents=True)
        for split in SPLITS:
            _write_split(partial, options, split, progress)
            _add_labels(partial, split)
        if exists:
            replaced = output.with_name(f".{output.name}.{os.getpid()}.replaced")
            output.rename(replaced)
            partial.rename(output)
            shutil.rmtree(replaced)
        else:
            partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def count_categories(json_file: str | os.PathLike[str]) -> dict[str, int]:
    """How many objects of each category a COCO JSON holds, in the order of the categories."""
    data = json.loads(Path(json_file).read_text(encoding="ascii"))
    counts = Counter(annotation["category_id"] for annotation in data["annotations"])
    return {category["name"]: counts[category["id"]] for category in data["categories"]}


def json_path(root: str | os.PathLike[str], split: str) -> Path:
    """Where the annotations of a split of the data set in the folder ``root`` are."""
    return Path(root) / "annotations" / f"instances_{split}.json"


def label_folder(root: str | os.PathLike[str], split: str) -> Path:
    """Where the label maps of a split of the data set in the folder ``root`` are."""
    return Path(root) / f"labels_{split}"


def _add_labels(root: Path, split: str) -> None:
    """Write the label maps of a split from its annotations, unless they are there."""
    folder = label_folder(root, split)
    if folder.exists():
        return
    data = json.loads(json_path(root, split).read_text(encoding="ascii"))
    labels = {
        image["id"]: np.zeros((image["height"], image["width"]), np.uint8)
        for image in data["images"]
    }
    for annotation in data["annotations"]:
        label = labels[annotation["image_id"]]
        encoded = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], *label.shape))
        label[coco_mask.decode(encoded) > 0] = annotation["category_id"]
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        for image in data["images"]:
            name = Path(image["file_name"]).with_suffix(".png")
            Image.fromarray(labels[image["id"]]).save(partial / name)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _difference(output: Path, options: ShapesOptions) -> str | None:
    """How the data set in a folder differs from the wanted one, or None if it does not.

    Raises:
        ValueError: the folder holds no Shapes data set.
    """
    try:
        info = json.loads(json_path(output, "train").read_text(encoding="ascii"))["info"]
        found, version = info["options"], info["version"]
        if info["description"] != DESCRIPTION:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{output} exists and is not a Shapes data set (it has no readable "
            f"{json_path('', 'train')} of one): choose another folder, or remove it"
        ) from None
    if version != VERSION:
        return f"version {version}, not {VERSION}"
    wanted = asdict(options)
    changes = [
        f"{name} {found.get(name)}, not {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if changes:
        return "; ".join(changes)
    for split in SPLITS:
        there = len(list((output / split).glob("*.bmp")))
        if there != wanted[f"num_{split}"] or not json_path(output, split).is_file():
            return f"incomplete: {there} images in {split}, not {wanted[f'num_{split}']}"
    return None


def _write_split(root: Path, options: ShapesOptions, split: str, progress: bool) -> None:
    """Write the images and the annotations of a split."""
    (root / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    indices = range(getattr(options, f"num_{split}"))
    bar = tqdm(indices, f"Shapes {split}", unit=" images", mininterval=0.5, disable=not progress)
    for index in bar:
        scene = make_scene(options, split, index)
        image = _image_entry(scene, options, index + 1, first_annotation=len(annotations) + 1)
        # BMP, since its bytes do not depend on the version of a compression library.
        Image.fromarray(scene.image).save(root / split / image["file_name"])
        images.append(image)
        for item in scene.objects:
            y, x = np.nonzero(item.visible)
            left, top = int(x.min()), int(y.min())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": CATEGORY_IDS[item.category],
                    "bbox": [left, top, int(x.max()) + 1 - left, int(y.max()) + 1 - top],
                    "area": len(x),
                    "iscrowd": 0,
                    "segmentation": item.polygons,
                    "colour": item.colour,
                }
            )
    data = {
        "info": {
            "description": DESCRIPTION,
            "version": VERSION,
            "split": split,
            "options": asdict(options),
        },
        "licenses": [LICENSE],
        "categories": [
            {"id": CATEGORY_IDS[outline + ending], "name": outline + ending, "supercategory": cue}
            for cue, outlines in OUTLINES_OF_CUE.items()
            for outline in outlines
            for ending in ENDINGS_OF_CUE[cue]
        ],
        "images": images,
        "annotations": annotations,
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n"
    json_path(root, split).write_bytes(text.encode("ascii"))


def _image_entry(
    scene: Scene, options: ShapesOptions, image_id: int, first_annotation: int
) -> dict[str, Any]:
    """COCO's entry of an image, with its tags and its beacon, which are not annotated."""
    tag_size, beacon_size = options.tag_size, options.beacon_size
    return {
        "id": image_id,
        "file_name": f"{image_id:06d}.bmp",
        "width": options.image_size,
        "height": options.image_size,
        "license": LICENSE["id"],
        "tags": [
            {
                "annotation_id": None if tag.owner is None else first_annotation + tag.owner,
                "bbox": [tag.x, tag.y, tag_size, tag_size],
                "centre": tag.centre,
                "colour": tag.colour,
            }
            for tag in scene.tags
        ],
        "beacon": {
            "bbox": [scene.beacon.x, scene.beacon.y, beacon_size, beacon_size],
            "pattern": scene.beacon.pattern,
        },
    }
