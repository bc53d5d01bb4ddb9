"""``train_net.py`` with a model that gives the detections of a file: ``given_detections.py ...``.

``GIVEN_DETECTIONS`` names the file, a list in COCO's results format; see ``test_whole_path.py``.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from torch import nn

from dnl_det.cli import train
from dnl_det.engine import argument_parser


class ExactBoxes(Boxes):
    """Boxes of float64: detectron2's make float32 of any number, at every move too."""

    def __init__(self, tensor):
        self.tensor = tensor

    def to(self, device):
        return self


@META_ARCH_REGISTRY.register()
class GivenDetections(nn.Module):
    """What the file has for each image; float32 boxes with ``GIVEN_PRECISION=float32``."""

    def __init__(self, cfg):
        super().__init__()
        self.masks = cfg.MODEL.MASK_ON
        name = cfg.DATASETS.TEST[0]
        self.metadata = MetadataCatalog.get(name)
        self.boxes = Boxes if os.environ.get("GIVEN_PRECISION") == "float32" else ExactBoxes
        self.found = {}
        for result in json.loads(Path(os.environ["GIVEN_DETECTIONS"]).read_text()):
            self.found.setdefault(result["image_id"], []).append(result)

    def forward(self, images):
        time.sleep(float(os.environ.get("GIVEN_SECONDS", 0)))
        return [{"instances": self.instances(image)} for image in images]

    def instances(self, image):
        found = self.found.get(image["image_id"], [])
        size = image["height"], image["width"]
        classes = self.metadata.thing_dataset_id_to_contiguous_id
        corners = torch.tensor([r["bbox"] for r in found], dtype=torch.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        result = Instances(size)
        result.pred_boxes = self.boxes(corners)
        result.scores = torch.tensor([r["score"] for r in found], dtype=torch.float64)
        result.pred_classes = torch.tensor([classes[r["category_id"]] for r in found])
        if self.masks:
            masks = [mask_util.decode(r["segmentation"]) for r in found]
            result.pred_masks = torch.tensor(np.array(masks), dtype=torch.bool).reshape(-1, *size)
        return result


def verify_and_print(cfg, results):
    """All digits, where detectron2 prints four."""
    print("RESULTS", json.dumps(results), flush=True)
    return verify_results(cfg, results)


verify_results = train.verify_results
train.verify_results = verify_and_print

if __name__ == "__main__":
    train.run(argument_parser().parse_args())
