"""Explorer pages of a small model with known weights, for the tests of the page."""

from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from dnl_det.analysis import record_attention
from dnl_det.analysis.page import block_names, explore_image
from dnl_det.layers import build_attention

NAMES = ["circle", "<b>square</b>"]


class TwoBlocks(torch.nn.Module):
    """A block at stride 4 and one at stride 8, behind convolutions; called as a detector is."""

    def __init__(self, kinds, gamma=0.5):
        super().__init__()
        torch.manual_seed(0)
        stem = torch.nn.Conv2d(3, 16, 4, 4)
        self.layers = torch.nn.Sequential(
            stem, build_attention(**kinds[0]), torch.nn.MaxPool2d(2), build_attention(**kinds[1])
        )
        for index in (1, 3):
            for name, parameter in self.layers[index].named_parameters():
                torch.nn.init.normal_(parameter, std=0.25)
                if name == "gamma":
                    torch.nn.init.constant_(parameter, gamma)

    def forward(self, inputs):
        image = inputs[0]["image"].float()[None] / 64 - 2
        height, width = (-(-side // 32) * 32 for side in image.shape[2:])
        padding = (0, width - image.shape[3], 0, height - image.shape[2])
        return self.layers(torch.nn.functional.pad(image, padding))


DNL = {"name": "dnl", "in_channels": 16}


def picture(height=120, width=200):
    """RGB: a gradient with a bright square in it."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * x / width, 255 * y / height, 90 + 0 * x], axis=2).astype(np.uint8)
    image[20:60, 130:170] = 240
    return image


def detections(height=120, width=200):
    """Two: a disc with a hole, and a square; scores 0.9 and 0.4."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(x - 60, y - 70)
    masks = np.stack([(radius < 30) & (radius > 10), (abs(x - 150) < 20) & (abs(y - 40) < 20)])
    found = Instances((height, width))
    found.pred_boxes = Boxes(torch.tensor([[30.0, 40.0, 90.0, 100.0], [130, 20, 170, 60]]))
    found.pred_masks = torch.from_numpy(masks)
    found.scores, found.pred_classes = torch.tensor([0.9, 0.4]), torch.tensor([0, 1])
    return found


def make_page(folder: Path, name="page", kinds=(DNL, DNL), gamma=0.5, size=(90, 150), **options):
    """Write a page; return its file, and the record it shows."""
    model = TwoBlocks(kinds, gamma).eval()
    image = picture(*options.pop("picture", (120, 200)))
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), size
    )[0].to(torch.uint8)
    inputs = [{"image": resized, "height": image.shape[0], "width": image.shape[1]}]
    with torch.no_grad(), record_attention(model, {"layers.1": 4, "layers.3": 8}) as record:
        model(inputs)
    names = options.pop("names", NAMES)
    options = {"title": "photo.jpg", "model": "small", **options}
    page = explore_image(
        record, image, detections(*image.shape[:2]), names, blocks=block_names(model), **options
    )
    file = folder / f"{name}.html"
    file.write_text(page)
    return file, record
