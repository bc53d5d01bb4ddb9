"""Is a data set there and readable? Asked before anything long starts."""

import difflib
import json
import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image, UnidentifiedImageError

# Opening a file's header takes about 0.1 ms, so this many add no wait worth speaking of.
_HEADERS_READ = 5000


def check_dataset(name: str, *, annotated: bool = True) -> int:
    """Check that a registered data set's files exist and can be read.

    Every image must be there; headers are read of up to 5,000, evenly spread, and their sizes
    compared with the annotations'.

    Args:
        name: as in ``DATASETS.TRAIN`` or ``TEST``.
        annotated: see :func:`read_coco_json`.

    Returns:
        The number of its images; 0 where it is not in COCO's format.

    Raises:
        ValueError: an unknown name, an unreadable JSON or image, no images, or a wrong size.
        FileNotFoundError: a file or folder is missing; the message says how to get it.
    """
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
        raise ValueError(
            f"DATASETS: there is no data set {name!r}"
            + (f"; near it are {', '.join(near)}" if near else "")
            + ". One's own data need no name: see --train-json and --train-images"
        )
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "image_root", "panoptic_json", "panoptic_root", "sem_seg_root"):
        path = metadata.get(key)
        if path and not os.path.exists(path):
            raise FileNotFoundError(f"data set {name}: {path} is missing. {_how_to_get(name)}")
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    if not json_file or not image_root:
        return 0
    images = read_coco_json(json_file, name, annotated=annotated)["images"]
    if not images:
        raise ValueError(
            f"data set {name}: the list 'images' of {json_file} is empty; give a JSON with at "
            "least one image"
        )
    _check_images(images, Path(image_root), name)
    return len(images)


def read_coco_json(json_file: str, name: str, *, annotated: bool = True) -> dict[str, Any]:
    """The content of a COCO-format annotation file.

    Args:
        json_file: its path.
        name: of the data set, for the messages.
        annotated: whether it must have annotations. Test sets are published without.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, or not COCO's format.
    """
    try:
        content = json.loads(Path(json_file).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"data set {name}: there is no file {json_file}") from None
    except ValueError as error:
        raise ValueError(f"data set {name}: {json_file} cannot be read as JSON: {error}") from error
    keys = ("images", "annotations", "categories") if annotated else ("images", "categories")
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"data set {name}: {json_file} is not in COCO's format: it has no list {key!r} "
                f"({', '.join(keys)} are needed)"
            )
    return content


def _check_images(images: list[dict[str, Any]], root: Path, name: str) -> None:
    files = [root / image["file_name"] for image in images]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"data set {name}: {len(missing)} of {len(files)} images are missing, the first is "
            f"{missing[0]}. {_how_to_get(name)}"
        )
    step = max(1, len(images) // _HEADERS_READ)
    for image, file in zip(images[::step], files[::step], strict=True):
        try:
            with Image.open(file) as opened:
                size = opened.size
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"data set {name}: {file} cannot be read as an image ({error}); fetch it again, or "
                "remove it and its entry in the annotations"
            ) from error
        expected = (image["width"], image["height"])
        # A rotation noted in EXIF is applied on reading, so the sides may stand swapped here.
        if size not in (expected, expected[::-1]):
            raise ValueError(
                f"data set {name}: {file} is {size[0]} x {size[1]} and its annotations say "
                f"{expected[0]} x {expected[1]} (width x height); correct one of them"
            )


def _how_to_get(name: str) -> str:
    root = os.getenv("DETECTRON2_DATASETS", "datasets")
    where = f"Data sets are looked for in DETECTRON2_DATASETS, which is {root!r}. "
    if name.startswith("shapes_"):
        return where + f"Make Shapes with: python -m dnl_det shapes --output {root}/shapes"
    if name.startswith("coco_2017"):
        return where + (
            "COCO 2017 is at https://cocodataset.org/#download: unpack train2017, val2017 and "
            "annotations into its folder coco"
        )
    return where + "https://detectron2.readthedocs.io/tutorials/builtin_datasets.html says how"
