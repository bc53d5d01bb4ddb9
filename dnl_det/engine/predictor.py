"""A model with its weights, ready for single images."""

from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.engine import DefaultPredictor
from PIL import Image

from ..checkpoint import Checkpointer
from ..data.images import build_test_resize
from .training.trainer import Trainer


class Predictor(DefaultPredictor):
    """detectron2's predictor on this project's model and checkpointer.

    Calling it with a BGR uint8 image ``(H, W, 3)`` gives the model's output for it, such as
    ``{"instances": Instances}`` with boxes in pixels of that image.

    Args:
        cfg: its ``MODEL.WEIGHTS`` are loaded.

    Raises:
        ValueError, OSError: see :class:`dnl_det.checkpoint.Checkpointer`.
    """

    def __init__(self, cfg: CfgNode):
        # Not DefaultPredictor's, which takes no other checkpointer.
        self.cfg = cfg.clone()
        self.model = Trainer.build_model(cfg).eval()
        Checkpointer(self.model, complete=True).load(cfg.MODEL.WEIGHTS)
        self.aug = build_test_resize(cfg)
        self.input_format = "BGR"  # see __call__

    def __call__(self, original_image: np.ndarray) -> Any:
        """The model's output for a BGR image, in whatever ``INPUT.FORMAT`` the model learnt."""
        if (wanted := self.cfg.INPUT.FORMAT) != "BGR":
            rgb = Image.fromarray(original_image[:, :, ::-1])
            original_image = convert_PIL_to_numpy(rgb, wanted)
        return super().__call__(original_image)
