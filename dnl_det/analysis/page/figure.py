"""A figure as in the paper: what query points attend to, a column for each term.

S: key positions of a block.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..recording.geometry import Frame
from ..recording.record import BlockRecord, QueryAttention

_POINTS = 2
_DPI = 200
_ALPHA = 0.75  # of a map over the picture
_WIDTH, _GAP, _HEAD = 2.1, 0.05, 0.24  # inches: of a panel, between panels, of the titles


@dataclass(frozen=True)
class _Row:
    image: np.ndarray  # RGB (H, W, 3)
    point: tuple[float, float]
    maps: dict[str, np.ndarray]  # by column, (H, W)


class AttentionFigure:
    """Rows are images and query points; columns the image, then joint, pairwise and unary.

    ``joint`` is what the block weights its values with, ``gamma * pairwise + unary``, or the one
    term of a block that does not split it. Each map is coloured from 0 to its highest weight; a
    column with negative ones from blue over white, 0, to red.

    Args:
        name: of the block, the title of the first column.
    """

    def __init__(self, name: str):
        self.name = name
        self._rows: list[_Row] = []

    def add(
        self,
        image: np.ndarray,
        block: BlockRecord,
        frame: Frame,
        points: Sequence[tuple[float, float]],
    ) -> None:
        """Add a row for each query point.

        Args:
            image: the original, RGB uint8 ``(H, W, 3)``.
            block: recorded on this image alone.
            frame: of the image.
            points: x, y in pixels of the original image; the nearest positions are the queries.
        """
        where = frame.to_network(torch.tensor(points, dtype=torch.float64))
        attention = block.attention(0, block.grid.nearest(where))
        columns = _columns(block, attention)
        maps = {
            name: block.key_grid.to_image(weights.expand(len(points), -1), frame).numpy()
            for name, weights in columns.items()
        }
        for index, point in enumerate(points):
            self._rows.append(_Row(image, point, {name: m[index] for name, m in maps.items()}))

    def draw(self) -> Figure:
        """The figure, of matplotlib."""
        columns = list(self._rows[0].maps)
        heights = [_WIDTH * row.image.shape[0] / row.image.shape[1] for row in self._rows]
        width = (1 + len(columns)) * (_WIDTH + _GAP) - _GAP
        height = sum(heights) + _GAP * (len(heights) - 1) + _HEAD
        figure = Figure(figsize=(width, height))
        layout: Any = {"left": 0, "right": 1, "bottom": 0, "top": 1 - _HEAD / height}
        layout |= {"wspace": _GAP / _WIDTH, "hspace": _GAP / fmean(heights)}
        axes = figure.subplots(
            len(heights), 1 + len(columns), squeeze=False, height_ratios=heights, gridspec_kw=layout
        )
        # One kind of colours a column, so that its rows can be compared.
        signed = {name for name in columns if any(row.maps[name].min() < 0 for row in self._rows)}
        for row, panels in zip(self._rows, axes, strict=True):
            for axis, name in zip(panels, [self.name, *columns], strict=True):
                axis.set_axis_off()
                _draw_panel(axis, row, row.maps.get(name), name in signed)
        for axis, name in zip(axes[0], [self.name, *columns], strict=True):
            axis.set_title(name, fontsize=9, pad=4)
        return figure

    def png(self) -> bytes:
        """The figure as a PNG."""
        buffer = io.BytesIO()
        self.draw().savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()


def _columns(block: BlockRecord, attention: QueryAttention) -> dict[str, Tensor]:
    """Weights ``(Q, S)`` or ``(S,)`` by title, float32 on the CPU."""
    pairwise, unary = attention.pairwise, attention.unary
    columns = {"pairwise": pairwise, "unary": unary}
    if pairwise is not None and unary is not None:
        columns = {"joint": attention.combined, **columns}
    elif pairwise is not None and getattr(block.block, "mode", None) != "pairwise":
        columns = {"joint": pairwise}
    return {name: w.float().cpu() for name, w in columns.items() if w is not None}


def _draw_panel(axis: Axes, row: _Row, weights: np.ndarray | None, signed: bool) -> None:
    if weights is None:
        axis.imshow(row.image, aspect="auto")
    else:
        high = float(np.abs(weights).max())
        low, colours = (-high, "RdBu_r") if signed else (0.0, "magma")
        axis.imshow(row.image.mean(axis=2), cmap="gray", vmin=0, vmax=255, aspect="auto")
        axis.imshow(weights, cmap=colours, vmin=low, vmax=high, alpha=_ALPHA, aspect="auto")
    for colour, width in (("black", 2.4), ("white", 1.2)):
        axis.plot(*row.point, "o", ms=5, mfc="none", mec=colour, mew=width)


def default_points(instances: Instances | None, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Centres of the two best-scored detections, or what they have as ``inner_points``.

    Of the image, where there is none.

    Args:
        instances: in pixels of the image.
        size: height and width of the image.
    """
    if instances is None or not len(instances):
        return [(size[1] / 2, size[0] / 2)]
    best = instances.scores.argsort(descending=True)[:_POINTS]
    has_points = instances.has("inner_points")
    centres = instances.inner_points if has_points else instances.pred_boxes.get_centers()
    return [(x, y) for x, y in centres[best].tolist()]
