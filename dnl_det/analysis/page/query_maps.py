"""What many queries of a block attend to, small enough for a page.

H, W: height and width of a feature map, S: key positions, Q: recorded queries.
"""

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from math import ceil, prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..recording.geometry import Frame, Grid
from ..recording.record import BUDGET, BlockRecord

# Keys shown of a block; more are averaged over squares of 2 x 2, 3 x 3, ...
MOST_KEYS = 4500
# Queries whose encoded size tells how many fit a budget.
_SAMPLE = 48
_LEVEL = 6  # of zlib: 9 takes four times as long for 2 % less


@dataclass(frozen=True)
class QueryMaps:
    """Attention of a block's queries on one image, without what lies in its padding.

    Attributes:
        queries: where the Q queries lie: every ``step[0]``-th position of the feature map down, and
            every ``step[1]``-th across.
        keys: where the S keys lie; each is the mean of ``pool`` x ``pool`` of them.
        step, pool: see above; 1 where nothing is left out.
        codes: ``(Q, S)`` uint8, see :func:`quantise`, or None where there is no pairwise term.
        maxima: ``(Q,)`` float32, the largest magnitude of each row.
        inside: ``(Q,)`` float32, the share of each query's pairwise attention that falls on the
            image and not on its padding; 1 where weights have no sum.
        spread: ``(Q,)`` float32, ``exp(entropy)`` of the pairwise row: the number of positions that
            would share it evenly; 0 where it is no distribution.
        signed: the pairwise weights can be negative.
        unary: ``(S,)`` float32, or None.
        unary_inside: as ``inside``, of the unary term.
    """

    queries: Grid
    keys: Grid
    step: tuple[int, int]
    pool: int
    codes: np.ndarray | None
    maxima: np.ndarray
    inside: np.ndarray
    spread: np.ndarray
    signed: bool
    unary: np.ndarray | None
    unary_inside: float

    @cached_property
    def encoded(self) -> str:
        """The codes deflated (zlib) and in base64; empty where there are none."""
        if self.codes is None:
            return ""
        return base64.b64encode(zlib.compress(self.codes.tobytes(), _LEVEL)).decode()


def query_maps(block: BlockRecord, image: int, frame: Frame, budget: int) -> QueryMaps:
    """Record as many queries of a block, evenly spread, as fit a budget.

    Args:
        block: the record.
        image: index in the batch.
        frame: the image's.
        budget: bytes that :attr:`QueryMaps.encoded` may take.

    Raises:
        ValueError: the weights are not finite; or the block is not in a ResNet of detectron2.
    """
    keys = _Keys(block, frame)
    first = block.attention(image, [0])
    _check_finite(block, first.combined)
    unary, unary_inside = None, 1.0
    if first.unary is not None:
        unary, unary_inside = keys.of(first.unary).numpy(), keys.share(first.unary).item()
    whole = crop(block.grid, frame)

    if first.pairwise is None:
        none, rest = np.zeros(0, np.float32), (unary, unary_inside)
        return QueryMaps(whole, keys.grid, (1, 1), keys.pool, None, none, none, none, False, *rest)

    def maps_of(step: tuple[int, int]) -> QueryMaps:
        queries, (rows, columns) = subgrid(whole, step)
        index = (rows[:, None] * block.grid.width + columns).flatten()
        recorded = _record(block, image, keys, index)
        return QueryMaps(queries, keys.grid, step, keys.pool, *recorded, unary, unary_inside)

    sample = maps_of(next(_steps(whole, _SAMPLE)))
    a_row = len(sample.encoded) / len(sample.maxima)
    # Neighbours compress a little better than the sample: 6 % for most, found by trying.
    for step in _steps(whole, 1.1 * budget / a_row):
        maps = maps_of(step)
        if len(maps.encoded) <= budget:
            break
    return maps


def quantise(rows: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights to bytes that keep four decades of them.

    With ``m`` the largest magnitude of a row, ``w = m (code / 255)^2``; or, where they are signed,
    ``w = m c |c|`` with ``c = (code - 128) / 127``. So a weight is wrong by less than ``m / 255``
    (signed: ``m / 127``), and small ones by much less.

    Args:
        rows: ``(Q, S)``.
        signed: whether there may be negative ones.

    Returns:
        codes ``(Q, S)`` uint8, and ``m`` ``(Q,)`` float32.
    """
    maxima = np.abs(rows).max(axis=1).astype(np.float32)
    relative = rows / np.where(maxima > 0, maxima, 1)[:, None]
    roots = np.sqrt(np.abs(relative))
    codes = 128 + 127 * np.sign(relative) * roots if signed else 255 * roots
    return np.rint(codes).astype(np.uint8), maxima


def dequantise(codes: np.ndarray, maxima: np.ndarray, signed: bool) -> np.ndarray:
    """The inverse of :func:`quantise`, ``(Q, S)``: what the page computes."""
    centred = (codes.astype(np.float64) - 128) / 127 if signed else codes / 255
    return maxima[:, None] * centred * np.abs(centred)


def crop(grid: Grid, frame: Frame) -> Grid:
    """The part of a grid that lies in the image; at least one position."""
    inside = grid.inside(frame).reshape(grid.height, grid.width)
    height, width = int(inside[:, 0].sum()), int(inside[0].sum())
    return replace(grid, height=max(height, 1), width=max(width, 1))


def subgrid(grid: Grid, step: tuple[int, int]) -> tuple[Grid, tuple[Tensor, Tensor]]:
    """Every ``step``-th position of a grid down and across, centred; their rows and columns."""
    (height, down), (width, across) = zip((grid.height, grid.width), step, strict=True)
    first = (height - 1) % down // 2, (width - 1) % across // 2
    rows = torch.arange(first[0], height, down)
    columns = torch.arange(first[1], width, across)
    return grid.coarser((len(rows), len(columns)), step, first), (rows, columns)


class _Keys:
    """From weights of all keys to those shown: cropped to the image, and averaged over squares."""

    def __init__(self, block: BlockRecord, frame: Frame):
        self.whole = block.key_grid
        self.inside = crop(self.whole, frame)
        self.pool = n = next(n for n in count(1) if prod(_left(self.inside, (n, n))) <= MOST_KEYS)
        middle = (n - 1) / 2
        self.grid = self.inside.coarser(_left(self.inside, (n, n)), (n, n), (middle, middle))

    def of(self, weights: Tensor) -> Tensor:
        """``(..., all keys)`` to ``(..., S)`` float32, on the CPU."""
        maps = self._cropped(weights)
        if self.pool > 1:
            flat = maps.reshape(1, -1, *maps.shape[-2:])
            maps = F.avg_pool2d(flat, self.pool, ceil_mode=True, count_include_pad=False)
            maps = maps.reshape(*weights.shape[:-1], *maps.shape[2:])
        return maps.flatten(-2).float().cpu()

    def share(self, weights: Tensor) -> Tensor:
        """``(..., all keys)`` to ``(...)`` float32: how much of them lies in the image."""
        return (self._cropped(weights).sum((-2, -1)) / weights.sum(-1)).float().cpu()

    def _cropped(self, weights: Tensor) -> Tensor:
        maps = weights.unflatten(-1, (self.whole.height, self.whole.width))
        return maps[..., : self.inside.height, : self.inside.width]


def _record(
    block: BlockRecord, image: int, keys: _Keys, queries: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Codes, maxima, inside, spread and signed, see QueryMaps."""
    signed = getattr(block.block, "kernel", None) == "dot_product"
    rows, inside, spread = [], [], []
    for chunk in queries.split(max(BUDGET // (8 * block.key_positions), 1)):
        weights = block.attention(image, chunk).pairwise
        assert weights is not None
        _check_finite(block, weights)
        rows.append(keys.of(weights))
        inside.append(torch.ones(len(chunk)) if signed else keys.share(weights))
        entropy = torch.special.entr(weights).sum(1).float().cpu()
        spread.append(torch.zeros(len(chunk)) if signed else entropy.exp())
    codes, maxima = quantise(torch.cat(rows).numpy(), signed)
    return codes, maxima, torch.cat(inside).numpy(), torch.cat(spread).numpy(), signed


def _steps(grid: Grid, most: float) -> Iterator[tuple[int, int]]:
    """Of 1 x 1, 1 x 2, 2 x 2, ... those that leave at most so many positions; the last leaves one.

    They are down and across.
    """
    for number in range(2 * max(grid.height, grid.width)):
        step = 1 + number // 2, 1 + (number + 1) // 2
        if prod(_left(grid, step)) <= max(most, 1):
            yield step


def _left(grid: Grid, step: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that steps leave."""
    return ceil(grid.height / step[0]), ceil(grid.width / step[1])


def _check_finite(block: BlockRecord, weights: Tensor) -> None:
    if not weights.isfinite().all():
        raise ValueError(
            f"the attention of {block.name} is not finite: the weights or the image's features "
            "overflow. Look for nan in the training's log, or take an earlier checkpoint"
        )
