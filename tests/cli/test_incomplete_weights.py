"""No command goes on with parameters that its weights file does not fill."""

import pytest
import torch

from dnl_det.__main__ import main
from dnl_det.engine import Trainer, load_config

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture(scope="module", params=["classes", "backbone"])
def weights(root, tmp_path_factory, request):
    keys = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "4"]
    state = Trainer.build_model(load_config(str(root / CONFIG), keys)).state_dict()
    if request.param == "backbone":
        state = {k: v for k, v in state.items() if k.startswith("backbone.")}
    file = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save({"model": state}, file)
    return file


@pytest.mark.parametrize("command", ["predict", "explore", "diagnose", "train"])
def test_no_command_uses_random_heads(root, shapes, tmp_path, weights, command):
    image, output = str(next((shapes / "val").glob("*.bmp"))), str(tmp_path / "output")
    words = [command, "--config-file", str(root / CONFIG)]
    if command == "train":
        words += ["--eval-only", "MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", output]
    else:
        words += ["--weights", str(weights), "--output", output]
        words += [] if command == "diagnose" else [image]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    message = str(stopped.value.code)
    assert message.startswith(f"error: MODEL.WEIGHTS: {weights} does not fill the model: ")
    expected = {
        "classes.pth": "cls_score.weight is (5, 256) there and (11, 256) in the model",
        "backbone.pth": "it lacks proposal_generator.rpn_head.conv.weight",
    }
    assert expected[weights.name] in message
