"""Shapes, patches and textures in integer arithmetic, so that every machine draws the same pixels.

Legend: H, W: height and width in pixels; x to the right, y down; a mask is a bool array ``(H, W)``.
"""

import math

import numpy as np

UNIT = 4096  # the length 1 of the sine and cosine tables
SUBPIXEL = 16  # vertices lie on a grid of 1/16 pixel

# Rounded to integers, so a last-bit difference between two maths libraries never shows.
COS = tuple(round(UNIT * math.cos(math.radians(degree))) for degree in range(360))
SIN = tuple(round(UNIT * math.sin(math.radians(degree))) for degree in range(360))


def _polar(*points: tuple[int, int], centre: int = 0) -> np.ndarray:
    """Vertices ``(K, 2)`` in 1/UNIT from (degrees, radius in 1/1000) around (centre / 1000, 0)."""
    return np.array(
        [
            (centre * UNIT // 1000 + r * COS[d % 360] // 1000, r * SIN[d % 360] // 1000)
            for d, r in points
        ],
        dtype=np.int64,
    )


def _cross(half: int = 340, arm: int = 940) -> np.ndarray:
    """Vertices of a plus sign; half the width and the length of its arms in 1/1000."""
    corners = [(half, arm), (half, half), (arm, half)]
    quarter = np.array(corners, dtype=np.int64) * UNIT // 1000
    turns = [quarter]
    for _ in range(3):
        turns.append(turns[-1] @ np.array([[0, -1], [1, 0]]))  # each a quarter turn on
    return np.concatenate(turns)


# Every outline fits the circle of radius UNIT around (0, 0).
OUTLINES: dict[str, np.ndarray] = {
    "circle": _polar(*((d, 900) for d in range(0, 360, 15))),
    "square": _polar(*((d, 1000) for d in (45, 135, 225, 315))),
    "triangle": _polar(*((d, 1000) for d in (270, 30, 150))),
    "star": _polar(*((270 + 36 * k, 480 if k % 2 else 1000) for k in range(10))),
    "cross": _cross(),
    # The outer arc of a disc, then back along an arc around a point further right.
    "moon": np.concatenate(
        [
            _polar(*((d, 1000) for d in range(60, 301, 10))),
            _polar(*((d, 889) for d in range(257, 102, -11)), centre=700),
        ]
    ),
}


def rasterise(outline: str, size: int, tilt: int) -> np.ndarray:
    """The filled region of an outline.

    Args:
        outline: a key of OUTLINES.
        size: diameter in pixels of the circle around the outline.
        tilt: rotation in degrees.

    Returns:
        mask ``(size, size)``: the pixels whose centre lies inside (even-odd rule).
    """
    cos, sin = COS[tilt % 360], SIN[tilt % 360]
    rotated = OUTLINES[outline] @ np.array([[cos, sin], [-sin, cos]])  # in 1/UNIT^2
    corners = (rotated * size * SUBPIXEL) // (2 * UNIT * UNIT) + size * SUBPIXEL // 2
    vertices = corners.tolist()
    x = np.arange(size, dtype=np.int64) * SUBPIXEL + SUBPIXEL // 2  # the pixels' centres
    inside = np.zeros((size, size), dtype=bool)
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        first, last = (-((SUBPIXEL // 2 - v) // SUBPIXEL) for v in (min(y0, y1), max(y0, y1)))
        y = x[first:last, None]  # the rows that the edge crosses
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)  # a cross product
        inside[first:last] ^= (side > 0) if y1 > y0 else (side < 0)
    return inside


def pad(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask within an empty border; np.pad takes several times as long for small arrays."""
    height, length = mask.shape
    padded = np.zeros((height + 2 * width, length + 2 * width), dtype=bool)
    padded[width : width + height, width : width + length] = mask
    return padded


def stroke_of(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask within ``width`` pixels of one outside it, as a mask."""
    height, length = mask.shape
    padded = pad(mask, width)
    core = mask.copy()
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            if dx * dx + dy * dy < width * width + 1:
                top, left = width + dy, width + dx
                core &= padded[top : top + height, left : left + length]
    return mask & ~core


def trace(mask: np.ndarray) -> list[list[int]]:
    """Polygons along the pixel edges of a mask; pycocotools gives back exactly its pixels.

    A corner has an odd number of the four pixels around it in the mask; where just two pixels that
    touch diagonally are, there are two corners, one for each. Along every row, and along every
    column, an edge joins the first corner with the second, the third with the fourth and so on; a
    polygon alternates between both kinds of edge.

    Returns:
        polygons ``[x0, y0, x1, y1, ...]`` in pixels, one for each part of the mask (pixels joined
        by their sides) and one for each hole.
    """
    p = pad(mask, 1)
    top_left, top_right, low_left, low_right = p[:-1, :-1], p[:-1, 1:], p[1:, :-1], p[1:, 1:]
    touching = (top_left == low_right) & (top_right == low_left) & (top_left != top_right)
    corners = (top_left ^ top_right ^ low_left ^ low_right) + 2 * touching
    y, x = np.nonzero(corners)  # sorted by rows
    copies = corners[y, x]
    y, x = np.repeat(y, copies), np.repeat(x, copies)
    # The first of two corners ends the edge from the left. It ends the edge from above as well if
    # it belongs to the pixel at the top left, and begins the one downwards otherwise.
    order = np.where(top_right[y, x], -1, 1) * np.arange(len(x))
    by_columns = np.lexsort((order, y, x))
    rank = np.empty_like(by_columns)
    rank[by_columns] = np.arange(len(rank))
    above_or_below = by_columns[rank ^ 1]
    todo = set(range(len(x)))
    polygons = []
    while todo:
        corner = start = min(todo)
        polygon: list[int] = []
        while not polygon or corner != start:
            across = corner ^ 1
            polygon += [int(x[corner]), int(y[corner]), int(x[across]), int(y[across])]
            todo -= {corner, across}
            corner = int(above_or_below[across])
        polygons.append(polygon)
    return polygons


def polygon_area(polygon: list[int]) -> int:
    """The area in pixels that a polygon of ``trace`` surrounds."""
    x, y = polygon[0::2], polygon[1::2]
    return abs(sum(x[k] * y[k - 1] - x[k - 1] * y[k] for k in range(len(x)))) // 2


def tag_patch(size: int, colour: tuple[int, int, int], centre: str) -> np.ndarray:
    """A tag ``(size, size, 3)``: a square of a colour with a "black" or a "white" centre."""
    patch = np.empty((size, size, 3), dtype=np.int16)
    patch[:] = colour
    border = 3 * size // 10
    patch[border : size - border, border : size - border] = {"black": 0, "white": 255}[centre]
    return patch


def beacon_patch(size: int, pattern: str) -> np.ndarray:
    """A beacon ``(size, size, 3)``: black and white stripes, level for "a", upright for "b"."""
    stripes = (np.arange(size) * 5 // size % 2 * 255).astype(np.int16)
    patch = np.broadcast_to(stripes[:, None], (size, size))
    if pattern == "b":
        patch = patch.T
    return np.repeat(patch[:, :, None], 3, axis=2)


def texture(rng: np.random.RandomState, side: int, noise: int) -> np.ndarray:
    """A dim background, int16 ``(side, side, 3)``, with soft spots of up to ``noise`` levels."""
    cell = 8  # size of a spot in pixels
    cells = side // cell + 2
    tint = rng.randint(80, 131, dtype=np.int16) + rng.randint(-12, 13, size=3, dtype=np.int16)
    knots = rng.randint(-noise, noise + 1, size=(cells, cells, 3), dtype=np.int16)
    low, part = np.divmod(np.arange(side, dtype=np.int16), np.int16(cell))
    rows, columns = part[:, None, None], part[None, :, None]
    upright = knots[low] * (cell - rows) + knots[low + 1] * rows  # (side, cells, 3)
    spots = upright[:, low] * (cell - columns) + upright[:, low + 1] * columns  # (side, side, 3)
    return tint + (spots >> 6)  # cell * cell is 64
