"""What can be said of the keys of semantic segmentation before a model is built."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from ..rules import (
    BOOL,
    Rule,
    check_attention_keys,
    check_choice,
    check_features,
    check_rule,
    check_size,
    is_finite,
    is_whole,
)
from .loss import MEANS

_KEY = "MODEL.SEM_SEG_HEAD"
_NOT_NEGATIVE: Rule = (lambda v: is_finite(v) and v >= 0, "a number from 0 on")
_RULES: dict[str, Rule] = {
    "CONCAT": BOOL,
    "ALIGN_CORNERS": BOOL,
    "OHEM": BOOL,
    "DROPOUT": (lambda v: is_finite(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "LOSS_WEIGHT": _NOT_NEGATIVE,
    "OHEM_THRESHOLD": (lambda v: is_finite(v) and 0 < v <= 1, "a number above 0 and up to 1"),
}


def check_sem_seg_head(cfg: CfgNode, outputs: Sequence[str] | None = None) -> None:
    """Check the keys of ``MODEL.SEM_SEG_HEAD`` that ``DNLSemSegHead`` reads.

    Args:
        cfg: with the keys of ``add_dnl_config``.
        outputs: the features of the backbone, where they are known.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    check_attention_keys(f"{_KEY}.DNL", head.DNL)
    for key, rule in _RULES.items():
        check_rule(f"{_KEY}.{key}", head[key], rule)
    check_choice(f"{_KEY}.LOSS_MEAN", head.LOSS_MEAN, MEANS)
    for key in ("CONVS_DIM", "NUM_CLASSES", "OHEM_MIN_PIXELS"):
        check_size(f"{_KEY}.{key}", head[key])
    weights = head.CLASS_WEIGHTS
    if weights and (len(weights) != head.NUM_CLASSES or not all(map(_is_positive, weights))):
        raise ValueError(
            f"{_KEY}.CLASS_WEIGHTS: {weights} must be {head.NUM_CLASSES} numbers above 0, one for "
            f"each of {_KEY}.NUM_CLASSES, or [] for none"
        )
    check_rule(f"{_KEY}.AUX.LOSS_WEIGHT", head.AUX.LOSS_WEIGHT, _NOT_NEGATIVE)
    if head.AUX.LOSS_WEIGHT:
        check_size(f"{_KEY}.AUX.CONVS_DIM", head.AUX.CONVS_DIM)
        if outputs is not None:
            check_features(f"{_KEY}.AUX.IN_FEATURE", [head.AUX.IN_FEATURE], list(outputs))


def check_sliding_window(cfg: CfgNode) -> None:
    """Check ``TEST.SLIDING_WINDOW``.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    size, stride = cfg.TEST.SLIDING_WINDOW.SIZE, cfg.TEST.SLIDING_WINDOW.STRIDE
    for key, value in (("SIZE", size), ("STRIDE", stride)):
        if value and (len(value) != 2 or not all(is_whole(v) and v >= 1 for v in value)):
            raise ValueError(
                f"TEST.SLIDING_WINDOW.{key}: {value} must be a height and a width in pixels, such "
                "as [769, 769], or [] for the whole image at once"
            )
    if bool(size) != bool(stride) or any(s > w for s, w in zip(stride, size, strict=True)):
        raise ValueError(
            f"TEST.SLIDING_WINDOW.STRIDE: {stride} must be two numbers up to those of "
            f"TEST.SLIDING_WINDOW.SIZE, {size}, so that windows leave no pixel out; [] with []"
        )


def _is_positive(value: Any) -> bool:
    return is_finite(value) and value > 0
