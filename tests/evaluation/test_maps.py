"""Pictures of maps."""

import numpy as np

from dnl_det.evaluation.maps import draw_maps


def test_maps_lie_over_the_image_side_by_side():
    image = np.full((160, 256, 3), 100, dtype=np.uint8)
    first, second = np.zeros((2, 160, 256))
    first[40:80, 80:160] = 1e-6
    first[120:, :] = 5e-7
    picture = draw_maps(image, [first, second])
    assert picture.shape == (160, 512, 3)
    assert picture.dtype == np.uint8
    brightness = picture.astype(int).sum(2)
    assert brightness[60, 120] > brightness[140, 120] > brightness[20, 120]
    assert brightness[20, 120] == brightness[60, 376] == brightness[140, 376]  # all of weight 0
    red, _, blue = picture[60, 120]
    assert red > blue  # yellow, in RGB


def test_the_point_is_marked_in_the_first_map_alone():
    image = np.zeros((200, 800, 3), dtype=np.uint8)
    maps = [np.zeros((200, 800))] * 2
    plain, marked = draw_maps(image, maps), draw_maps(image, maps, (400.0, 100.0))
    assert plain.shape == (64, 512, 3)  # 256 pixels wide each
    rows, columns = (plain != marked).any(2).nonzero()
    assert abs(rows.mean() - 32) < 1
    assert abs(columns.mean() - 128) < 1
    assert columns.max() < 138


def test_small_images_are_enlarged():
    picture = draw_maps(np.zeros((30, 60, 3), dtype=np.uint8), [np.ones((30, 60))], (59.0, 29.0))
    assert picture.shape == (128, 256, 3)
