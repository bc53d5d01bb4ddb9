"""Which anchors and proposals belong to which object, as mmdetection 1.x assigns them."""

from collections.abc import Sequence

import torch
from detectron2.modeling.matcher import Matcher
from torch import Tensor


class MMDet1Matcher(Matcher):
    """The assignment of mmdetection 1.x (``MaxIoUAssigner``).

    With ``o_ij`` the overlap (IoU) of object i and box j, and ``low`` the lowest threshold:

    1. As in detectron2, box j belongs to ``argmax_i o_ij``, and its label follows from
       ``max_i o_ij`` and the thresholds.
    2. Then each object i with ``max_j o_ij >= low`` takes all boxes with ``o_ij = max_j o_ij``,
       whatever else they overlap. Where two objects take the same box, the last one has it.

    detectron2 takes a box of step 2 also for an object that no box overlaps by ``low``, and leaves
    it with the object that it overlaps most.

    Args:
        thresholds, labels: see ``Matcher``.
        with_objects: the last boxes are the objects themselves, in their order, as
            ``MODEL.ROI_HEADS.PROPOSAL_APPEND_GT`` adds them. Each belongs to its own object and
            takes no part in the two steps.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], *, with_objects: bool = False
    ):
        super().__init__(list(thresholds), list(labels))
        self.low = thresholds[0]
        self.with_objects = with_objects

    def __call__(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        """Match boxes with objects.

        Args:
            overlaps: ``(M, N)``, the IoU of M objects and N boxes.

        Returns:
            Index of each box's object ``(N,)``, int64, and its label ``(N,)``, int8.
        """
        if self.with_objects:
            overlaps = overlaps[:, : overlaps.shape[1] - len(overlaps)]
        matches, labels = super().__call__(overlaps)
        if overlaps.numel() > 0:
            best = overlaps.amax(dim=1, keepdim=True)  # (M, 1)
            best = best.where(best >= self.low, torch.inf)
            objects, taken = (overlaps == best).nonzero(as_tuple=True)
            taken_by = torch.full_like(matches, -1).scatter_reduce(0, taken, objects, "amax")
            matches = torch.where(taken_by >= 0, taken_by, matches)
            labels[taken] = 1
        if self.with_objects:
            own = torch.arange(len(overlaps), device=matches.device)
            matches, labels = (
                torch.cat([matches, own]),
                torch.cat([labels, labels.new_ones(len(own))]),
            )
        return matches, labels
