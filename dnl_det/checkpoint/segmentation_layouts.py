"""Every key of segmentation checkpoints: mmsegmentation's DNL, NL, GC and FCN, and the authors'.

``theirs`` and ``ours`` as in :mod:`.layouts`; ours are those of ``DNLSemanticSegmentor``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .layouts import CLASSIFIER, Entry, conv, conv_norm, gc_block, layer, norm, stages

# By mmsegmentation's name of the block in its head.
MMSEG_BLOCKS = {"dnl_block": "dnl", "nl_block": "nl", "gc_block": "gc"}
# Channels of the head.
_HEAD = 512


def resnet_v1c_layout(depths: Sequence[int]) -> list[Entry]:
    """mmsegmentation's ImageNet files: a ResNet with three convolutions in its stem."""
    classifier = [
        Entry(f"fc.{leaf}", None, note=CLASSIFIER, optional=True) for leaf in ("weight", "bias")
    ]
    return [*_resnet_v1c(depths), *classifier]


def mmseg_layout(depths: Sequence[int], block: str, num_classes: int) -> list[Entry]:
    """mmsegmentation's models of output stride 8, of its releases 0.x and 1.x alike.

    Args:
        depths: number of blocks of each of the four stages.
        block: ``dnl_block``, ``nl_block``, ``gc_block``, or "" for FCN.
        num_classes: of the classifiers.
    """
    head = "decode_head"
    entries = [
        *_backbone(_resnet_v1c(depths)),
        *conv_norm(f"{head}.convs.0", "sem_seg_head.conv1", _HEAD, 2048, 3),
        *conv_norm(f"{head}.convs.1", "sem_seg_head.conv2", _HEAD, _HEAD, 3),
        *conv_norm(f"{head}.conv_cat", "sem_seg_head.conv_cat", _HEAD, 2048 + _HEAD, 3),
        *conv(f"{head}.conv_seg", "sem_seg_head.predictor", num_classes, _HEAD),
        *conv_norm("auxiliary_head.convs.0", "sem_seg_head.aux.conv", 256, 1024, 3),
        *conv("auxiliary_head.conv_seg", "sem_seg_head.aux.predictor", num_classes, 256),
    ]
    theirs, ours, narrow = f"{head}.{block}", "sem_seg_head.attention", _HEAD // 2
    if block == "gc_block":
        entries += gc_block(theirs, ours, _HEAD)
    elif block:
        names = ("theta", "phi", "g")
        our_names = ("conv_query", "conv_key", "conv_value") if block == "dnl_block" else names
        for name, our_name in zip(names, our_names, strict=True):
            entries += conv(f"{theirs}.{name}.conv", f"{ours}.{our_name}", narrow, _HEAD)
        weight = f"{theirs}.conv_out.conv.weight"
        entries.append(Entry(weight, f"{ours}.conv_out.weight", (_HEAD, narrow, 1, 1)))
        entries += norm(f"{theirs}.conv_out.bn", f"{ours}.out_norm", _HEAD)
    if block == "dnl_block":
        entries += conv(f"{theirs}.conv_mask", f"{ours}.conv_mask", 1, _HEAD)
    return entries


def authors_layout(
    depths: Sequence[int], block: Sequence[str], num_classes: int, head: str
) -> list[Entry]:
    """The authors' segmentation network.

    Args:
        depths: number of blocks of each of the four stages.
        block: the convolutions of its attention, such as ``conv_query``; none: no attention.
        num_classes: of the classifiers.
        head: what the head is called: ``nlm`` with attention, ``gcb`` without.
    """
    stem: list[Entry] = []
    for i, (out, into) in enumerate(((64, 3), (64, 64), (128, 64)), start=1):
        names = (f"conv{i}", f"bn{i}")
        stem += conv_norm("prefix", f"stem.conv{i}", out, into, 3, names=names)
    plain = ("0", "1.0")
    entries = [
        *_backbone([*stem, *stages(depths, bottleneck=True)]),
        *conv_norm(f"{head}.conva", "sem_seg_head.conv1", _HEAD, 2048, 3, names=plain),
        *conv_norm(f"{head}.convb", "sem_seg_head.conv2", _HEAD, _HEAD, 3, names=plain),
        *conv_norm(f"{head}.bottleneck", "sem_seg_head.conv_cat", _HEAD, 2560, 3, names=plain),
        *conv(f"{head}.bottleneck.3", "sem_seg_head.predictor", num_classes, _HEAD),
        *conv_norm("dsn.0", "sem_seg_head.aux.conv", 512, 1024, 3, names=("conv", "bn_relu.0")),
        *conv("dsn.2", "sem_seg_head.aux.predictor", num_classes, 512),
    ]
    theirs, ours = f"{head}.ctb", "sem_seg_head.attention"
    for name in block:
        if name == "conv_value":
            key = f"{name}.weight"
            entries.append(Entry(f"{theirs}.{key}", f"{ours}.{key}", (_HEAD, _HEAD, 1, 1)))
        else:
            out = 1 if name == "conv_mask" else _HEAD // 2
            entries += layer(f"{theirs}.{name}", f"{ours}.{name}", (out, _HEAD, 1, 1))
    if "conv_query" in block:
        entries.append(Entry(f"{theirs}.gamma", f"{ours}.gamma", (1,)))
    return entries


def _resnet_v1c(depths: Sequence[int]) -> Iterator[Entry]:
    for i in range(3):
        theirs, ours = f"stem.{3 * i}", f"stem.conv{i + 1}"
        yield Entry(f"{theirs}.weight", f"{ours}.weight")
        yield from norm(f"stem.{3 * i + 1}", f"{ours}.norm")
    yield from stages(depths, bottleneck=True)


def _backbone(entries: Sequence[Entry] | Iterator[Entry]) -> Iterator[Entry]:
    for entry in entries:
        yield replace(
            entry, theirs=f"backbone.{entry.theirs}", ours=entry.ours and f"backbone.{entry.ours}"
        )
