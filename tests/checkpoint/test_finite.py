"""Weights that are not finite are refused, through the program that evaluates them."""

import pytest
import torch

from dnl_det.cli import train
from dnl_det.engine import Trainer, argument_parser, load_config

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0])
def test_a_diverged_model_is_not_evaluated(root, shapes, tiny, tmp_path, value):
    config = str(root / CONFIG)
    model = Trainer.build_model(load_config(config, [*tiny, "MODEL.DEVICE", "cpu"]))
    state = model.state_dict()
    state["roi_heads.box_predictor.bbox_pred.bias"][2] = value
    torch.save({"model": state, "iteration": 9}, tmp_path / "diverged.pth")
    keys = ["MODEL.WEIGHTS", tmp_path / "diverged.pth", "OUTPUT_DIR", tmp_path / "out", *tiny]
    words = ["--config-file", config, "--eval-only", *map(str, keys)]
    arguments = argument_parser().parse_args(words)
    if value == 1:
        assert train.main(arguments)["bbox"]["AP"] >= 0
        return
    with pytest.raises(SystemExit) as stopped:
        train.main(arguments)
    assert "tensors have NaN or infinite values once loaded, the first is roi_heads.box" in str(
        stopped.value
    )
    assert not (tmp_path / "out" / "inference").exists()
