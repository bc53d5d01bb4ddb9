"""Pasted masks against a loop over pixels."""

import numpy as np
import pytest
import torch

from dnl_det.mmdet1.masks import paste_masks


def bilinear(grid, w, h):
    """The value at each of w x h pixel centres, edges repeated."""
    size = len(grid)
    ys = np.clip((np.arange(h) + 0.5) * size / h - 0.5, 0, size - 1)
    xs = np.clip((np.arange(w) + 0.5) * size / w - 0.5, 0, size - 1)
    y0, x0 = np.minimum(ys.astype(int), size - 2), np.minimum(xs.astype(int), size - 2)
    fy, fx = (ys - y0)[:, None], (xs - x0)[None]
    upper = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
    lower = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize(
    "box",
    [
        (3.9, 5.1, 40.7, 33.2),
        (0.0, 0.0, 49.0, 39.0),  # the whole image
        (10.2, 10.9, 10.4, 10.95),  # one pixel
        (20.0, 20.0, 15.0, 15.0),  # inside out: one pixel at least
        (-6.5, -3.2, 20.0, 12.0),  # beyond the corners
        (40.0, 30.0, 70.0, 60.0),
        (80.0, 80.0, 90.0, 90.0),  # outside
    ],
)
def test_a_mask_is_its_box_resized(box):
    h, w = 40, 50
    smooth = torch.rand(1, 1, 7, 7, generator=torch.manual_seed(0))
    grid = torch.nn.functional.interpolate(smooth, size=28, mode="bicubic")[0]
    mask = paste_masks(grid, torch.tensor([box]), h, w)[0].numpy()

    x1, y1, x2, y2 = (int(value) for value in box)
    values = bilinear(grid[0].double().numpy(), max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1))
    for y in range(h):
        for x in range(w):
            inside = 0 <= y - y1 < values.shape[0] and 0 <= x - x1 < values.shape[1]
            value = values[y - y1, x - x1] if inside else 0.0
            if abs(value - 0.5) > 1e-4:
                assert mask[y, x] == (value > 0.5), (x, y, value)


def test_no_masks_have_the_image_s_shape():
    masks = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 6, 8)
    assert masks.shape == (0, 6, 8)
    assert masks.dtype == torch.bool
