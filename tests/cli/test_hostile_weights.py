"""No command runs code that a weights file holds."""

import os
import pickle

import pytest
import torch

from dnl_det.__main__ import main
from dnl_det.engine import load_config
from dnl_det.engine.predictor import Predictor

CONFIG = "configs/Shapes/disentangled.yaml"


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self._folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self._folder,)


@pytest.fixture(params=["weights.pth", "weights.pkl"])
def weights(tmp_path, request):
    content = {"model": {"backbone.weight": torch.zeros(1)}, "more": Payload(tmp_path / "made")}
    file = tmp_path / request.param
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps({"model": {}, "more": content["more"]}))
    else:
        torch.save(content, file)
    return file


@pytest.mark.parametrize("command", ["predict", "explore", "diagnose", "convert", "python"])
def test_weights_that_run_code_are_refused(root, shapes, tmp_path, weights, command, capsys):
    image = str(next((shapes / "val").glob("*.bmp")))
    output = str(tmp_path / "output")
    config = ["--config-file", str(root / CONFIG), "--weights", str(weights)]
    words = {
        "predict": ["predict", *config, image, "--output", output],
        "explore": ["explore", *config, image, "--output", output],
        "diagnose": ["diagnose", *config, "--output", output],
        "convert": ["convert", str(weights), f"{output}.pth"],
    }
    if command == "python":
        keys = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"]
        with pytest.raises(ValueError, match="is refused"):
            Predictor(load_config(str(root / CONFIG), keys))
    else:
        with pytest.raises(SystemExit) as stopped:
            main(words[command])
        assert str(stopped.value.code).startswith("error: ")
        assert f"{weights.name} is refused: it refers to " in stopped.value.code
    assert not (tmp_path / "made").exists()
