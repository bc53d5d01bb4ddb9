"""From the keys of a block in a config to its constructor's arguments."""

from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import get_norm

BLOCK_KEYS: dict[str, dict[str, str]] = {
    "none": {},
    "dnl": {
        "REDUCTION": "reduction",
        "MODE": "mode",
        "TEMPERATURE": "temperature",
        "WHITEN": "whiten",
        "WHITENING": "whitening",
        "SCALE": "scale",
        "UNARY_SCALE": "unary_scale",
        "NL_KERNEL": "kernel",
        "USE_GAMMA": "use_gamma",
        "DOWNSAMPLE": "downsample",
        "USE_OUT": "use_out",
        "OUT_NORM": "out_norm",
        "BACKEND": "backend",
        "INIT_STD": "init_std",
        "INIT_GAMMA": "init_gamma",
    },
    "nl": {
        "REDUCTION": "reduction",
        "NL_KERNEL": "kernel",
        "NL_LEGACY_SCALE": "legacy_scale",
        "OUT_NORM": "out_norm",
        "BACKEND": "backend",
        "INIT_STD": "init_std",
    },
    "snl": {"INIT_STD": "init_std"},
    "gc": {"REDUCTION": "reduction", "GC_POOLING": "pooling", "GC_FUSION": "fusion"},
}
"""By block, the keys it uses, and their names in its constructor; timm's blocks use none."""


def block_arguments(dnl: CfgNode, norm: str) -> dict[str, Any]:
    """The keyword arguments of the block that ``dnl.BLOCK`` names.

    Args:
        dnl: ``MODEL.DNL`` or ``MODEL.SEM_SEG_HEAD.DNL``.
        norm: of what is around the block, for ``OUT_NORM``; see detectron2's ``get_norm``.
    """
    arguments = {argument: dnl[key] for key, argument in BLOCK_KEYS.get(dnl.BLOCK, {}).items()}
    if "out_norm" in arguments:
        arguments["out_norm"] = partial(get_norm, norm) if arguments["out_norm"] else None
    return arguments
