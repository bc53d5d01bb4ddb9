"""Correlations of the terms of attention with instance masks: with categories and boundaries.

Definitions with equations: docs/DIAGNOSE.md. L: positions, S: key positions, Q: chosen queries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..recording.geometry import Frame
from ..recording.record import BUDGET, BlockRecord
from .block_statistics import QUERIES, choose_positions
from .regions import BACKGROUND, IGNORED, regions_at

# Weights that differ by less are equal: the rounding of float32.
_RELATIVE_ROUNDING = 5e-7


@dataclass(frozen=True)
class RegionCorrelations:
    """Pearson's correlations over keys, on one image; None where the block has no such term.

    Attributes:
        region_queries: Q, positions inside a category's masks.
        pairwise_category: of a query's row with "this key has the query's category".
        pairwise_boundary: of a query's row with "this key is on a boundary".
        unary_category: of the unary term with "this key has the query's category".
        unary_boundary: of the unary term with "this key is on a boundary".
    """

    region_queries: int
    pairwise_category: float | None
    pairwise_boundary: float | None
    unary_category: float | None
    unary_boundary: float | None


@torch.no_grad()
def region_correlations(
    record: BlockRecord,
    image: int,
    frame: Frame,
    labels: np.ndarray,
    *,
    band: float = 1.0,
    queries: int = QUERIES,
    generator: torch.Generator | None = None,
) -> RegionCorrelations | None:
    """What a recorded block's terms have to do with the categories of an image.

    Keys in the batch's padding and in crowds are left out. Each number is a mean over queries,
    less those for which a map is the same at all keys, so that no correlation is defined.

    Args:
        record: of the block.
        image: index in the batch.
        frame: the image's, ``AttentionRecord.frames[image]``.
        labels: of the original image, see :func:`~dnl_det.analysis.category_map`.
        band: side of a boundary's cell in strides, see :func:`~dnl_det.analysis.regions_at`.
        queries: how many positions inside of categories are taken, by chance.
        generator: of that choice, on the CPU; seeded with 0 if None.

    Returns:
        None where no position lies inside a category.

    Raises:
        ValueError: no stride is known, or see :meth:`BlockRecord.attention`.
    """
    at_queries = regions_at(labels, record.grid, frame, band).categories
    chosen = choose_positions(at_queries > BACKGROUND, queries, generator)
    if not len(chosen):
        return None
    attention = record.attention(image, chosen, 4 * BUDGET)
    at_keys = regions_at(labels, record.key_grid, frame, band)
    keys = at_keys.categories != IGNORED
    categories = at_keys.categories[keys]
    same = at_queries[chosen][:, None] == categories  # (Q, S)
    boundary = at_keys.boundary[keys][None]  # (1, S)

    def against(rows: Tensor | None, target: Tensor) -> float | None:
        if rows is None:
            return None
        found = pearson(rows.cpu()[..., keys], target)
        found = found[found.isfinite()]
        return found.mean().item() if len(found) else None

    unary = None if attention.unary is None else attention.unary[None]
    return RegionCorrelations(
        region_queries=len(chosen),
        pairwise_category=against(attention.pairwise, same),
        pairwise_boundary=against(attention.pairwise, boundary),
        unary_category=against(unary, same),
        unary_boundary=against(unary, boundary),
    )


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of rows with rows.

    Args:
        first, second: ``(Q, S)`` or ``(1, S)``; any dtype.

    Returns:
        ``(Q,)``, float64; NaN where one of two rows is constant.
    """
    a, b = _standardise(first.double()), _standardise(second.double())
    return (a * b).sum(1)


def _standardise(rows: Tensor) -> Tensor:
    """Mean 0 and norm 1; NaN where a row is constant."""
    largest = rows.abs().amax(1, keepdim=True)
    spread = rows.amax(1, keepdim=True) - rows.amin(1, keepdim=True)
    centred = rows - rows.mean(1, keepdim=True)
    scaled = centred / centred.norm(dim=1, keepdim=True)
    return scaled.masked_fill(spread <= _RELATIVE_ROUNDING * largest, torch.nan)
