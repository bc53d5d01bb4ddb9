"""The data of the study: Shapes, and the same images labelled by what is in them.

The shared backbone learns from the second kind what features trained on photographs have: which
things there are and how they look. The relation between them is not in its labels.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnl_det.data import ShapesOptions, write_shapes
from dnl_det.data.shapes import PALETTE, SPLITS, THING_CLASSES, json_path

OPTIONS = ShapesOptions(
    image_size=64,
    num_train=12000,
    num_val=500,
    max_objects=3,
    min_size=16,
    max_size=22,
    stroke=2,
    tag_size=7,
    beacon_size=10,
    noise=12,
    max_overlap=0.0,
    tag_share=0.6,
    beacon_share=0.2,
)
# Of the training images alone. One object's tag says its class without any relation, so images of
# one object are the first step; and few of another kind, so that there is much to learn from.
# The tags' centres are black or white by chance: where an image has few tags, counting the white
# ones is then a first step too. In the validation images as many are black as white, so that
# counting does not help.
TRAINING: dict[str, Any] = {
    "balance_tags": False,
    "min_objects": 1,
    "tag_share": 0.7,
    "plain_share": 0.1,
}
OUTLINES = dict.fromkeys(name.split("_")[0] for name in THING_CLASSES)
# An object by outline and colour, a tag by colour and centre, the beacon by its pattern.
PARTS = [
    *(f"{outline}_{colour}" for outline in OUTLINES for colour in PALETTE),
    *(f"tag_{colour}_{centre}" for colour in PALETTE for centre in ("black", "white")),
    *(f"beacon_{pattern}" for pattern in "ab"),
]


def write_data(folder: Path, options: ShapesOptions) -> None:
    """Write the study's data into ``folder``, as far as they are not there.

    Args:
        folder: to make.
        options: of Shapes; :data:`TRAINING` replaces those of the training images.

    Raises:
        ValueError: data with other options are there.
    """
    kinds = {
        "train": replace(options, num_val=1, **TRAINING),
        "val": replace(options, num_train=1, balance_tags=True),
    }
    for split, its_options in kinds.items():
        write_shapes(folder / split, its_options)
        shapes = json.loads(json_path(folder / split, split).read_text())
        (folder / f"parts_{split}.json").write_text(json.dumps(label_parts(shapes)))


def overrides(folder: Path, parts: bool) -> list[str]:
    """The config keys of the data in ``folder``, with the labels of parts or of Shapes."""
    keys = []
    for split in SPLITS:
        file = folder / f"parts_{split}.json" if parts else json_path(folder / split, split)
        keys += [f"DATASETS.{split.upper()}_JSON", str(file)]
        keys += [f"DATASETS.{split.upper()}_IMAGES", str(folder / split / split)]
    return keys


def label_parts(shapes: dict[str, Any]) -> dict[str, Any]:
    """The annotations of a Shapes data set with :data:`PARTS` as classes.

    What Shapes asks for, the centre of an object's tag, is not in an object's label.
    """
    outlines = {each["id"]: each["name"].split("_")[0] for each in shapes["categories"]}
    found = [
        (each["image_id"], f"{outlines[each['category_id']]}_{each['colour']}", each["bbox"])
        for each in shapes["annotations"]
    ]
    for image in shapes["images"]:
        for tag in image["tags"]:
            found.append((image["id"], f"tag_{tag['colour']}_{tag['centre']}", tag["bbox"]))
        beacon = image["beacon"]
        found.append((image["id"], f"beacon_{beacon['pattern']}", beacon["bbox"]))
    ids = {name: number for number, name in enumerate(PARTS, start=1)}
    annotations = [
        {"id": number, "image_id": image, "category_id": ids[name], "bbox": box, "iscrowd": 0}
        for number, (image, name, box) in enumerate(found, start=1)
    ]
    for annotation in annotations:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": shapes["images"], "annotations": annotations, "categories": categories}
