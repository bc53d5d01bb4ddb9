"""Pictures of maps."""

import numpy as np

from dnl_det.evaluation.maps import draw_maps


def test_maps_lie_over_the_image_side_by_side():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    first, second = np.zeros((2, 40, 60))
    first[10:20, 20:40] = 1e-6
    first[30:, :] = 5e-7
    picture = draw_maps(image, [first, second])
    assert picture.shape == (40, 120, 3)
    assert picture.dtype == np.uint8
    brightness = picture.astype(int).sum(2)
    assert brightness[15, 30] > brightness[35, 30] > brightness[5, 30]
    assert brightness[5, 30] == brightness[15, 90] == brightness[35, 90]  # all of weight 0
    red, _, blue = picture[15, 30]
    assert red > blue  # yellow, in RGB


def test_the_point_is_marked_in_the_first_map_alone():
    image = np.zeros((200, 800, 3), dtype=np.uint8)
    maps = [np.zeros((200, 800))] * 2
    plain, marked = draw_maps(image, maps), draw_maps(image, maps, (400.0, 100.0))
    assert plain.shape == (80, 640, 3)  # 320 pixels wide each
    rows, columns = (plain != marked).any(2).nonzero()
    assert abs(rows.mean() - 40) < 1
    assert abs(columns.mean() - 160) < 1
    assert columns.max() < 170
