"""The figure as in the paper: rows, columns, and what the panels show."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dnl_det.analysis import record_attention
from dnl_det.analysis.page import AttentionFigure, default_points

from .pages import DNL, TwoBlocks, detections, picture

POINTS = [(60.0, 70.0), (150.0, 40.0), (3.0, 3.0)]


def record_of(block, gamma=0.5):
    model = TwoBlocks((block, DNL), gamma).eval()
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    with torch.no_grad(), record_attention(model, {"layers.1": 4, "layers.3": 8}) as record:
        model([{"image": image}])
    return record


def figure_of(record, images=1):
    figure = AttentionFigure("res4.4")
    for _ in range(images):
        figure.add(picture(), record["layers.1"], record.frames[0], POINTS)
    return figure.draw()


@pytest.mark.parametrize(
    ("block", "columns"),
    [
        ({}, ["joint", "pairwise", "unary"]),
        ({"mode": "add_shared"}, ["joint", "pairwise", "unary"]),
        ({"mode": "joint"}, ["joint"]),
        ({"mode": "pairwise"}, ["pairwise"]),
        ({"mode": "unary"}, ["unary"]),
        ({"name": "nl"}, ["joint"]),
        ({"name": "gc"}, ["unary"]),
    ],
)
def test_columns_are_the_terms_that_there_are(block, columns):
    drawn = figure_of(record_of(DNL | block), images=2)
    titles = [axis.get_title() for axis in drawn.axes if axis.get_title()]
    assert titles == ["res4.4", *columns]
    assert len(drawn.axes) == 2 * len(POINTS) * (1 + len(columns))


def test_a_panel_shows_its_querys_attention_over_the_picture():
    record = record_of(DNL)
    block, frame = record["layers.1"], record.frames[0]
    drawn = figure_of(record)
    for row, (x, y) in enumerate(POINTS):
        query = block.grid.nearest(torch.tensor([[x, y]]))
        attention = block.attention(0, query)
        expected = [attention.combined[0], attention.pairwise[0], attention.unary]
        for axis, weights in zip(drawn.axes[4 * row + 1 : 4 * row + 4], expected, strict=True):
            shown = axis.images[1].get_array()
            at_pixels = block.key_grid.to_image(weights, frame).numpy()
            np.testing.assert_allclose(shown, at_pixels, rtol=1e-5)
            assert axis.images[1].get_clim() == pytest.approx((0, at_pixels.max()))
            assert axis.lines[0].get_xydata().tolist() == [[x, y]]
        np.testing.assert_array_equal(drawn.axes[4 * row].images[0].get_array(), picture())


def test_negative_weights_are_of_another_kind_in_the_whole_column():
    drawn = figure_of(record_of(DNL, gamma=-0.5))
    joint = [drawn.axes[4 * row + 1].images[1] for row in range(3)]
    assert any(panel.get_array().min() < 0 for panel in joint)
    assert {panel.get_cmap().name for panel in joint} == {"RdBu_r"}
    for panel in joint:
        low, high = panel.get_clim()
        assert low == -high
        assert high == pytest.approx(np.abs(panel.get_array()).max())


def test_panels_have_the_pictures_proportions_and_the_png_is_for_print():
    figure = AttentionFigure("res4.4")
    record = record_of(DNL)
    figure.add(picture(), record["layers.1"], record.frames[0], POINTS)
    drawn = figure.draw()
    for axis in drawn.axes:
        box = axis.get_window_extent()
        assert box.height / box.width == pytest.approx(120 / 200, rel=0.01)
    image = Image.open(io.BytesIO(figure.png()))
    assert image.format == "PNG"
    assert image.width == pytest.approx(4 * 2.1 * 200, rel=0.05)  # 200 dots an inch


def test_default_points_are_the_best_detections():
    found = detections()
    assert default_points(found, (120, 200)) == [(60, 70), (150, 40)]
    found.scores = torch.tensor([0.1, 0.2])
    assert default_points(found, (120, 200)) == [(150, 40), (60, 70)]
    assert default_points(found[:0], (120, 200)) == default_points(None, (120, 200)) == [(100, 60)]
