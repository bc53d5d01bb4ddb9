"""The data of the study: Shapes, and the same images labelled by what is in them.

The shared backbone learns from the second kind what features trained on photographs have: which
things there are and how they look. The relation between them is not in its labels.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnl_det.data import ShapesOptions, write_shapes
from dnl_det.data.options import OUTLINES_OF_CUE, PALETTE, SPLITS
from dnl_det.data.shapes import json_path

OUTLINES = [outline for outlines in OUTLINES_OF_CUE.values() for outline in outlines]
# Of the training images alone: one object's tag says its class without any relation, so images of
# one object are the first step; and few of another kind, so that there is much to learn from.
TRAINING: dict[str, Any] = {
    "balance_tags": False,
    "min_objects": 1,
    "tag_share": 0.7,
    "beacon_share": 0.2,
    "plain_share": 0.1,
}
PARTS = [
    *(f"{outline}_{colour}" for outline in OUTLINES for colour in PALETTE),
    *(f"tag_{colour}_{centre}" for colour in PALETTE for centre in ("black", "white")),
    *(f"beacon_{pattern}" for pattern in "ab"),
]


def write_data(folder: Path, options: ShapesOptions) -> None:
    """Write the study's data into ``folder``, as far as they are not there.

    In the training images the tags' centres are black or white by chance; where an image has few
    tags, counting the white ones is then a first step to the relation. In the validation images as
    many are black as white, so that it does not help.

    Args:
        folder: to make.
        options: of Shapes; :data:`TRAINING` replaces those of the training images, and
            ``balance_tags`` is as said.

    Raises:
        ValueError: data with other options are there.
    """
    kinds = {"train": replace(options, num_val=1, **TRAINING)}
    kinds["val"] = replace(options, balance_tags=True, num_train=1)
    for split, its_options in kinds.items():
        write_shapes(folder / split, its_options)
        parts = folder / f"parts_{split}.json"
        if not parts.exists():
            shapes = json.loads(json_path(folder / split, split).read_text(encoding="ascii"))
            parts.write_text(json.dumps(label_parts(shapes)), encoding="ascii")


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

    Objects have outline and colour as their class; tags, with colour and centre, and the beacon,
    with its pattern, are objects too. What Shapes asks for, the tag's centre for its object, is in
    none of them.
    """
    names = {category["id"]: category["name"] for category in shapes["categories"]}
    images = {image["id"]: image for image in shapes["images"]}
    found = [
        (item["image_id"], f"{names[item['category_id']].split('_')[0]}_{item['colour']}", item)
        for item in shapes["annotations"]
    ]
    for number, image in images.items():
        for tag in image["tags"]:
            found.append((number, f"tag_{tag['colour']}_{tag['centre']}", tag))
        found.append((number, f"beacon_{image['beacon']['pattern']}", image["beacon"]))
    identities = {name: identity for identity, name in enumerate(PARTS, start=1)}
    annotations = [
        {
            "id": identity,
            "image_id": image,
            "category_id": identities[name],
            "bbox": item["bbox"],
            "area": item["bbox"][2] * item["bbox"][3],
            "iscrowd": 0,
        }
        for identity, (image, name, item) in enumerate(found, start=1)
    ]
    keys = ("id", "file_name", "width", "height")
    return {
        "images": [{key: image[key] for key in keys} for image in images.values()],
        "annotations": annotations,
        "categories": [{"id": identity, "name": name} for name, identity in identities.items()],
    }
