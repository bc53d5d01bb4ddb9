"""Where the positions of a feature map lie in the image: strides, padding and resizing, exactly.

Coordinates are continuous, in pixels, x to the right and y down: pixel ``i`` covers ``[i, i + 1)``
and has its centre at ``i + 0.5``. H, W: height and width of the feature map, L = H * W: positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """An image as it is and as the network gets it.

    Attributes:
        height, width: of the network's input in pixels, without the padding of its batch.
        original_height, original_width: of the image before it was resized.
    """

    height: int
    width: int
    original_height: int
    original_width: int

    def to_network(self, points: Tensor) -> Tensor:
        """``(..., 2)`` x, y in the original image to x, y in the network's input."""
        return points * self._scale(points)

    def to_original(self, points: Tensor) -> Tensor:
        """The inverse of :meth:`to_network`."""
        return points / self._scale(points)

    def _scale(self, points: Tensor) -> Tensor:
        scale = (self.width / self.original_width, self.height / self.original_height)
        dtype = torch.promote_types(points.dtype, torch.float32)  # points may be whole pixels
        return torch.tensor(scale, dtype=dtype, device=points.device)


@dataclass(frozen=True)
class Grid:
    """The positions of a feature map, in the network's input.

    Position ``(row, column)`` is the centre of its receptive field: every convolution and pooling
    of detectron2's ResNets pads so that it lies at pixel ``stride * row, stride * column``.

    Attributes:
        height, width: H and W.
        stride: pixels from one position to the next, down and to the right.
        offset: y and x of the first position.
    """

    height: int
    width: int
    stride: tuple[float, float]
    offset: tuple[float, float] = (0.5, 0.5)

    def centres(self) -> Tensor:
        """``(L, 2)``: x and y of every position, row by row."""
        y = torch.arange(self.height) * self.stride[0] + self.offset[0]
        x = torch.arange(self.width) * self.stride[1] + self.offset[1]
        ys, xs = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([xs.flatten(), ys.flatten()], dim=1).float()

    def nearest(self, points: Tensor) -> Tensor:
        """``(Q,)``: the position nearest to each x, y of ``(Q, 2)``."""
        index = (self._fractional(points) + 0.5).floor().long()
        row = index[:, 1].clamp(0, self.height - 1)
        column = index[:, 0].clamp(0, self.width - 1)
        return row * self.width + column

    def inside(self, frame: Frame) -> Tensor:
        """``(L,)``: whether a position lies in the image, and not in its padding."""
        x, y = self.centres().unbind(1)
        return (x < frame.width) & (y < frame.height)

    def pooled(self) -> "Grid":
        """That of a map max-pooled 2 x 2 with stride 2, where a side of 1 stays."""
        y, x = min(2, self.height), min(2, self.width)
        return self.coarser((self.height // y, self.width // x), (y, x), ((y - 1) / 2, (x - 1) / 2))

    def coarser(
        self, size: tuple[int, int], step: tuple[int, int], first: tuple[float, float]
    ) -> "Grid":
        """``size`` positions, every ``step``-th one; all arguments are down and across.

        ``first`` is the row and column that the first one lies at, or between.
        """
        axes = zip(self.stride, self.offset, step, first, strict=True)
        (sy, oy), (sx, ox) = ((n * stride, at + n0 * stride) for stride, at, n, n0 in axes)
        return Grid(*size, (sy, sx), (oy, ox))

    def to_image(self, values: Tensor, frame: Frame) -> Tensor:
        """Values at the positions, interpolated bilinearly at the pixels of the original image.

        Args:
            values: ``(..., L)``.
            frame: of the image.

        Returns:
            ``(..., original_height, original_width)``; beyond the outermost positions their values.
        """
        y = torch.arange(frame.original_height) + 0.5
        x = torch.arange(frame.original_width) + 0.5
        ys, xs = torch.meshgrid(y, x, indexing="ij")
        index = self._fractional(frame.to_network(torch.stack([xs, ys], dim=-1)))
        last = index.new_tensor([max(self.width - 1, 1), max(self.height - 1, 1)])
        where = (2 * index / last - 1).to(values)[None]  # (1, height, width, 2), in [-1, 1]
        maps = values.reshape(1, -1, self.height, self.width)
        sampled = F.grid_sample(maps, where, padding_mode="border", align_corners=True)
        return sampled.reshape(*values.shape[:-1], *sampled.shape[2:])

    def _fractional(self, points: Tensor) -> Tensor:
        """Column and row of x, y ``(..., 2)``, between positions."""
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        from_first = points - points.new_tensor(self.offset[::-1])
        return from_first / points.new_tensor(self.stride[::-1])
