"""A small sound data set in COCO's format, to be broken in one way at a time."""

import copy
import json

import numpy as np
from PIL import Image

from dnl_det.data.checks import Use, checked

WIDTH, HEIGHT = 48, 36
SQUARE = [8.0, 6.0, 24.0, 6.0, 24.0, 22.0, 8.0, 22.0]
SECOND = [28.0, 10.0, 44.0, 10.0, 44.0, 30.0, 28.0, 30.0]


def annotation(identity, image_id, category_id, polygon):
    x0, y0, x1, y1 = min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": [polygon],
    }


class DataSet:
    """Four images of two objects each; ``content`` is changed, then ``write`` is called."""

    def __init__(self, folder):
        self.images = folder / "images"
        self.images.mkdir(parents=True)
        self.json = folder / "annotations.json"
        self.encoding = "utf-8"
        self.content = {
            "images": [
                {"id": k, "file_name": f"{k}.png", "width": WIDTH, "height": HEIGHT}
                for k in range(1, 5)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [
                annotation(2 * k - 1 + second, k, 1 + second, (SQUARE, SECOND)[second])
                for k in range(1, 5)
                for second in (0, 1)
            ],
        }
        rng = np.random.default_rng(0)
        for k in range(1, 5):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.images / f"{k}.png")

    @property
    def annotations(self):
        return self.content["annotations"]

    @property
    def entries(self):
        return self.content["images"]

    def file(self, image_id):
        """The path of an image."""
        return self.images / self.entries[image_id - 1]["file_name"]

    def rename(self, image_id, ending):
        """Give an image another ending in the JSON; the new file is the caller's to write."""
        self.file(image_id).unlink()
        self.entries[image_id - 1]["file_name"] = f"{image_id}.{ending}"
        return self.file(image_id)

    def add(self, **changes):
        """A copy of the last annotation with another id and some changes."""
        new = copy.deepcopy(self.annotations[-1])
        new["id"] = len(self.annotations) + 1
        self.annotations.append({**new, **changes})

    def write(self):
        self.json.write_text(json.dumps(self.content), encoding=self.encoding)
        return self.json


def check(data, **use):
    """Write the data set and look at everything."""
    return checked("mine", data.write(), data.images, Use(thorough=True, **use))


def codes(found, *kinds):
    """``{code: count}`` of the findings of some kinds; by default of all but notes."""
    kinds = kinds or ("error", "skipped", "repaired")
    return {code: len(v) for kind, code, v in found.report.groups() if kind in kinds}


def only(found, code):
    """The one finding of a code."""
    (finding,) = found.report.findings[next(k for k in found.report.findings if k[1] == code)]
    return finding


def noise(*shape, dtype=np.uint8):
    """An array of any values of a type; the same each time."""
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def picture(mode="RGB", width=WIDTH, height=HEIGHT):
    """A noisy image of one of Pillow's modes."""
    if mode == "I;16":
        return Image.fromarray(noise(height, width, dtype=np.uint16))
    return Image.fromarray(noise(height, width, 3)).convert(mode)


def exif(orientation):
    """EXIF that notes an orientation, for Pillow's ``save``."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags
