"""What can be said of ``MODEL.DNL`` before a model is built."""

from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.utils.registry import Registry

from .insertion import resolve_indices
from .rules import (
    BOOL,
    STAGES,
    check_attention_keys,
    check_choice,
    check_features,
    check_rule,
    check_size,
    is_whole,
)
from .semantic.check import check_sem_seg_head, check_sliding_window

# How many residual blocks each stage has, by MODEL.RESNETS.DEPTH.
_R50 = (3, 4, 6, 3)
DEPTHS = {18: (2, 2, 2, 2), 34: _R50, 50: _R50, 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# detectron2's backbones, which know nothing of MODEL.DNL, and this project's with the same shape.
_WITH_ATTENTION = {
    f"build_{name}_backbone": f"build_dnl_{name}_backbone"
    for name in ("resnet", "resnet_deeplab", "resnet_fpn", "retinanet_resnet_fpn")
}
# Which keys name features of the backbone, by MODEL.META_ARCHITECTURE.
_READERS = {
    "RetinaNet": ("RETINANET",),
    "GeneralizedRCNN": ("RPN", "ROI_HEADS"),
    "MMDet1RCNN": ("RPN", "ROI_HEADS"),
    "PanopticFPN": ("RPN", "ROI_HEADS", "SEM_SEG_HEAD"),
    "ProposalNetwork": ("RPN",),
    "SemanticSegmentor": ("SEM_SEG_HEAD",),
    "DNLSemanticSegmentor": ("SEM_SEG_HEAD",),
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
    check_attention_keys("MODEL.DNL", cfg.MODEL.DNL)
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
        check_features(key, cfg.MODEL[reader].IN_FEATURES, outputs)
    if "SEM_SEG_HEAD" in readers:
        head = cfg.MODEL.SEM_SEG_HEAD
        _check_registered("MODEL.SEM_SEG_HEAD.NAME", head.NAME, SEM_SEG_HEADS_REGISTRY)
        if head.NAME == "DNLSemSegHead":
            check_sem_seg_head(cfg, outputs)
        if name == "DNLSemanticSegmentor":
            check_sliding_window(cfg)
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
    check_choice(key, name, [known for known, _ in registry])


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
        check_size(f"MODEL.RESNETS.{key}", resnets[key])
    known = ("stem", *STAGES)
    if not resnets.OUT_FEATURES:
        raise ValueError(
            f"MODEL.RESNETS.OUT_FEATURES: {resnets.OUT_FEATURES} must have some of "
            f"{', '.join(known)}"
        )
    for feature in resnets.OUT_FEATURES:
        check_choice("MODEL.RESNETS.OUT_FEATURES", feature, known)
    built = known[1 : 1 + max(map(known.index, resnets.OUT_FEATURES))]
    for key, stages in [*((s.upper(), [s]) for s in _wanted(dnl)), ("CHECKPOINT", dnl.CHECKPOINT)]:
        for stage in stages:
            if stage not in built:
                raise ValueError(_not_built(cfg, key, stage, built))
    for stage in _wanted(dnl):
        resolve_indices(stage, dnl[stage.upper()], DEPTHS[resnets.DEPTH][STAGES.index(stage)])
    if backbone == "build_dnl_resnet_deeplab_backbone":
        _check_dilation(resnets)
    outputs = list(resnets.OUT_FEATURES)
    return _check_fpn(cfg, backbone, outputs) if "fpn" in backbone else outputs


def _check_dilation(resnets: CfgNode) -> None:
    """Check what detectron2's DeepLab ResNet asserts, or takes without a word."""
    key = "MODEL.RESNETS"
    if resnets.DEPTH < 50:
        raise ValueError(
            f"{key}.DEPTH: {resnets.DEPTH} must be 50, 101 or 152 with "
            "build_dnl_resnet_deeplab_backbone, whose blocks are bottlenecks"
        )
    if "stem" in resnets.OUT_FEATURES:
        raise ValueError(
            f"{key}.OUT_FEATURES: {resnets.OUT_FEATURES} must not have stem, which "
            "build_dnl_resnet_deeplab_backbone does not give: take res2, of the same size"
        )
    check_choice(f"{key}.STEM_TYPE", resnets.STEM_TYPE, ("basic", "deeplab"))
    check_rule(f"{key}.CONTRACT_DILATION", resnets.CONTRACT_DILATION, BOOL)
    dilations = resnets.RES4_DILATION, resnets.RES5_DILATION
    if dilations not in ((1, 1), (1, 2), (2, 4)):
        raise ValueError(
            f"{key}.RES4_DILATION, RES5_DILATION: {dilations[0]!r}, {dilations[1]!r} must be 1, 1 "
            "(output stride 32), 1, 2 (16) or 2, 4 (8)"
        )
    grid = resnets.RES5_MULTI_GRID
    if len(grid) != 3 or not all(is_whole(factor) and factor >= 1 for factor in grid):
        raise ValueError(
            f"{key}.RES5_MULTI_GRID: {grid!r} must be three whole numbers from 1 on, one for each "
            "block of res5"
        )


def _check_fpn(cfg: CfgNode, backbone: str, stages: list[str]) -> list[str]:
    """Check the keys of an FPN on some stages; the features it gives."""
    fpn = cfg.MODEL.FPN
    check_size("MODEL.FPN.OUT_CHANNELS", fpn.OUT_CHANNELS)
    check_choice("MODEL.FPN.FUSE_TYPE", fpn.FUSE_TYPE, ("sum", "avg"))
    check_features("MODEL.FPN.IN_FEATURES", fpn.IN_FEATURES, stages)
    # RetinaNet's p6 comes from res5 itself, the other's from p5.
    key, has, above = "MODEL.FPN.IN_FEATURES", fpn.IN_FEATURES, 1
    if "retinanet" in backbone:
        key, has, above = "MODEL.RESNETS.OUT_FEATURES", stages, 2
    if "res5" not in has:
        raise ValueError(f"{key}: {has} lacks res5, from which {backbone} makes p6: add it")
    levels = [("stem", *STAGES).index(feature) + 1 for feature in fpn.IN_FEATURES]
    levels += range(max(levels) + 1, max(levels) + 1 + above)
    return [f"p{level}" for level in levels]


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
