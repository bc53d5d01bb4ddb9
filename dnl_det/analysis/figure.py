"""A figure as in the paper: what query points attend to, a column for each term.

S: key positions of a block.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from matplotlib.figure import Figure

from .geometry import Frame
from .record import BlockRecord

TITLES = {"joint": "joint", "pairwise": "pairwise", "unary": "unary"}
_POINTS = 2
_DPI = 200
_WIDTH = 2.1  # inches of a panel


@dataclass(frozen=True)
class _Row:
    image: np.ndarray  # RGB (H, W, 3)
    point: tuple[float, float]
    maps: dict[str, np.ndarray]  # by column, (H, W)


class AttentionFigure:
    """Rows are images and query points; columns the image, then joint, pairwise and unary.

    ``joint`` is what the block weights its values with, ``gamma * pairwise + unary``; of a block
    that does not split its attention, it is that. Each map is coloured from 0, or its lowest weight
    where there are negative ones, to its highest.

    Args:
        name: of the block, for the title.
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
        columns: dict[str, Any] = {"joint": attention.combined}
        if attention.pairwise is not None and attention.unary is not None:
            columns["pairwise"] = attention.pairwise
        if attention.unary is not None:
            columns["unary"] = attention.unary.expand(len(points), -1)
            if attention.pairwise is None:
                del columns["joint"]
        maps = {
            name: block.key_grid.to_image(weights.float().cpu(), frame).numpy()
            for name, weights in columns.items()
        }
        for index, point in enumerate(points):
            self._rows.append(_Row(image, point, {name: m[index] for name, m in maps.items()}))

    def draw(self) -> Figure:
        """The figure, of matplotlib."""
        columns = list(self._rows[0].maps)
        heights = [row.image.shape[0] / row.image.shape[1] for row in self._rows]
        size = (_WIDTH * (1 + len(columns)), _WIDTH * sum(heights) + 0.25 * len(heights) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(heights), 1 + len(columns), height_ratios=heights, squeeze=False)
        for row, line in zip(self._rows, axes, strict=True):
            for axis in line:
                axis.set_axis_off()
            line[0].imshow(row.image)
            for axis, name in zip(line[1:], columns, strict=True):
                weights = row.maps[name]
                low = min(float(weights.min()), 0.0)
                axis.imshow(row.image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
                axis.imshow(weights, cmap="viridis", vmin=low, vmax=weights.max(), alpha=0.75)
            for axis in line:
                axis.plot(*row.point, "o", ms=5, mfc="none", mec="black", mew=2.4)
                axis.plot(*row.point, "o", ms=5, mfc="none", mec="white", mew=1.2)
        axes[0, 0].set_title("query", fontsize=9)
        for axis, name in zip(axes[0, 1:], columns, strict=True):
            axis.set_title(name, fontsize=9)
        figure.suptitle(self.name, fontsize=9)
        return figure

    def png(self) -> bytes:
        """The figure as a PNG."""
        buffer = io.BytesIO()
        self.draw().savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()


def default_points(instances: Instances | None, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Centres of the two best-scored detections; of the image, where there is none.

    Args:
        instances: in pixels of the image.
        size: height and width of the image.
    """
    if instances is None or not len(instances):
        return [(size[1] / 2, size[0] / 2)]
    best = instances.scores.argsort(descending=True)[:_POINTS]
    return [(x, y) for x, y in instances.pred_boxes.get_centers()[best].tolist()]
