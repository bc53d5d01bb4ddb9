"""Cross entropy of semantic segmentation: of all pixels, of labelled ones, or of hard ones.

N: images, K: classes, H, W: height, width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEANS = ("all", "labelled")


class SemSegLoss(nn.Module):
    """Cross entropy with class weights, from logits of any size.

    ``mean="all"`` divides the sum of all pixels' losses by their number, in which ignored pixels
    count (mmsegmentation); ``"labelled"`` divides it by the sum of the labelled pixels' weights
    (torch). With ``ohem``, hard pixels alone are learned from: those whose class has a probability
    below the threshold, or below that of the ``min_pixels + 1``-th hardest pixel if that is larger.
    Their mean is the loss (Shrivastava et al., "Training Region-based Object Detectors with Online
    Hard Example Mining", CVPR 2016; per pixel as in the authors' segmentation code).

    A batch without a labelled pixel has the loss 0.

    Args:
        ignore_value: the label of pixels that do not count.
        mean: one of :data:`MEANS`.
        class_weights: K numbers, or none for 1.
        align_corners: of the resizing to the labels' size.
        ohem: learn from hard pixels.
        threshold, min_pixels: which are hard.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        ignore_value: int = 255,
        mean: str = "all",
        class_weights: Sequence[float] = (),
        align_corners: bool = False,
        ohem: bool = False,
        threshold: float = 0.7,
        min_pixels: int = 100000,
    ):
        super().__init__()
        self.ignore_value = ignore_value
        self.mean = mean
        self.align_corners = align_corners
        self.ohem, self.threshold, self.min_pixels = ohem, threshold, min_pixels
        weights = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: ``(N, K, h, w)``, of any size.
            labels: ``(N, H, W)``, from 0 to K - 1, or ``ignore_value``.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(
            logits, labels.shape[-2:], mode="bilinear", align_corners=self.align_corners
        )
        weight = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        losses = F.cross_entropy(
            logits, labels, weight, ignore_index=self.ignore_value, reduction="none"
        )  # (N, H, W), 0 where ignored
        labelled = labels != self.ignore_value
        if self.ohem:
            return self._of_hard_pixels(logits, labels, losses, labelled)
        if self.mean == "all":
            return losses.mean()
        weights = labelled.to(losses) if weight is None else weight[labels[labelled]]
        return losses.sum() / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny)

    def _of_hard_pixels(
        self, logits: Tensor, labels: Tensor, losses: Tensor, labelled: Tensor
    ) -> Tensor:
        with torch.no_grad():
            classes = labels.where(labelled, torch.zeros_like(labels)).unsqueeze(1)
            found = logits.softmax(dim=1).gather(1, classes).squeeze(1)[labelled]  # (pixels,)
            threshold = torch.as_tensor(self.threshold).to(found)
            if len(found):
                rank = min(self.min_pixels + 1, len(found))
                threshold = found.kthvalue(rank).values.maximum(threshold)
            hard = found < threshold
        return losses[labelled][hard].sum() / hard.sum().clamp(min=1)
