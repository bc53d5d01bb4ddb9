"""The head of semantic segmentation with attention in it.

N: images, K: classes, C: channels of the head, h, w: height, width of its input.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..block_keys import block_arguments
from ..norm import replace_sync_bn
from ..timm_blocks import build_block
from .check import check_sem_seg_head
from .loss import SemSegLoss


@SEM_SEG_HEADS_REGISTRY.register()
class DNLSemSegHead(nn.Module):
    """A convolution, attention, a convolution, and a classifier on their output and the input.

    The head of mmsegmentation's DNL, NL and GC models, and without attention of its FCN; the
    authors' segmentation network has the same. An auxiliary head on another feature helps in
    training alone.

    Args:
        input_shape: of the backbone's features.
        in_features: what the head reads. The second and later ones are resized bilinearly to the
            size of the first and all are concatenated.
        num_classes: K.
        channels: C.
        block: ``dnl``, ``nl``, ``snl``, ``gc`` or ``none``.
        block_arguments: of the block's constructor.
        norm: of the convolutions, see detectron2's ``get_norm``.
        concat: whether a third convolution joins the input with the second's output.
        dropout: probability with which a channel is left out before the classifier.
        align_corners: of every resizing.
        loss: of the classes, see :class:`SemSegLoss`.
        loss_weight: multiplies it.
        aux_in_feature: what the auxiliary head reads.
        aux_channels: its C.
        aux_loss: of its classes.
        aux_loss_weight: multiplies its loss; 0: there is none.

    Raises:
        ValueError: an argument of the block that is out of its range.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        in_features: Sequence[str],
        num_classes: int,
        channels: int,
        block: str = "dnl",
        block_arguments: Mapping[str, Any] | None = None,
        norm: str = "",
        concat: bool = True,
        dropout: float = 0.1,
        align_corners: bool = False,
        loss: SemSegLoss,
        loss_weight: float = 1.0,
        aux_in_feature: str = "",
        aux_channels: int = 256,
        aux_loss: SemSegLoss | None = None,
        aux_loss_weight: float = 0.0,
    ):
        super().__init__()
        self.in_features = list(in_features)
        self.stride = input_shape[in_features[0]].stride
        self.ignore_value = loss.ignore_value  # SemanticSegmentor pads labels with it
        self.align_corners = align_corners
        self.loss, self.loss_weight = loss, loss_weight

        inputs = sum(input_shape[name].channels or 0 for name in in_features)
        self.conv1 = _conv(inputs, channels, norm)
        self.attention = None
        if block != "none":
            self.attention = build_block(block, channels, **(block_arguments or {}))
        self.conv2 = _conv(channels, channels, norm)
        self.conv_cat = _conv(inputs + channels, channels, norm) if concat else None
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = _predictor(channels, num_classes)

        self.aux_in_feature = aux_in_feature
        self.aux_loss, self.aux_loss_weight = aux_loss or loss, aux_loss_weight
        self.aux = None
        if aux_loss_weight:
            into = input_shape[aux_in_feature].channels or 0
            self.aux = nn.Sequential()
            self.aux.add_module("conv", _conv(into, aux_channels, norm))
            self.aux.add_module("dropout", nn.Dropout2d(dropout))
            self.aux.add_module("predictor", _predictor(aux_channels, num_classes))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """From ``MODEL.SEM_SEG_HEAD``."""
        check_sem_seg_head(cfg)
        head = replace_sync_bn(cfg).MODEL.SEM_SEG_HEAD
        options = {
            "ignore_value": head.IGNORE_VALUE,
            "mean": head.LOSS_MEAN,
            "class_weights": head.CLASS_WEIGHTS,
            "align_corners": head.ALIGN_CORNERS,
        }
        return {
            "input_shape": input_shape,
            "in_features": head.IN_FEATURES,
            "num_classes": head.NUM_CLASSES,
            "channels": head.CONVS_DIM,
            "block": head.DNL.BLOCK,
            "block_arguments": block_arguments(head.DNL, head.NORM),
            "norm": head.NORM,
            "concat": head.CONCAT,
            "dropout": head.DROPOUT,
            "align_corners": head.ALIGN_CORNERS,
            "loss": SemSegLoss(
                **options,
                ohem=head.OHEM,
                threshold=head.OHEM_THRESHOLD,
                min_pixels=head.OHEM_MIN_PIXELS,
            ),
            "loss_weight": head.LOSS_WEIGHT,
            "aux_in_feature": head.AUX.IN_FEATURE,
            "aux_channels": head.AUX.CONVS_DIM,
            "aux_loss": SemSegLoss(**options),
            "aux_loss_weight": head.AUX.LOSS_WEIGHT,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """As detectron2's heads.

        Args:
            features: by name.
            targets: labels ``(N, H, W)``, in training.

        Returns:
            In training None and the losses; else logits ``(N, K, H, W)``, H, W the head's stride
            times h, w, and no losses.
        """
        logits = self.predict(features)
        if not self.training:
            size = [side * self.stride for side in logits.shape[-2:]]
            return self.resize(logits, size), {}
        assert targets is not None
        losses = {"loss_sem_seg": self.loss(logits, targets) * self.loss_weight}
        if self.aux is not None:
            auxiliary = self.aux(features[self.aux_in_feature])
            losses["loss_sem_seg_aux"] = self.aux_loss(auxiliary, targets) * self.aux_loss_weight
        return None, losses

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(N, K, h, w)``, of the first feature's size."""
        maps = [features[name] for name in self.in_features]
        size = maps[0].shape[-2:]
        x = torch.cat([maps[0], *(self.resize(one, size) for one in maps[1:])], dim=1)
        y = self.conv1(x)
        if self.attention is not None:
            y = self.attention(y)
        y = self.conv2(y)
        if self.conv_cat is not None:
            y = self.conv_cat(torch.cat((x, y), dim=1))
        logits: Tensor = self.predictor(self.dropout(y))
        return logits

    def resize(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """``(N, C, h, w)`` to ``(N, C, *size)``, bilinearly."""
        if maps.shape[-2:] == torch.Size(size):
            return maps
        return F.interpolate(maps, list(size), mode="bilinear", align_corners=self.align_corners)


def _conv(into: int, out: int, norm: str) -> Conv2d:
    conv = Conv2d(
        into,
        out,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, out),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(conv)
    return conv


def _predictor(into: int, num_classes: int) -> Conv2d:
    conv = Conv2d(into, num_classes, kernel_size=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv
