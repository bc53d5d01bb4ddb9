"""A small panoptic data set: boxes before sky and ground, and pixels of nothing."""

import json

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic_separated
from PIL import Image

HEIGHT, WIDTH = 64, 96
CAT, DOG, SKY, GROUND = 17, 18, 187, 193  # ids of the JSON
# Of the ids in the annotated image, which are colours: red + 256 * green.
CATEGORIES = {300: SKY, 7: GROUND, 65000: CAT, 12: DOG}
METADATA = {
    "thing_classes": ["cat", "dog"],
    "thing_dataset_id_to_contiguous_id": {CAT: 0, DOG: 1},
    "stuff_classes": ["things", "sky", "ground"],
    "stuff_dataset_id_to_contiguous_id": {0: 0, SKY: 1, GROUND: 2},
}


def segments(image):
    """Each pixel's id of image 1, 2, ...; 0 where there is nothing."""
    ids = np.full((HEIGHT, WIDTH), 300)
    ids[30:] = 7
    ids[20:50, 8 * image : 8 * image + 24] = 65000
    ids[10:40, 56:80] = 12
    ids[60:, :] = 0
    return ids


def write_panoptic(folder, count):
    """Images 1 to ``count`` with semantic, panoptic and instance annotations."""
    for name in ("images", "semantic", "panoptic"):
        (folder / name).mkdir()
    objects, annotations, images = [], [], []
    for image in range(1, count + 1):
        ids = segments(image)
        Image.fromarray(np.stack([ids % 251] * 3, axis=2).astype(np.uint8)).save(
            folder / "images" / f"{image}.jpg"
        )
        colors = np.stack([ids % 256, ids // 256, 0 * ids], axis=2).astype(np.uint8)
        Image.fromarray(colors).save(folder / "panoptic" / f"{image}.png")
        stuff = np.where(ids == 300, 1, np.where(ids == 7, 2, np.where(ids == 0, 255, 0)))
        Image.fromarray(stuff.astype(np.uint8)).save(folder / "semantic" / f"{image}.png")
        infos = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in CATEGORIES.items()]
        annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": infos})
        images.append({"id": image, "file_name": f"{image}.jpg", "height": HEIGHT, "width": WIDTH})
        for category, x, y in ((CAT, 8 * image, 20), (DOG, 56, 10)):
            corners = [x, y, x + 24, y, x + 24, y + 30, x, y + 30]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, 24, 30],
                    "area": 720,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
    things = [{"id": CAT, "name": "cat", "isthing": 1}, {"id": DOG, "name": "dog", "isthing": 1}]
    stuff = [
        {"id": SKY, "name": "sky", "isthing": 0},
        {"id": GROUND, "name": "ground", "isthing": 0},
    ]
    truth = {"images": images, "categories": things, "annotations": objects}
    (folder / "instances.json").write_text(json.dumps(truth))
    truth = {"images": images, "categories": things + stuff, "annotations": annotations}
    (folder / "panoptic.json").write_text(json.dumps(truth))


def register_panoptic(name, folder):
    """As ``NAME_separated`` and, its stuff alone, ``NAME_stuffonly``."""
    register_coco_panoptic_separated(
        name,
        METADATA,
        str(folder / "images"),
        str(folder / "panoptic"),
        str(folder / "panoptic.json"),
        str(folder / "semantic"),
        str(folder / "instances.json"),
    )


def remove_panoptic(name):
    for kind in ("separated", "stuffonly"):
        DatasetCatalog.remove(f"{name}_{kind}")
        MetadataCatalog.remove(f"{name}_{kind}")
