"""What can be said of ``MODEL.DNL`` before a model is built."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
)
from detectron2.utils.registry import Registry

from ..layers import BLOCKS
from ..layers.attention import BACKENDS
from ..layers.disentangled_non_local import MODES
from ..layers.global_context import FUSIONS, POOLINGS
from ..layers.non_local import KERNELS
from .attention_block import POSITIONS
from .insertion import resolve_indices

STAGES = ("res2", "res3", "res4", "res5")
# How many residual blocks each stage has, by MODEL.RESNETS.DEPTH.
_R50 = (3, 4, 6, 3)
DEPTHS = {18: (2, 2, 2, 2), 34: _R50, 50: _R50, 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

_CHOICES = {
    "BLOCK": ("none", *BLOCKS),
    "MODE": MODES,
    "POSITION": POSITIONS,
    "BACKEND": BACKENDS,
    "NL_KERNEL": KERNELS,
    "GC_POOLING": POOLINGS,
}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    """Also in float32."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e38


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _are_some_of(value: object, allowed: Iterable[str]) -> bool:
    return isinstance(value, list | tuple) and all(
        value.count(v) == 1 and v in allowed for v in value
    )


def _are_indices(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_whole, value))


_INDICES = (_are_indices, "a list of block indices, such as [-2], or [] for none")
_BOOL = (_is_bool, "True or False")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{stage.upper(): _INDICES for stage in STAGES},
    "REDUCTION": (lambda v: _is_whole(v) and v >= 1, "a whole number from 1 on"),
    "TEMPERATURE": (lambda v: _is_finite(v) and v > 0, "a number above 0"),
    "INIT_STD": (lambda v: _is_finite(v) and v > 0, "a number above 0"),
    "INIT_GAMMA": (_is_finite, "a finite number"),
    "MONITOR_TIMES": (lambda v: _is_whole(v) and v >= 0, "a whole number from 0 on"),
    "MONITOR_SHARE": (
        lambda v: _is_finite(v) and v > 0,
        "a number above 0 (MONITOR_TIMES 0 turns it off)",
    ),
    "CHECKPOINT": (
        lambda v: _are_some_of(v, STAGES),
        f"a list of stages, each once, of {', '.join(STAGES)}",
    ),
    "GC_FUSION": (
        lambda v: _are_some_of(v, FUSIONS) and len(v) > 0,
        f"a list of one or both of {', '.join(FUSIONS)}",
    ),
    "TRAIN_IN_FROZEN": _BOOL,
    "WHITEN": _BOOL,
    "DOWNSAMPLE": _BOOL,
    "USE_OUT": _BOOL,
    "NL_LEGACY_SCALE": _BOOL,
}
# detectron2's backbones, which know nothing of MODEL.DNL, and this project's with the same shape.
_WITH_ATTENTION = {
    f"build_{name}_backbone": f"build_dnl_{name}_backbone"
    for name in ("resnet", "resnet_fpn", "retinanet_resnet_fpn")
}
# Which keys name features of the backbone, by MODEL.META_ARCHITECTURE.
_READERS = {
    "RetinaNet": ("RETINANET",),
    "GeneralizedRCNN": ("RPN", "ROI_HEADS"),
    "MMDet1RCNN": ("RPN", "ROI_HEADS"),
    "PanopticFPN": ("RPN", "ROI_HEADS", "SEM_SEG_HEAD"),
    "ProposalNetwork": ("RPN",),
    "SemanticSegmentor": ("SEM_SEG_HEAD",),
}


def check_dnl_config(cfg: CfgNode, backbone: str = "") -> None:
    """Check ``MODEL.DNL``, and that the backbone it is for has the stages that it names.

    Args:
        cfg: with the keys of ``add_dnl_config``.
        backbone: which one is built, for whatever it is to be part of; by default
            ``MODEL.BACKBONE.NAME``, with what reads its features.

    Raises:
        ValueError: names the key, its value, what is allowed and the nearest of it.
    """
    if "DNL" not in cfg.MODEL:
        raise ValueError("the config has no MODEL.DNL: call dnl_det.add_dnl_config(cfg) first")
    for key, allowed in _CHOICES.items():
        _check_choice(f"MODEL.DNL.{key}", cfg.MODEL.DNL[key], allowed)
    for key, (is_allowed, text) in _RULES.items():
        if not is_allowed(value := cfg.MODEL.DNL[key]):
            raise ValueError(f"MODEL.DNL.{key}: {value!r} must be {text}")
    name = backbone or cfg.MODEL.BACKBONE.NAME
    _check_registered("MODEL.BACKBONE.NAME", name, BACKBONE_REGISTRY)
    if name in _WITH_ATTENTION and _wanted(cfg.MODEL.DNL):
        raise ValueError(
            f"MODEL.BACKBONE.NAME: {name!r} has no attention, and MODEL.DNL."
            f"{_wanted(cfg.MODEL.DNL)[0].upper()} asks for it: set {_WITH_ATTENTION[name]!r}, or "
            "MODEL.DNL.BLOCK: none"
        )
    if name in _WITH_ATTENTION.values():
        outputs = _check_stages(cfg, name)
        if not backbone:
            _check_readers(cfg, outputs)


def _check_readers(cfg: CfgNode, outputs: list[str]) -> None:
    """Check what reads the backbone's features."""
    name = cfg.MODEL.META_ARCHITECTURE
    _check_registered("MODEL.META_ARCHITECTURE", name, META_ARCH_REGISTRY)
    readers = _READERS.get(name, ())
    for reader in readers:
        key = f"MODEL.{reader}.IN_FEATURES"
        _check_features(key, cfg.MODEL[reader].IN_FEATURES, outputs)
    heads = cfg.MODEL.ROI_HEADS
    if "ROI_HEADS" not in readers:
        return
    _check_registered("MODEL.ROI_HEADS.NAME", heads.NAME, ROI_HEADS_REGISTRY)
    if heads.NAME in ("StandardROIHeads", "CascadeROIHeads"):
        box_head = cfg.MODEL.ROI_BOX_HEAD.NAME
        _check_registered("MODEL.ROI_BOX_HEAD.NAME", box_head, ROI_BOX_HEAD_REGISTRY)
    if heads.NAME == "Res5ROIHeads":
        if list(heads.IN_FEATURES) != ["res4"]:
            raise ValueError(
                f"MODEL.ROI_HEADS.IN_FEATURES: {heads.IN_FEATURES} must be ['res4'], which "
                "Res5ROIHeads continues; with other features take StandardROIHeads"
            )
        if "res5" in _wanted(cfg.MODEL.DNL):
            raise ValueError(f"MODEL.DNL.RES5: nothing would read it. {_c4('RES5')}")


def _check_registered(key: str, name: str, registry: Registry) -> None:
    _check_choice(key, name, [known for known, _ in registry])


def _check_choice(key: str, value: object, allowed: Iterable[str]) -> None:
    if value not in (allowed := list(allowed)):
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.5)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{advice}")


def _wanted(dnl: CfgNode) -> list[str]:
    """The stages that attention is asked for in."""
    return [stage for stage in STAGES if dnl.BLOCK != "none" and dnl[stage.upper()]]


def _check_stages(cfg: CfgNode, backbone: str) -> list[str]:
    """Check which stages the ResNet has against what is wanted of them; the features it gives."""
    resnets, dnl = cfg.MODEL.RESNETS, cfg.MODEL.DNL
    if resnets.DEPTH not in tuple(DEPTHS):
        raise ValueError(
            f"MODEL.RESNETS.DEPTH: {resnets.DEPTH!r} is not one of {', '.join(map(str, DEPTHS))}"
        )
    for key in ("STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "NUM_GROUPS", "WIDTH_PER_GROUP"):
        _check_size(f"MODEL.RESNETS.{key}", resnets[key])
    known = ("stem", *STAGES)
    if not resnets.OUT_FEATURES:
        raise ValueError(
            f"MODEL.RESNETS.OUT_FEATURES: {resnets.OUT_FEATURES} must have some of "
            f"{', '.join(known)}"
        )
    for feature in resnets.OUT_FEATURES:
        _check_choice("MODEL.RESNETS.OUT_FEATURES", feature, known)
    built = known[1 : 1 + max(map(known.index, resnets.OUT_FEATURES))]
    for key, stages in [*((s.upper(), [s]) for s in _wanted(dnl)), ("CHECKPOINT", dnl.CHECKPOINT)]:
        for stage in stages:
            if stage not in built:
                raise ValueError(_not_built(cfg, key, stage, built))
    for stage in _wanted(dnl):
        resolve_indices(stage, dnl[stage.upper()], DEPTHS[resnets.DEPTH][STAGES.index(stage)])
    outputs = list(resnets.OUT_FEATURES)
    return _check_fpn(cfg, backbone, outputs) if "fpn" in backbone else outputs


def _check_fpn(cfg: CfgNode, backbone: str, stages: list[str]) -> list[str]:
    """Check the keys of an FPN on some stages; the features it gives."""
    fpn = cfg.MODEL.FPN
    _check_size("MODEL.FPN.OUT_CHANNELS", fpn.OUT_CHANNELS)
    _check_choice("MODEL.FPN.FUSE_TYPE", fpn.FUSE_TYPE, ("sum", "avg"))
    _check_features("MODEL.FPN.IN_FEATURES", fpn.IN_FEATURES, stages)
    # RetinaNet's p6 comes from res5 itself, the other's from p5.
    key, has, above = "MODEL.FPN.IN_FEATURES", fpn.IN_FEATURES, 1
    if "retinanet" in backbone:
        key, has, above = "MODEL.RESNETS.OUT_FEATURES", stages, 2
    if "res5" not in has:
        raise ValueError(f"{key}: {has} lacks res5, from which {backbone} makes p6: add it")
    levels = [("stem", *STAGES).index(feature) + 1 for feature in fpn.IN_FEATURES]
    levels += range(max(levels) + 1, max(levels) + 1 + above)
    return [f"p{level}" for level in levels]


def _check_size(key: str, value: Any) -> None:
    if not _is_whole(value) or value < 1:
        raise ValueError(f"{key}: {value!r} must be a whole number from 1 on")


def _check_features(key: str, wanted: list[str], outputs: list[str]) -> None:
    if not wanted:
        raise ValueError(f"{key}: {wanted} must have some of {', '.join(outputs)}")
    for feature in wanted:
        if feature not in outputs:
            raise ValueError(
                f"{key}: {feature!r} is not one of {', '.join(outputs)}, which there are"
            )


def _not_built(cfg: CfgNode, key: str, stage: str, built: tuple[str, ...]) -> str:
    text = (
        f"MODEL.DNL.{key}: {stage} is asked for, and this ResNet ends with "
        f"{built[-1] if built else 'its stem'} (MODEL.RESNETS.OUT_FEATURES: "
        f"{cfg.MODEL.RESNETS.OUT_FEATURES}). "
    )
    if stage == "res5" and cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        return text + _c4(key)
    return text + f"Give none for {stage} (MODEL.DNL.{key}: []), or add it to OUT_FEATURES"


def _c4(key: str) -> str:
    return (
        "A C4 model has its res5 in MODEL.ROI_HEADS.NAME: Res5ROIHeads, for each box by "
        f"itself: set MODEL.DNL.{key}: [] and use RES4, or take an FPN"
    )
