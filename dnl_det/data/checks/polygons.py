"""Polygons by the hundred thousand: areas, bounds, and whether they cross themselves.

Legend: P: polygons, K: corners of all of them, n: corners of one.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

_PAIRS_AT_ONCE = 2_000_000  # of edges: 16 MB an array
_MOST_CORNERS = 3000  # of a polygon whose edges are compared, each with each


class Polygons:
    """Many polygons ``[x0, y0, x1, y1, ...]`` in one array.

    Args:
        polygons: at least one, each of an even count of numbers, at least 6.
    """

    def __init__(self, polygons: Sequence[Sequence[float]]):
        self.corners = np.array([len(p) // 2 for p in polygons], dtype=np.int64)  # (P,)
        numbers = 2 * int(self.corners.sum())
        flat = np.fromiter(chain.from_iterable(polygons), np.float64, numbers)
        self._xy = flat.reshape(-1, 2)  # (K, 2)
        self._starts = np.cumsum(self.corners) - self.corners

    def areas(self) -> np.ndarray:
        """``(P,)``, by the shoelace formula; where a polygon crosses itself, parts cancel."""
        following = np.arange(1, len(self._xy) + 1)
        following[self._starts + self.corners - 1] = self._starts
        # Relative to the first corner: exact far from the origin too.
        x, y = (self._xy - np.repeat(self._xy[self._starts], self.corners, axis=0)).T
        doubled = x * y[following] - x[following] * y
        return np.abs(np.add.reduceat(doubled, self._starts)) / 2

    def bounds(self) -> np.ndarray:
        """``(P, 4)``: least x and y, largest x and y."""
        least = np.minimum.reduceat(self._xy, self._starts)
        return np.concatenate([least, np.maximum.reduceat(self._xy, self._starts)], axis=1)

    def crossing(self) -> np.ndarray:
        """``(P,)``: whether two edges cross at an inner point of both.

        Edges that touch or lie on each other do not count. Polygons of more than 3,000 corners are
        not looked at, and taken for simple.
        """
        result = np.zeros(len(self.corners), dtype=bool)
        for indices, size in self._alike():
            offsets = np.minimum(np.arange(size), self.corners[indices, None] - 1)
            result[indices] = _cross(self._xy[self._starts[indices, None] + offsets])
        return result

    def _alike(self) -> Iterator[tuple[np.ndarray, int]]:
        """Indices of polygons of about as many corners, in portions, and the most of them."""
        order = np.argsort(self.corners, kind="stable")
        order = order[np.searchsorted(self.corners[order], 4) :]  # a triangle cannot
        begin = 0
        while begin < len(order) and self.corners[order[begin]] <= _MOST_CORNERS:
            most = int(self.corners[order[begin]]) * 9 // 8
            end = begin + int(np.searchsorted(self.corners[order[begin:]], most, "right"))
            end = min(end, begin + max(1, _PAIRS_AT_ONCE // most**2))
            yield order[begin:end], int(self.corners[order[end - 1]])
            begin = end


def _cross(corners: np.ndarray) -> np.ndarray:
    """Of polygons ``(P, n, 2)``; a last corner that is repeated adds edges that cross nothing."""
    edges = np.roll(corners, -1, axis=1) - corners
    apart = corners[:, None] - corners[:, :, None]  # (P, n, n, 2): from edge i's start to corner j
    # On which side of edge i corner j lies, (P, n, n); exactly 0 for the edge's own ends.
    side = np.sign(edges[:, :, None, 0] * apart[..., 1] - edges[:, :, None, 1] * apart[..., 0])
    straddles = side * np.roll(side, -1, axis=2) < 0
    both: np.ndarray = (straddles & straddles.transpose(0, 2, 1)).any(axis=(1, 2))
    return both
