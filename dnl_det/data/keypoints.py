"""What a JSON's categories say of key points: their names, which belong together, which swap."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

_HOW = (
    'give each category "keypoints": [names, such as "left_eye"], in the order of an annotation\'s '
    'numbers, and, to draw lines, "skeleton": [[1, 2], ...]; or set MODEL.KEYPOINT_ON False'
)
_COLOUR = (102, 204, 255)  # of the lines between them in pictures
_SIGMA = 0.06  # about the mean of COCO's 17


def use_keypoints(cfg: CfgNode, name: str, categories: list[dict[str, Any]]) -> None:
    """Set the metadata and the config's number of key points by a JSON's categories.

    Those that have left and right in their names swap where an image is flipped.

    Args:
        cfg: changed in place: ``MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS``, and, where empty,
            ``TEST.KEYPOINT_OKS_SIGMAS``.
        name: of the data set.
        categories: of the JSON.

    Raises:
        ValueError: no names or several lists of them, a skeleton of others, or sigmas of another
            number.
    """
    lists = [c["keypoints"] for c in categories if c.get("keypoints")]
    if not lists:
        raise ValueError(f"data set {name}: no category names its key points: {_HOW}")
    names, count = lists[0], len(lists[0])
    if not _are_names(names) or any(other != names for other in lists):
        raise ValueError(
            f"data set {name}: the categories' keypoints must be one list of different names, the "
            f"same for all that have any: {_HOW}"
        )
    MetadataCatalog.get(name).set(
        keypoint_names=names,
        keypoint_flip_map=_flip_map(names),
        keypoint_connection_rules=_connections(name, names, categories),
    )
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = count
    sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
    if sigmas and len(sigmas) != count:
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS: {len(sigmas)} numbers must be one for each of the {count} "
            f"key points of data set {name}; or empty: {_SIGMA} for all"
        )
    if not sigmas:
        cfg.TEST.KEYPOINT_OKS_SIGMAS = [_SIGMA] * count
        logging.getLogger(__name__).warning(
            f"TEST.KEYPOINT_OKS_SIGMAS is not set: {_SIGMA} for each of {count} key points. AP of "
            "key points depends on it."
        )


def check_same_keypoints(*data_sets: str) -> None:
    """Check that data sets have the same key points in the same order.

    Raises:
        ValueError: they differ.
    """
    names = {name: MetadataCatalog.get(name).get("keypoint_names") for name in data_sets}
    if len({str(one) for one in names.values()}) > 1:
        found = " and ".join(f"{one} of data set {name}" for name, one in names.items())
        raise ValueError(f"key points differ: {found}; they must be the same, in the same order")


def _are_names(names: Any) -> bool:
    return (
        isinstance(names, list)
        and all(isinstance(one, str) and one for one in names)
        and len(set(names)) == len(names)
    )


def _flip_map(names: list[str]) -> list[tuple[str, str]]:
    """Pairs that differ in left and right alone."""
    pairs = []
    for left in names:
        for word, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
            if word in left and (right := left.replace(word, other)) in names:
                pairs.append((left, right))
    return pairs


def _connections(
    name: str, names: list[str], categories: list[dict[str, Any]]
) -> list[tuple[str, str, tuple[int, int, int]]]:
    skeleton: Any = next((c["skeleton"] for c in categories if c.get("skeleton")), [])
    numbers = range(1, len(names) + 1)
    if not isinstance(skeleton, list) or not all(_is_pair_of(numbers, line) for line in skeleton):
        raise ValueError(
            f"data set {name}: skeleton must be pairs of numbers from 1 to {len(names)}"
        )
    return [(names[a - 1], names[b - 1], _COLOUR) for a, b in skeleton]


def _is_pair_of(numbers: range, line: Any) -> bool:
    if not isinstance(line, list) or len(line) != 2:
        return False
    return all(type(number) is int and number in numbers for number in line)
