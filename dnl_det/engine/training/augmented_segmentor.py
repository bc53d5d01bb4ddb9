"""Test-time augmentation of semantic segmentation.

K: classes, h, w: height, width of the original image.
"""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...data.images import build_test_resize, read_image


class SemanticSegmentorWithTTA(nn.Module):
    """The mean of the classes' probabilities over scales, and mirrored images.

    The original image is resized to ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST`` times each of
    ``TEST.AUG.SCALES``; ``TEST.AUG.FLIP`` adds its mirror image. The model gives logits of the
    original size, whose softmax is averaged, as mmsegmentation does.

    Args:
        cfg: of the model.
        model: any model that gives ``sem_seg`` logits, such as detectron2's ``SemanticSegmentor``.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        super().__init__()
        self.cfg = cfg
        self.model = model

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """As the model's, from ``file_name``.

        Returns:
            For each image ``{"sem_seg": probabilities (K, h, w)}``.
        """
        return [{"sem_seg": self._segment(inputs)} for inputs in batched_inputs]

    @torch.no_grad()
    def _segment(self, inputs: dict[str, Any]) -> Tensor:
        image = read_image(self.cfg, inputs["file_name"], self.cfg.INPUT.FORMAT)
        height, width = image.shape[:2]
        flips = (False, True) if self.cfg.TEST.AUG.FLIP else (False,)
        total: Tensor | None = None
        for scale in self.cfg.TEST.AUG.SCALES:
            resized = build_test_resize(self.cfg, scale).get_transform(image).apply_image(image)
            for flip in flips:
                given = resized[:, ::-1] if flip else resized
                pixels = torch.from_numpy(np.ascontiguousarray(given.transpose(2, 0, 1)))
                one = {"image": pixels, "height": height, "width": width}
                probabilities = self.model([one])[0]["sem_seg"].softmax(dim=0)
                if flip:
                    probabilities = probabilities.flip(-1)
                total = probabilities if total is None else total + probabilities
        assert total is not None
        return total / (len(self.cfg.TEST.AUG.SCALES) * len(flips))
