"""A residual block of detectron2's ResNet with attention in it.

N: images, C: channels of the block's output, H, W: height, width.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import Tensor, nn

from ..layers.attention import check_choice

POSITIONS = ("before_relu", "after_relu", "before_add")
BLOCK_TYPES = (BasicBlock, BottleneckBlock, DeformBottleneckBlock)


class AttentionBlock(CNNBlockBase):
    """A built residual block, its layers taken over under their names, and ``attention``.

    Parameter names stay (``conv1.weight``, ...), so checkpoints of the plain block load;
    the new ones start with ``attention.``.

    Args:
        block: a basic, bottleneck or deformable bottleneck block of detectron2, or of a subclass
            with the same forward pass.
        attention: ``(N, C, H, W) -> (N, C, H, W)``.
        position: ``before_relu``: on the sum of residual and shortcut; ``after_relu``: on the
            block's output; ``before_add``: on the residual, before the shortcut is added.

    Raises:
        ValueError: an unknown position, or a block whose layers are not known.
    """

    def __init__(self, block: CNNBlockBase, attention: nn.Module, position: str = "before_relu"):
        super().__init__(block.in_channels, block.out_channels, block.stride)
        check_choice("position", position, POSITIONS)
        kind = _kind(block)
        # Marks, not values: a script has only the layers that are used.
        if kind is not BasicBlock:
            self.is_bottleneck = True
        if kind is DeformBottleneckBlock:
            self.is_deformable = True
        self.position = position
        for name, layer in block.named_children():
            self.add_module(name, layer)
        self.shortcut = block.shortcut
        self.deform_modulated = getattr(block, "deform_modulated", False)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, H, W)`` to ``(N, C, H / stride, W / stride)``."""
        out = self._residual(x)
        if self.position == "before_add":
            out = self.attention(out)
        if self.shortcut is not None:
            x = self.shortcut(x)
        out += x
        if self.position == "before_relu":
            out = self.attention(out)
        out = F.relu_(out)
        if self.position == "after_relu":
            out = self.attention(out)
        return out

    def _residual(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        if hasattr(self, "is_deformable"):
            offset = self.conv2_offset(out)
            if self.deform_modulated:
                offset_x, offset_y, mask = torch.chunk(offset, 3, dim=1)
                out = self.conv2(out, torch.cat((offset_x, offset_y), dim=1), mask.sigmoid())
            else:
                out = self.conv2(out, offset)
        else:
            out = self.conv2(out)
        if hasattr(self, "is_bottleneck"):
            out = self.conv3(F.relu_(out))
        return out


def _kind(block: nn.Module) -> type[nn.Module]:
    for kind in BLOCK_TYPES:
        if isinstance(block, kind) and type(block).forward is kind.forward:
            return kind
    raise ValueError(
        f"no attention can be put into a {type(block).__name__}: must be one of "
        f"{', '.join(kind.__name__ for kind in BLOCK_TYPES)}, or a subclass that keeps its forward"
    )
