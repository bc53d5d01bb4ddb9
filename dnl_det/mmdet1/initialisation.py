"""The first values of a detector's layers in mmdetection 1.x, where detectron2's are others."""

from detectron2.modeling import FPN
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead
from torch import nn


def initialise(model: nn.Module) -> None:
    """Fill some layers of a Mask R-CNN with FPN anew, as mmdetection 1.x starts them.

    - FPN's convolutions and the box head's fully connected layers: Xavier uniform,
      ``U(-a, a)`` with ``a = sqrt(6 / (fan_in + fan_out))``; detectron2: ``a = sqrt(3 / fan_in)``.
    - The mask head's last convolution: Kaiming normal, ``N(0, 2 / fan_out)``; detectron2:
      ``N(0, 0.001^2)``.

    All else starts alike in both: biases at 0, RPN and classifier with ``N(0, 0.01^2)``, the box
    regression with ``N(0, 0.001^2)``, the heads' other convolutions Kaiming normal, fan out.

    Args:
        model: changed in place.
    """
    for module in model.modules():
        if isinstance(module, FPN):
            for convolution in (*module.lateral_convs, *module.output_convs):
                nn.init.xavier_uniform_(convolution.weight)
        elif isinstance(module, FastRCNNConvFCHead):
            for layer in module.fcs:
                nn.init.xavier_uniform_(layer.weight)
        elif isinstance(module, MaskRCNNConvUpsampleHead):
            nn.init.kaiming_normal_(module.predictor.weight, mode="fan_out", nonlinearity="relu")
