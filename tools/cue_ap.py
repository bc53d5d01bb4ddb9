"""AP of the Shapes classes by what decides them: a relation, one cue of the image, or nothing."""

from collections.abc import Mapping
from statistics import fmean

from dnl_det.data.options import OUTLINES_OF_CUE

CUES = {
    "tag": "tag classes (a relation)",
    "beacon": "beacon classes (one cue for all)",
    "plain": "plain classes (no context)",
}


def ap_by_cue(results: Mapping[str, float], task: str) -> dict[str, float]:
    """Mean AP over the classes of each of :data:`CUES`, per cent; NaN where there is none.

    Args:
        results: of an evaluation on Shapes, such as ``{"bbox/AP-circle_black": 41.2, ...}``.
        task: ``bbox`` or ``segm``.
    """
    found = {}
    for cue in CUES:
        prefixes = tuple(f"{task}/AP-{outline}" for outline in OUTLINES_OF_CUE[cue])
        values = [value for key, value in results.items() if key.startswith(prefixes)]
        found[cue] = fmean(values) if values else float("nan")
    return found
