"""The statistics of every attention block of a model, over the images of a data set."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from ..recording.record import AttentionRecord, attention_blocks
from .block_statistics import QUERIES, BlockStatistics, block_statistics, choose_positions
from .correlation import RegionCorrelations, region_correlations
from .intervals import Mean, mean_over_images

# Counts, of which no mean is of interest.
_COUNTS = {"queries", "region_queries"}
QUANTITIES = tuple(
    field.name
    for kind in (BlockStatistics, RegionCorrelations)
    for field in fields(kind)
    if field.name not in _COUNTS
)


class BackboneAlone(nn.Module):
    """A detector up to its backbone's features, under the same module names.

    Attention can be recorded in half the time where what the heads find is not of interest.

    Args:
        model: with ``preprocess_image`` and ``backbone``, as detectron2's detectors.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.backbone = model.backbone
        self._preprocess: Callable[[Any], Any] = model.preprocess_image  # type: ignore[assignment]

    def forward(self, inputs: list[dict[str, Any]]) -> Any:
        """The features of detectron2's list of dictionaries."""
        return self.backbone(self._preprocess(inputs).tensor)  # type: ignore[operator]

    @classmethod
    def of(cls, model: nn.Module) -> nn.Module:
        """This of the model, or the model itself where that would leave an attention block out."""
        alone = all(name.startswith("backbone.") for name in attention_blocks(model))
        return cls(model) if alone and hasattr(model, "preprocess_image") else model


class Diagnosis:
    """Collects the statistics of recorded batches.

    Args:
        queries: positions taken of each image, by chance, for attention's rows.
        band: side of a boundary's cell in strides, see
            :func:`~dnl_det.analysis.regions_at`.
        seed: of that chance.

    Attributes:
        images: how many were added.
        images_with_regions: how many of them have masks, and a position of some block in one.
    """

    def __init__(self, queries: int = QUERIES, band: float = 1.0, seed: int = 0):
        self.queries, self.band, self.seed = queries, band, seed
        self.images = self.images_with_regions = 0
        self._found: dict[str, list[dict[str, Any]]] = {}

    def add(self, record: AttentionRecord, labels: Sequence[np.ndarray | None]) -> None:
        """Add the images of a batch.

        Args:
            record: of the batch.
            labels: one an image, see :func:`~dnl_det.analysis.category_map`; None without masks.
        """
        for image, (frame, categories) in enumerate(zip(record.frames, labels, strict=True)):
            in_regions = False
            for name, block in record.items():
                # By image and not by turn, so that a block's queries do not depend on the others.
                generator = torch.Generator().manual_seed(self.seed + self.images)
                inside = block.grid.inside(frame)
                chosen = choose_positions(inside, self.queries, generator)
                found = asdict(block_statistics(block, image, frame, queries=chosen))
                if categories is not None:
                    options: Any = {"band": self.band, "queries": self.queries}
                    options["generator"] = generator
                    correlations = region_correlations(block, image, frame, categories, **options)
                    if correlations is not None:
                        in_regions = True
                        found.update(asdict(correlations))
                self._found.setdefault(name, []).append(found)
            self.images += 1
            self.images_with_regions += in_regions

    def means(self) -> dict[str, dict[str, Mean | None]]:
        """By block and by quantity, the mean over images with its 95 % interval, or None."""
        return {
            name: {
                quantity: mean_over_images(image.get(quantity) for image in images)
                for quantity in QUANTITIES
            }
            for name, images in self._found.items()
        }
