"""Positions of a feature map in the image, against the network's own gradients."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from hypothesis import given
from hypothesis import strategies as st

import dnl_det
from dnl_det.analysis import Frame, Grid
from dnl_det.modeling import build_dnl_resnet_backbone


def _resnet(stride_in_1x1):
    cfg = get_cfg()
    dnl_det.add_dnl_config(cfg)
    cfg.MODEL.DNL.BLOCK = "none"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = stride_in_1x1
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = ""
    torch.manual_seed(0)
    return build_dnl_resnet_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize(("stage", "stride"), [("res3", 8), ("res4", 16), ("res5", 32)])
@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_a_position_is_the_centre_of_its_receptive_field(stage, stride, stride_in_1x1):
    resnet = _resnet(stride_in_1x1)
    # The receptive field of res5 is 466 pixels wide: only in a large image is it whole.
    image = torch.randn(1, 3, 736, 800, requires_grad=True)
    features = resnet(image)[stage]
    row, column = features.shape[2] // 2, features.shape[3] // 2
    (gradient,) = torch.autograd.grad(features[0, :, row, column].sum(), image)
    seen = gradient[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    # The strided convolutions of the shortcuts and kernels see a field that is symmetric.
    centre = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2

    grid = Grid(*features.shape[2:], stride=(stride, stride))
    expected = grid.centres()[row * grid.width + column]
    assert torch.equal(torch.stack(centre), expected)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    stride=st.sampled_from([4, 8, 16, 32]),
    pooled=st.booleans(),
)
def test_nearest_of_a_centre_is_its_position(height, width, stride, pooled):
    grid = Grid(height, width, (stride, stride))
    grid = grid.pooled() if pooled else grid
    centres = grid.centres()
    assert torch.equal(grid.nearest(centres), torch.arange(grid.height * grid.width))
    # Anywhere within half a stride.
    near = centres + (torch.rand_like(centres) - 0.5) * 0.98 * stride
    assert torch.equal(grid.nearest(near), torch.arange(grid.height * grid.width))


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_pooled_grid_lies_at_the_mean_of_what_was_pooled(height, width):
    grid = Grid(height, width, (8, 8))
    planes = grid.centres().T.reshape(2, 1, height, width)
    # Max-pooling keeps sizes; averaging over the same windows gives their centres.
    means = torch.nn.functional.avg_pool2d(planes, (min(2, height), min(2, width)))
    pooled = grid.pooled()
    assert (pooled.height, pooled.width) == means.shape[2:]
    assert torch.equal(pooled.centres(), means.flatten(1).T)


def test_points_beyond_the_image_go_to_the_border():
    grid = Grid(3, 4, (16, 16))
    points = torch.tensor([[-50.0, -50.0], [1000.0, 20.0]])
    assert grid.nearest(points).tolist() == [0, 7]


def test_padding_is_not_inside():
    # 40 x 70 pixels in a batch padded to 64 x 96: positions at pixels 0, 16, 32, 48, ...
    grid = Grid(4, 6, (16, 16))
    inside = grid.inside(Frame(40, 70, 40, 70)).reshape(4, 6)
    assert inside.any(1).tolist() == [True, True, True, False]
    assert inside.any(0).tolist() == [True, True, True, True, True, False]


def test_frames_scale_both_sides_on_their_own():
    frame = Frame(height=100, width=300, original_height=50, original_width=200)
    points = torch.tensor([[20.0, 10.0], [0.0, 0.0]])
    assert frame.to_network(points).tolist() == [[30.0, 20.0], [0.0, 0.0]]
    assert torch.equal(frame.to_original(frame.to_network(points)), points)


def test_whole_pixels_are_points_too():
    frame, grid = Frame(50, 75, 100, 100), Grid(4, 5, (16, 16))
    points = torch.tensor([[10, 20], [60, 98]])
    assert torch.equal(frame.to_network(points), frame.to_network(points.float()))
    assert torch.equal(grid.nearest(points), grid.nearest(points.float()))


def test_to_image_reproduces_a_plane_and_keeps_the_border():
    grid = Grid(5, 7, (8, 8))
    frame = Frame(height=40, width=56, original_height=60, original_width=112)
    x, y = grid.centres().double().unbind(1)
    image = grid.to_image(torch.stack([2 * x + 3 * y, torch.ones_like(x)]), frame)
    assert image.shape == (2, 60, 112)
    ys, xs = torch.meshgrid(torch.arange(60.0), torch.arange(112.0), indexing="ij")
    xs = ((xs + 0.5) * 56 / 112).clamp(0.5, 6 * 8 + 0.5)
    ys = ((ys + 0.5) * 40 / 60).clamp(0.5, 4 * 8 + 0.5)
    torch.testing.assert_close(image[0], (2 * xs + 3 * ys).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(image[1], torch.ones(60, 112).double())


def test_to_image_of_a_single_position_is_constant():
    image = Grid(1, 1, (32, 32)).to_image(torch.tensor([0.25]), Frame(20, 30, 10, 15))
    assert torch.equal(image, torch.full((10, 15), 0.25))
