#!/usr/bin/env python3
"""Print parameters and multiply-adds of the paper's models, as docs/MODEL_ZOO.md lists them.

    python tools/model_zoo.py [CONFIG.yaml ...]

Multiply-adds are those of an image of 800 x 1344 pixels with 1,000 proposals and 100 detections:
convolutions, linear layers and the products of the attention. It takes seconds, since the tensors
have shapes but no values.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from dnl_det.engine import Trainer, load_config

FOLDER = Path(__file__).resolve().parents[1] / "configs/COCO-InstanceSegmentation"
MODELS = ("", "nl_c4_", "nl_c4_c5all_", "snl_c4_", "gc_c4_", "dnl_c4_", "dnl_c4_c5all_")
HEIGHT, WIDTH, PROPOSALS, DETECTIONS = 800, 1344, 1000, 100


def count_parameters(model: nn.Module) -> int:
    """Weights, biases, scales and shifts; also of layers that detectron2 freezes into buffers."""
    state = model.state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(value.numel() for key, value in state.items() if not key.endswith(statistics))


def count_multiply_adds(model: Any) -> int:
    """Multiply-adds of one image; one of them is two floating-point operations."""
    heads = model.roi_heads
    shapes_alone = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), shapes_alone, FlopCounterMode(display=False) as counter:
        features = model.backbone(torch.zeros(1, 3, HEIGHT, WIDTH))
        model.proposal_generator.rpn_head(list(features.values()))
        channels = features["p2"].shape[1]
        boxes = torch.zeros(PROPOSALS, channels, 7, 7)
        heads.box_predictor(heads.box_head(boxes))
        heads.mask_head.layers(torch.zeros(DETECTIONS, channels, 14, 14))
    return counter.get_total_flops() // 2


def measure(config_file: str) -> tuple[int, int]:
    """Parameters and multiply-adds of the model of a config."""
    cfg = load_config(config_file)
    cfg.MODEL.DEVICE = "cpu"
    model = Trainer.build_model(cfg).eval()
    return count_parameters(model), count_multiply_adds(model)


def main(files: list[str]) -> int:
    """Print a line for each config."""
    print(f"{'config':<44}{'parameters':>12}{'multiply-adds':>16}")
    for file in files or [str(FOLDER / f"mask_rcnn_R_50_FPN_{name}1x.yaml") for name in MODELS]:
        parameters, multiply_adds = measure(file)
        print(f"{Path(file).stem:<44}{parameters:>12,}{multiply_adds / 1e9:>14.1f} G")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
