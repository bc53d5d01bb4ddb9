"""What values keys may have: the rules of an attention block's keys, and of what others share."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from detectron2.config import CfgNode

from ..layers import BLOCKS
from ..layers.attention import BACKENDS
from ..layers.disentangled_non_local import KERNELS as DNL_KERNELS
from ..layers.disentangled_non_local import MODES, WHITENINGS
from ..layers.global_context import FUSIONS, POOLINGS
from ..layers.non_local import KERNELS
from .attention_block import POSITIONS
from .timm_blocks import PREFIX, TIMM_BLOCKS, check_timm_block

STAGES = ("res2", "res3", "res4", "res5")

_CHOICES = {
    "BLOCK": ("none", *BLOCKS, *(PREFIX + name for name in TIMM_BLOCKS)),
    "MODE": MODES,
    "WHITENING": tuple(WHITENINGS),
    "POSITION": POSITIONS,
    "BACKEND": BACKENDS,
    "NL_KERNEL": KERNELS,
    "GC_POOLING": POOLINGS,
}


def is_whole(value: object) -> bool:
    """Whether it is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Whether it is a finite number, in float32 too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e38


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _are_some_of(value: object, allowed: Iterable[str]) -> bool:
    return isinstance(value, list | tuple) and all(
        value.count(v) == 1 and v in allowed for v in value
    )


def _are_indices(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(is_whole, value))


Rule = tuple[Callable[[Any], bool], str]  # whether a value is allowed, and what is
_INDICES = (_are_indices, "a list of block indices, such as [-2], or [] for none")
BOOL: Rule = (_is_bool, "True or False")
_RULES: dict[str, Rule] = {
    **{stage.upper(): _INDICES for stage in STAGES},
    "REDUCTION": (lambda v: is_whole(v) and v >= 1, "a whole number from 1 on"),
    "TEMPERATURE": (lambda v: is_finite(v) and v > 0, "a number above 0"),
    "INIT_STD": (lambda v: is_finite(v) and v > 0, "a number above 0"),
    "INIT_GAMMA": (is_finite, "a finite number"),
    "MONITOR_TIMES": (lambda v: is_whole(v) and v >= 0, "a whole number from 0 on"),
    "MONITOR_SHARE": (
        lambda v: is_finite(v) and v > 0,
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
    "TRAIN_IN_FROZEN": BOOL,
    "WHITEN": BOOL,
    "SCALE": BOOL,
    "UNARY_SCALE": BOOL,
    "USE_GAMMA": BOOL,
    "OUT_NORM": BOOL,
    "DOWNSAMPLE": BOOL,
    "USE_OUT": BOOL,
    "NL_LEGACY_SCALE": BOOL,
}


def check_attention_keys(prefix: str, dnl: CfgNode) -> None:
    """Check the values of ``MODEL.DNL``, or of another node that has some of its keys.

    Args:
        prefix: of the keys in messages, such as ``MODEL.DNL``.
        dnl: the node.

    Raises:
        ValueError: names the key, its value, what is allowed and the nearest of it.
    """
    check_timm_block(f"{prefix}.BLOCK", dnl.BLOCK)
    for key, value in dnl.items():
        if key in _CHOICES:
            check_choice(f"{prefix}.{key}", value, _CHOICES[key])
        elif key in _RULES:
            check_rule(f"{prefix}.{key}", value, _RULES[key])
    if dnl.BLOCK == "dnl" and dnl.NL_KERNEL == "gaussian":
        raise ValueError(
            f"{prefix}.NL_KERNEL: 'gaussian' is of BLOCK nl; dnl has {' and '.join(DNL_KERNELS)}"
        )
    if dnl.OUT_NORM and dnl.BLOCK == "dnl" and not dnl.USE_OUT:
        raise ValueError(
            f"{prefix}.OUT_NORM: True needs an output convolution: set {prefix}.USE_OUT: True"
        )


def check_rule(key: str, value: Any, rule: Rule) -> None:
    """Raise a ValueError unless a key's value is allowed."""
    is_allowed, text = rule
    if not is_allowed(value):
        raise ValueError(f"{key}: {value!r} must be {text}")


def check_choice(key: str, value: object, allowed: Iterable[str]) -> None:
    """Raise a ValueError unless a key's value is one of those allowed."""
    if value not in (allowed := list(allowed)):
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.5)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{advice}")


def check_size(key: str, value: Any) -> None:
    """Raise a ValueError unless a key's value is a whole number from 1 on."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{key}: {value!r} must be a whole number from 1 on")


def check_features(key: str, wanted: list[str], outputs: list[str]) -> None:
    """Raise a ValueError unless a key names some of the features that there are."""
    if not wanted:
        raise ValueError(f"{key}: {wanted} must have some of {', '.join(outputs)}")
    for feature in wanted:
        if feature not in outputs:
            raise ValueError(
                f"{key}: {feature!r} is not one of {', '.join(outputs)}, which there are"
            )
