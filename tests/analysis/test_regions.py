"""Categories and boundaries at positions, against a loop over pixels."""

import numpy as np
import pytest
from pycocotools import mask as mask_util

from dnl_det.analysis import Frame, Grid
from dnl_det.analysis.statistics.regions import BACKGROUND, IGNORED, category_map, regions_at


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(segmentation, category, **more):
    return {"segmentation": segmentation, "category_id": category, "iscrowd": 0, **more}


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_polygons_and_both_kinds_of_rle():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2:7] = True
    counts = [
        len(run) for run in np.split(mask.T.ravel(), np.diff(mask.T.ravel()).nonzero()[0] + 1)
    ]
    kinds = [rectangle(2, 1, 7, 4), rle(mask), {"size": [6, 8], "counts": counts}]
    for segmentation in kinds:
        labels = category_map([instance(segmentation, 4)], 6, 8)
        assert np.array_equal(labels, np.where(mask, 5, BACKGROUND))


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_instance_lies_on_top_and_any_on_a_crowd(order):
    large, small = rectangle(0, 0, 8, 6), rectangle(2, 2, 4, 4)
    labels = category_map([instance(large, 0), instance(small, 1)][::order], 6, 8)
    assert (labels == 2).sum() == 4
    assert (labels == 1).sum() == 44
    crowd = instance(rle(np.ones((6, 8))), 0, iscrowd=1)
    labels = category_map([instance(small, 1), crowd][::order], 6, 8)
    assert (labels == 2).sum() == 4
    assert (labels == IGNORED).sum() == 44


def test_without_masks_there_is_no_map():
    assert category_map([], 4, 4) is None
    assert category_map([{"category_id": 0, "bbox": [0, 0, 2, 2]}], 4, 4) is None
    assert category_map([instance(rle(np.ones((4, 4))), 0, iscrowd=1)], 4, 4) is None
    assert category_map([instance(rectangle(0, 0, 2, 2), 0), {"category_id": 0}], 4, 4) is None


@pytest.mark.parametrize("band", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1.0, 0.6, 3.7])
def test_cells_have_the_pixels_that_they_touch(scale, band):
    """Against a loop over positions and pixels, of an image shrunk, as it is, and enlarged."""
    generator = np.random.default_rng(0)
    height, width = 30, 41
    coarse = generator.integers(-1, 3, size=(6, 9))
    labels = np.kron(coarse, np.ones((5, 5), dtype=np.int64))[:height, :width]
    frame = Frame(round(height * scale), round(width * scale), height, width)
    grid = Grid(frame.height // 4 + 3, frame.width // 4 + 2, (4.0, 4.0))  # beyond the image
    found = regions_at(labels, grid, frame, band)

    by, bx = frame.height / height, frame.width / width
    for index, (x, y) in enumerate(grid.centres().tolist()):
        if x >= frame.width or y >= frame.height:
            assert found.categories[index] == IGNORED
            assert not found.boundary[index]
            continue
        row, column = int(y / by), int(x / bx)
        assert found.categories[index] == labels[row, column]
        seen = {labels[row, column]}
        for r in range(height):
            for c in range(width):
                across = c * bx < x + 2 * band and (c + 1) * bx > x - 2 * band
                if across and r * by < y + 2 * band and (r + 1) * by > y - 2 * band:
                    seen.add(labels[r, c])
        assert found.boundary[index] == (len(seen - {IGNORED}) > 1)


def test_the_boundary_of_a_rectangle():
    labels = category_map([instance(rectangle(10, 10, 22, 30), 0)], 40, 40)
    grid = Grid(10, 10, (4.0, 4.0))  # position k at 4 k + 0.5, its cell from 4 k - 1.5 to 4 k + 2.5
    found = regions_at(labels, grid, Frame(40, 40, 40, 40))
    boundary = found.boundary.reshape(10, 10)
    assert found.categories.reshape(10, 10)[5].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    # Columns 10 to 21 are inside: cell 2 touches 6 to 10, cell 3 10 to 14, cell 5 18 to 22.
    assert boundary[5].tolist() == [c in (2, 5) for c in range(10)]
    assert boundary[:, 4].tolist() == [r in (2, 7) for r in range(10)]
    wide = regions_at(labels, grid, Frame(40, 40, 40, 40), band=2.0).boundary.reshape(10, 10)
    assert wide[5].tolist() == [c in (2, 3, 5, 6) for c in range(10)]
    with pytest.raises(ValueError, match="band=0: must be above 0"):
        regions_at(labels, grid, Frame(40, 40, 40, 40), band=0)
