"""Other projects' detectors, segmentation networks and ResNets as checkpoints of detectron2."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .layouts import (
    BASIC_DEPTHS,
    BOTTLENECK_DEPTHS,
    Entry,
    mask_rcnn_layout,
    resnet_layout,
)
from .reading import read_checkpoint
from .segmentation_layouts import (
    MMSEG_BLOCKS,
    authors_layout,
    mmseg_layout,
    resnet_v1c_layout,
)

CONFIGS = "configs/COCO-InstanceSegmentation"
# Without and with ADE20K's 150 classes: the folder of configs, and the lengths of training.
SEGMENTATION_CONFIGS = (
    ("configs/Cityscapes-SemanticSegmentation", ("40k", "80k")),
    ("configs/ADE20K-SemanticSegmentation", ("80k", "160k")),
)
# What the authors' segmentation networks see.
_AUTHORS_IMAGES = (
    *("INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", "[102.9801,115.9465,122.7717]"),
    *("MODEL.PIXEL_STD", "[1.0,1.0,1.0]"),
)
_BASELINE = "mask_rcnn_R_50_FPN_1x"
# The authors' placements of R50: (stage of torchvision, index of the block).
_C4 = ((3, 4),)
_C4_C5ALL = ((3, 4), (4, 0), (4, 1), (4, 2))
_PLACES = {_C4: "c4", _C4_C5ALL: "c4_c5all"}
_RELEASED = ("nl_c4", "nl_c4_c5all", "snl_c4", "gc_c4", "dnl_c4", "dnl_c4_c5all")

_ATTENTION_KEY = re.compile(
    r"backbone\.layer([1-4])\.(\d+)\.(nl_gc_block|nonlocal_block|context_block)\."
)
_BLOCK_KEY = re.compile(r"(?:backbone\.)?layer([1-4])\.(\d+)\.")


class UnknownLayoutError(ValueError):
    """A checkpoint whose keys are not those of a layout that can be converted."""


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint and an account of every tensor of the original.

    Attributes:
        checkpoint: what detectron2 loads: ``{"model": {key: tensor}, ...}``.
        description: which model it is.
        config: the config file to use with it; "" where any with that ResNet will do.
        overrides: config keys and values to give besides, ``KEY VALUE KEY VALUE ...``.
        changed: from what was done to values to the keys (theirs) it was done to.
        left_out: from the reason to the keys (theirs) that are not in ``checkpoint``.
    """

    checkpoint: dict[str, Any]
    description: str
    config: str
    overrides: tuple[str, ...]
    changed: dict[str, list[str]]
    left_out: dict[str, list[str]]


@dataclass(frozen=True)
class Layout:
    """What a checkpoint was recognised as; attributes as those of :class:`Conversion`."""

    entries: list[Entry]
    description: str
    config: str = ""
    overrides: tuple[str, ...] = ()


def convert(path: str | Path) -> Conversion:
    """Convert a checkpoint of a known layout to detectron2.

    The authors' Mask R-CNN and segmentation networks, mmsegmentation's DNL, NL, GC and FCN of
    output stride 8, and ResNets of torchvision and of mmsegmentation (``resnet50_v1c``).

    Args:
        path: read as by :func:`read_checkpoint`.

    Returns:
        The converted checkpoint, in memory.

    Raises:
        UnknownLayoutError: keys that no layout has, keys that are missing, or shapes that differ.
        FileNotFoundError, ValueError: see :func:`read_checkpoint`.
    """
    content = read_checkpoint(path)
    state, rest = _state_dict(content)
    layout = recognise(state, Path(path).name)
    if layout is None:
        raise UnknownLayoutError(
            f"{path} is neither a detector of the authors (mmdetection 1.0rc0) nor a segmentation "
            "network of theirs or of mmsegmentation (dnl, nonlocal, gcnet or fcn, r50-d8 or "
            "r101-d8) nor a ResNet of torchvision or mmsegmentation: its first keys are "
            f"{_some(list(state))}"
        )
    _check(path, state, layout)

    model: dict[str, Tensor] = {}
    changed: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    for entry in layout.entries:
        if entry.theirs not in state:
            continue
        if entry.ours is None:
            left_out.setdefault(entry.note, []).append(entry.theirs)
            continue
        value = state[entry.theirs].detach()
        if entry.change is not None:
            value = entry.change(value)
            changed.setdefault(entry.note, []).append(entry.theirs)
        model[entry.ours] = value.clone().contiguous()
    for key in rest:
        left_out.setdefault("not a parameter of the model", []).append(key)

    checkpoint: dict[str, Any] = {
        "model": model,
        "__author__": "dnl_det convert",
        "converted": {"from": Path(path).name, "config": layout.config},
    }
    if not layout.config:  # a ResNet alone: found in any model by the ends of its keys
        checkpoint["matching_heuristics"] = True
    return Conversion(
        checkpoint, layout.description, layout.config, layout.overrides, changed, left_out
    )


def recognise(state: Mapping[str, Any], file_name: str = "") -> Layout | None:
    """The layout that the keys of a ``state_dict`` point to; None where they point to none.

    Args:
        state: its keys and tensors.
        file_name: of segmentation networks, says which of the configs with these keys it is.
    """
    if "backbone.stem.0.weight" in state and "decode_head.conv_seg.weight" in state:
        return _recognise_mmseg(state, file_name)
    if "backbone.prefix.conv1.weight" in state:
        return _recognise_authors_segmentation(state)
    if "stem.0.weight" in state and "layer1.0.conv1.weight" in state:
        depths, depth = _depths(state, BOTTLENECK_DEPTHS)
        return Layout(resnet_v1c_layout(depths), f"mmsegmentation's ResNetV1c, depth {depth}")
    if "backbone.layer1.0.conv1.weight" in state and "bbox_head.fc_cls.weight" in state:
        return _recognise_mask_rcnn(state)
    if "conv1.weight" in state and "layer1.0.conv1.weight" in state:
        return _recognise_resnet(state)
    return None


def _recognise_mask_rcnn(state: Mapping[str, Any]) -> Layout:
    depths, depth = _depths(state, BOTTLENECK_DEPTHS)
    attention = {}
    for match in filter(None, map(_ATTENTION_KEY.match, state)):
        stage, index, kind = int(match[1]), int(match[2]), match[3]
        attention[stage, index] = _block(kind, f"{match[0]}conv_value.weight" in state)
    num_classes = len(state["bbox_head.fc_cls.weight"]) - 1

    name, overrides = _config(attention)
    if depth != 50:
        overrides += ("MODEL.RESNETS.DEPTH", str(depth))
    if num_classes != 80:
        overrides += ("MODEL.ROI_HEADS.NUM_CLASSES", str(num_classes))
    places = ", ".join(f"res{s + 1}.{i}" for s, i in attention)
    blocks = ", ".join(sorted({block.upper() for block in attention.values()}))
    return Layout(
        mask_rcnn_layout(depths, attention, num_classes),
        f"the authors' Mask R-CNN, R{depth}-FPN, {num_classes} classes, "
        + (f"{blocks} in {places}" if attention else "no attention"),
        f"{CONFIGS}/{name}.yaml",
        overrides,
    )


def _recognise_resnet(state: Mapping[str, Any]) -> Layout:
    bottleneck = "layer1.0.conv3.weight" in state
    depths, depth = _depths(state, BOTTLENECK_DEPTHS if bottleneck else BASIC_DEPTHS)
    return Layout(resnet_layout(depths, bottleneck), f"torchvision's ResNet, depth {depth}")


def _recognise_mmseg(state: Mapping[str, Any], file_name: str) -> Layout:
    depths, depth = _depths(state, BOTTLENECK_DEPTHS)
    head = "decode_head."
    theirs = next((b for b in MMSEG_BLOCKS if any(k.startswith(head + b) for k in state)), "")
    num_classes = len(state["decode_head.conv_seg.weight"])
    block, overrides = MMSEG_BLOCKS.get(theirs, "fcn"), _depth_override(depth, (50, 101))
    # The keys do not tell which of the recipes it is; the released files' names do.
    folder, sizes = SEGMENTATION_CONFIGS[num_classes == 150]
    length = next((size for size in sizes if f"_{size}_" in file_name), sizes[-1])
    if block == "dnl" and num_classes != 150 and "769x769" in file_name:
        length = "769_80k"
    if num_classes not in (19, 150):
        overrides += ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", str(num_classes))
    return Layout(
        mmseg_layout(depths, theirs, num_classes),
        f"mmsegmentation's {block.upper()}, R{depth}-d8, {num_classes} classes",
        f"{folder}/{block}_R_{101 if depth == 101 else 50}_d8_{length}.yaml",
        overrides,
    )


def _recognise_authors_segmentation(state: Mapping[str, Any]) -> Layout:
    depths, depth = _depths(state, BOTTLENECK_DEPTHS)
    head = "gcb" if "gcb.conva.0.weight" in state else "nlm"
    num_classes = len(state["dsn.2.weight"])
    names = ("conv_query", "conv_key", "conv_value", "conv_mask")
    block = [name for name in names if f"{head}.ctb.{name}.weight" in state]
    kinds = {names: "dnl", names[:3]: "joint", names[2:]: "unary", (): "none"}
    kind = kinds.get(tuple(block), "dnl")
    overrides = (*_depth_override(depth, (101,)), *_AUTHORS_IMAGES)
    if num_classes != 19:
        overrides += ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", str(num_classes))
    return Layout(
        authors_layout(depths, names if kind == "dnl" else block, num_classes, head),
        f"the authors' segmentation network, R{depth}, {num_classes} classes, "
        + ("no attention" if kind == "none" else f"{', '.join(block)} in its head"),
        f"{SEGMENTATION_CONFIGS[0][0]}/authors_{kind}_R_101_d8_769_60k.yaml",
        overrides,
    )


def _depth_override(depth: int, known: tuple[int, ...]) -> tuple[str, ...]:
    return () if depth in known else ("MODEL.RESNETS.DEPTH", str(depth))


def _depths(
    state: Mapping[str, Any], known: Mapping[tuple[int, ...], int]
) -> tuple[tuple[int, ...], int]:
    """Blocks in each stage, and the ResNet's depth; those of the first known one if unknown.

    What an unknown ResNet has more or less is then found key by key.
    """
    blocks = {match.groups() for match in map(_BLOCK_KEY.match, state) if match}
    stages = Counter(stage for stage, _ in blocks)
    depths = tuple(stages[stage] for stage in "1234")
    return (depths, known[depths]) if depths in known else next(iter(known.items()))


def _block(kind: str, has_value: bool) -> str:
    if kind == "context_block":
        return "snl" if has_value else "gc"
    return "dnl" if kind == "nl_gc_block" else "nl"


def _config(attention: Mapping[tuple[int, int], str]) -> tuple[str, tuple[str, ...]]:
    """The config of the authors' model of these blocks; else the baseline's with overrides."""
    if not attention:
        return _BASELINE, ()
    block = next(iter(attention.values()))
    name = f"{block}_{_PLACES.get(tuple(sorted(attention)), '')}"
    if set(attention.values()) == {block} and name in _RELEASED:
        return _BASELINE.replace("_1x", f"_{name}_1x"), ()
    overrides = ["MODEL.DNL.BLOCK", block]
    for stage in sorted({stage for stage, _ in attention}):
        indices = sorted(i for s, i in attention if s == stage)
        overrides += [f"MODEL.DNL.RES{stage + 1}", f"[{','.join(map(str, indices))}]"]
    return _BASELINE, tuple(overrides)


def _state_dict(content: dict[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """The parameters in a checkpoint, and the keys of all else in it."""
    state = content.get("state_dict", content)
    rest = [key for key in content if key != "state_dict"] if state is not content else []
    tensors = {
        # "module." is the mark of DataParallel.
        str(key).removeprefix("module."): torch.as_tensor(value)
        for key, value in state.items()
        if isinstance(value, Tensor | np.ndarray)
    }
    rest += [str(key) for key, value in state.items() if not isinstance(value, Tensor | np.ndarray)]
    return tensors, rest


def _check(path: str | Path, state: Mapping[str, Tensor], layout: Layout) -> None:
    expected = {entry.theirs: entry for entry in layout.entries}
    if unknown := [key for key in state if key not in expected]:
        raise UnknownLayoutError(
            f"{path} looks like {layout.description}, but has keys without a place there: "
            f"{_some(unknown)}. Nothing was written."
        )
    lacking = [key for key, entry in expected.items() if key not in state and not entry.optional]
    if lacking:
        raise UnknownLayoutError(
            f"{path} looks like {layout.description}, but lacks {_some(lacking)}. Nothing was "
            "written."
        )
    for key, entry in expected.items():
        if key in state and entry.shape is not None and entry.shape != tuple(state[key].shape):
            raise UnknownLayoutError(
                f"{path} looks like {layout.description}, but {key} is "
                f"{tuple(state[key].shape)} and should be {entry.shape}. Nothing was written."
            )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(keys[:5]) + more if keys else "(none)"
