"""Every key of the checkpoints that can be converted, and where its values go in detectron2.

``theirs`` are names of torchvision's ResNet and of the authors' Mask R-CNN (mmdetection 1.0rc0),
``ours`` those of detectron2 with this project's attention.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# The authors' SyncABN (of inplace_abn) scales by |weight| + eps with this eps.
SYNC_ABN_EPS = 1e-5
# From the number of blocks in the four stages to the depth of a ResNet with bottlenecks.
BOTTLENECK_DEPTHS: dict[tuple[int, ...], int] = {
    (3, 4, 6, 3): 50,
    (3, 4, 23, 3): 101,
    (3, 8, 36, 3): 152,
}
# And of those with two convolutions a block.
BASIC_DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}

CLASSIFIER = "ImageNet's classifier, which a detector has not"


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint.

    Attributes:
        theirs: its key in the file.
        ours: its key in detectron2; None if it is left out.
        shape: its shape in the file; None where any will do.
        change: what turns its values into ours, if they differ.
        note: what ``change`` does, or why the tensor is left out.
        optional: the file may lack it.
    """

    theirs: str
    ours: str | None
    shape: tuple[int, ...] | None = None
    change: Callable[[Tensor], Tensor] | None = None
    note: str = ""
    optional: bool = False


def sync_abn_scale(weight: Tensor) -> Tensor:
    """The scale that SyncABN computes with, ``|weight| + eps``."""
    return weight.abs() + SYNC_ABN_EPS


def background_last(weight: Tensor) -> Tensor:
    """Class 0, the background, moved behind the others, along the first dimension."""
    return torch.roll(weight, -1, dims=0)


def resnet_layout(depths: Sequence[int], bottleneck: bool) -> list[Entry]:
    """torchvision's ResNets, ResNeXts and wide ResNets, as detectron2's ImageNet files name them.

    Args:
        depths: number of blocks of each of the four stages.
        bottleneck: whether a block has three convolutions or two.
    """
    fc = [Entry(f"fc.{leaf}", None, note=CLASSIFIER, optional=True) for leaf in ("weight", "bias")]
    return [*_resnet(depths, bottleneck, scale=None), *fc]


def mask_rcnn_layout(
    depths: Sequence[int], attention: Mapping[tuple[int, int], str], num_classes: int
) -> list[Entry]:
    """The authors' Mask R-CNN with FPN and attention.

    Args:
        depths: number of blocks of each of the four stages, bottlenecks all.
        attention: from (stage 1 to 4, index of a block) to ``nl``, ``snl``, ``gc`` or ``dnl``.
        num_classes: without the background.
    """
    entries = [
        *_backbone(depths, attention),
        *_pyramid(),
        *conv("rpn_head.rpn_conv", "proposal_generator.rpn_head.conv", 256, 256, 3),
        *conv("rpn_head.rpn_cls", "proposal_generator.rpn_head.objectness_logits", 3, 256),
        *conv("rpn_head.rpn_reg", "proposal_generator.rpn_head.anchor_deltas", 12, 256),
    ]
    for i in range(4):
        theirs = f"bbox_head.shared_convs.{i}"
        entries += conv_norm(theirs, f"roi_heads.box_head.conv{i + 1}", 256, 256, 3, sync_abn_scale)
        theirs = f"mask_head.convs.{i}"
        entries += conv_norm(
            theirs, f"roi_heads.mask_head.mask_fcn{i + 1}", 256, 256, 3, sync_abn_scale
        )
    entries += layer("bbox_head.shared_fcs.0", "roi_heads.box_head.fc1", (1024, 256 * 7 * 7))
    entries += layer("mask_head.upsample", "roi_heads.mask_head.deconv", (256, 256, 2, 2))

    predictor = "roi_heads.box_predictor"
    rows = num_classes + 1
    note = "background moved from the first class to the last"
    entries += layer(
        "bbox_head.fc_cls", f"{predictor}.cls_score", (rows, 1024), background_last, note
    )
    note = "the background's 4 rows left out: detectron2 has none"
    entries += layer(
        "bbox_head.fc_reg", f"{predictor}.bbox_pred", (4 * rows, 1024), lambda w: w[4:], note
    )
    theirs, ours = "mask_head.conv_logits", "roi_heads.mask_head.predictor"
    note = "the background's row left out: detectron2 has none"
    entries += layer(theirs, ours, (rows, 256, 1, 1), lambda w: w[1:], note)
    return entries


# Within a layout, a layer is one or several entries. Shapes: out, into, size.


def layer(
    theirs: str,
    ours: str,
    shape: tuple[int, ...],
    change: Callable[[Tensor], Tensor] | None = None,
    note: str = "",
) -> Iterator[Entry]:
    """A weight of that shape and a bias."""
    yield Entry(f"{theirs}.weight", f"{ours}.weight", shape, change, note)
    yield Entry(f"{theirs}.bias", f"{ours}.bias", shape[:1], change, note)


def conv(theirs: str, ours: str, out: int, into: int, size: int = 1) -> Iterator[Entry]:
    """A convolution with bias."""
    return layer(theirs, ours, (out, into, size, size))


def norm(
    theirs: str,
    ours: str,
    channels: int | None = None,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Entry]:
    """A batch norm; ``scale``: what its scale becomes, if it changes."""
    shape = None if channels is None else (channels,)
    note = f"|weight| + {SYNC_ABN_EPS}, as the authors' SyncABN scales" if scale else ""
    yield Entry(f"{theirs}.weight", f"{ours}.weight", shape, scale, note)
    for leaf in ("bias", "running_mean", "running_var"):
        yield Entry(f"{theirs}.{leaf}", f"{ours}.{leaf}", shape)
    # Absent in files of before PyTorch 0.4.1; nothing computes with it.
    counter = "num_batches_tracked"
    yield Entry(f"{theirs}.{counter}", f"{ours}.{counter}", (), optional=True)


def conv_norm(
    theirs: str,
    ours: str,
    out: int,
    into: int,
    size: int,
    scale: Callable[[Tensor], Tensor] | None = None,
    names: tuple[str, str] = ("conv", "bn"),
) -> Iterator[Entry]:
    """A convolution without bias and its norm; ``names``: theirs within ``theirs``."""
    yield Entry(f"{theirs}.{names[0]}.weight", f"{ours}.weight", (out, into, size, size))
    yield from norm(f"{theirs}.{names[1]}", f"{ours}.norm", out, scale)


def _resnet(
    depths: Sequence[int], bottleneck: bool, scale: Callable[[Tensor], Tensor] | None
) -> Iterator[Entry]:
    # No shapes: a ResNet whose shapes are not the model's is refused when it is loaded.
    yield Entry("conv1.weight", "stem.conv1.weight")
    yield from norm("bn1", "stem.conv1.norm", scale=scale)
    yield from stages(depths, bottleneck, scale)


def stages(
    depths: Sequence[int], bottleneck: bool, scale: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Entry]:
    """A ResNet without its stem.

    Args:
        depths: number of blocks of each of the four stages.
        bottleneck: whether a block has three convolutions or two.
        scale: what the scale of a norm becomes, if it changes.
    """
    for stage, depth in enumerate(depths, start=1):
        for index in range(depth):
            theirs, ours = f"layer{stage}.{index}", f"res{stage + 1}.{index}"
            numbers = (1, 2, 3) if bottleneck else (1, 2)
            layers = [(f"conv{i}", f"bn{i}", f"conv{i}") for i in numbers]
            if index == 0 and (bottleneck or stage > 1):
                layers.append(("downsample.0", "downsample.1", "shortcut"))
            for conv, bn, our_conv in layers:
                yield Entry(f"{theirs}.{conv}.weight", f"{ours}.{our_conv}.weight")
                yield from norm(f"{theirs}.{bn}", f"{ours}.{our_conv}.norm", scale=scale)


def _backbone(depths: Sequence[int], attention: Mapping[tuple[int, int], str]) -> Iterator[Entry]:
    for entry in _resnet(depths, True, sync_abn_scale):
        ours = entry.ours and f"backbone.bottom_up.{entry.ours}"
        yield replace(entry, theirs=f"backbone.{entry.theirs}", ours=ours)
    for (stage, index), block in attention.items():
        theirs = f"backbone.layer{stage}.{index}"
        ours = f"backbone.bottom_up.res{stage + 1}.{index}.attention"
        yield from _ATTENTION[block](theirs, ours, 128 * 2**stage)


def _pyramid() -> Iterator[Entry]:
    for i in range(4):
        into = 256 * 2**i
        lateral, output = f"backbone.fpn_lateral{i + 2}", f"backbone.fpn_output{i + 2}"
        yield from conv_norm(f"neck.lateral_convs.{i}", lateral, 256, into, 1, sync_abn_scale)
        yield from conv_norm(f"neck.fpn_convs.{i}", output, 256, 256, 3, sync_abn_scale)


def _dnl(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    theirs, narrow = f"{theirs}.nl_gc_block", channels // 4
    yield Entry(f"{theirs}.gamma", f"{ours}.gamma", (1,))
    yield from conv(f"{theirs}.conv_query", f"{ours}.conv_query", narrow, channels)
    yield from conv(f"{theirs}.conv_key", f"{ours}.conv_key", narrow, channels)
    yield from _context(theirs, ours, channels)


def _context(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    weight = "conv_value.weight"
    yield Entry(f"{theirs}.{weight}", f"{ours}.{weight}", (channels, channels, 1, 1))
    yield from conv(f"{theirs}.conv_mask", f"{ours}.conv_mask", 1, channels)


def _snl(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    return _context(f"{theirs}.context_block", ours, channels)


def _nl(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    narrow = channels // 4
    for name in ("theta", "phi", "g"):
        theirs_conv = f"{theirs}.nonlocal_block.{name}.conv"
        yield from conv(theirs_conv, f"{ours}.{name}", narrow, channels)
    theirs_conv = f"{theirs}.nonlocal_block.conv_out.conv"
    yield from conv(theirs_conv, f"{ours}.conv_out", channels, narrow)


def _gc(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    return gc_block(f"{theirs}.context_block", ours, channels)


def gc_block(theirs: str, ours: str, channels: int) -> Iterator[Entry]:
    """The global context block with attention pooling and addition, reduction 4."""
    narrow = channels // 4
    yield from conv(f"{theirs}.conv_mask", f"{ours}.conv_mask", 1, channels)
    theirs, ours = f"{theirs}.channel_add_conv", f"{ours}.channel_add_conv"
    yield from conv(f"{theirs}.0", f"{ours}.0", narrow, channels)
    for leaf in ("weight", "bias"):
        yield Entry(f"{theirs}.1.{leaf}", f"{ours}.1.{leaf}", (narrow, 1, 1))
    yield from conv(f"{theirs}.3", f"{ours}.3", channels, narrow)


_ATTENTION = {"dnl": _dnl, "snl": _snl, "nl": _nl, "gc": _gc}
