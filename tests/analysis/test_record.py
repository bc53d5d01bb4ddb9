"""Recording attention: what is recorded is what the block attends with, and nothing changes."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from dnl_det.analysis import Frame, Grid, record_attention
from dnl_det.engine import load_config
from dnl_det.layers import build_attention
from dnl_det.modeling import DNLSemSegHead
from dnl_det.modeling.semantic.loss import SemSegLoss

CONFIG = Path(__file__).resolve().parents[2] / "configs/Shapes/disentangled.yaml"
RES3, RES4 = "backbone.bottom_up.res3.0.attention", "backbone.bottom_up.res4.1.attention"


def _detector(block="dnl", **keys):
    small = ["MODEL.RESNETS.DEPTH", "18", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.MASK_ON", "False"]
    small += ["MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.DEVICE", "cpu"]
    small += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    cfg = load_config(str(CONFIG), small)
    cfg.MODEL.DNL.BLOCK = block
    cfg.MODEL.DNL.RES3, cfg.MODEL.DNL.RES4 = [0], [-1]
    for key, value in keys.items():
        cfg.MODEL.DNL[key] = value
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if ".attention." in name:  # far from its start, where most blocks are an identity
            torch.nn.init.normal_(parameter, std=0.05)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # features of about 1, as in a trained one
            module.momentum = 1.0
    with torch.no_grad():
        model.backbone(70 * torch.randn(2, 3, 96, 96))  # pixels less their mean
    return model.eval()


@pytest.fixture(scope="module")
def detector():
    return _detector()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 96), (80, 70)]
    images = [torch.randint(0, 256, (3, *s), generator=generator).to(torch.uint8) for s in sizes]
    return [{"image": images[0], "height": 128, "width": 192}, {"image": images[1]}]


def test_results_stay_the_same(detector, batch):
    with torch.no_grad():
        without = detector(batch)
        with record_attention(detector) as record:
            within = detector(batch)
    assert list(record) == [RES3, RES4]
    for a, b in zip(without, within, strict=True):
        assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)
        assert torch.equal(a["instances"].scores, b["instances"].scores)
    assert not any(m._forward_pre_hooks for m in detector.modules())


def test_frames_and_grids_follow_the_batch(detector, batch):
    with torch.no_grad(), record_attention(detector) as record:
        detector(batch)
    assert record.frames == [Frame(64, 96, 128, 192), Frame(80, 70, 80, 70)]
    # Padded to 96 x 96, a multiple of 32.
    assert [(b.stride, b.grid.height, b.grid.width) for b in record.values()] == [
        (8, 12, 12),
        (16, 6, 6),
    ]
    assert record[RES4].grid.inside(record.frames[0]).sum() == 4 * 6


def test_chosen_queries_are_rows_of_the_whole_map(detector, batch):
    with torch.no_grad(), record_attention(detector) as record:
        detector(batch)
    block = record[RES4]
    for image in range(2):
        whole = block.block.attention_maps(block.input[image : image + 1])
        some = block.attention(image, [0, 17, 35])
        torch.testing.assert_close(some.pairwise, whole.pairwise[0, [0, 17, 35]])
        torch.testing.assert_close(some.unary, whole.unary[0])
        torch.testing.assert_close(some.combined.sum(1), (block.block.gamma + 1).expand(3))
        torch.testing.assert_close(block.attention(image).pairwise, whole.pairwise[0])


@torch.no_grad()
@pytest.mark.parametrize(
    ("block", "keys"),
    [
        ("dnl", {}),
        ("dnl", {"MODE": "joint"}),
        ("dnl", {"MODE": "unary"}),
        ("dnl", {"MODE": "add_shared", "DOWNSAMPLE": True}),
        ("nl", {}),
        ("nl", {"NL_KERNEL": "dot_product"}),
        ("dnl", {"NL_KERNEL": "dot_product"}),
        ("snl", {}),
        ("gc", {}),
    ],
)
def test_every_block_combines_to_what_it_weights_its_values_with(block, keys, batch):
    model = _detector(block, **keys)
    with record_attention(model) as record:
        model(batch)
    found = record[RES4]
    x = found.input[1:]
    attention = found.attention(1)
    assert attention.combined.shape == (36, found.key_positions)
    keys_grid = found.key_grid
    assert keys_grid.height * keys_grid.width == found.key_positions
    output = found.block(x)
    assert torch.equal(found.output(1), output[0])
    if block in ("snl", "gc"):
        assert attention.pairwise is None
        return
    inner = getattr(found.block, "conv_value", None) or found.block.g
    source = torch.nn.functional.max_pool2d(x, 2) if keys.get("DOWNSAMPLE") else x
    context = attention.combined @ inner(source)[0].flatten(1).T
    context = context.T.reshape(1, -1, *x.shape[2:])
    if getattr(found.block, "conv_out", None) is not None:
        context = found.block.conv_out(context)
    torch.testing.assert_close(x + context, output, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_output_computed_again_is_not_recorded(detector, batch):
    with record_attention(detector) as record:
        detector(batch)
        kept = record[RES4].input
        record[RES4].output(1)
        assert record[RES4].input is kept


def test_a_large_map_has_to_be_asked_for(detector, batch):
    with torch.no_grad(), record_attention(detector) as record:
        detector(batch)
    with pytest.raises(ValueError, match=r"144 queries x 144 keys.* over the budget of 1000"):
        record[RES3].attention(0, budget=1000)
    assert record[RES3].attention(0, [5], budget=1000).pairwise.shape == (1, 144)


def test_what_is_not_there_is_named(detector, batch):
    with torch.no_grad(), record_attention(detector) as record:
        detector(batch)
    with pytest.raises(IndexError, match="must be between 0 and 35"):
        record[RES4].attention(0, [36])
    with pytest.raises(IndexError, match="image 2 of .*: the recorded batch has 2"):
        record[RES4].attention(2, [0])
    with (
        pytest.raises(ValueError, match="no attention block"),
        record_attention(torch.nn.Linear(1, 1)),
    ):
        pass


def test_a_record_does_not_outlive_its_weights(batch):
    model = _detector()
    with torch.no_grad(), record_attention(model) as record:
        model(batch)
    optimizer = torch.optim.SGD(record[RES4].block.parameters(), lr=0.1)
    record[RES4].block(record[RES4].input).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="weights of .* were changed since"):
        record[RES4].attention(0, [0])


def test_the_block_of_a_head_has_the_heads_stride():
    features = {"res4": ShapeSpec(channels=8, stride=16), "res5": ShapeSpec(channels=8, stride=32)}
    head = DNLSemSegHead(
        features, in_features=["res4", "res5"], num_classes=3, channels=8, loss=SemSegLoss()
    ).eval()
    inputs = {"res4": torch.rand(1, 8, 6, 9), "res5": torch.rand(1, 8, 3, 5)}
    for model, name in ((head, ""), (torch.nn.ModuleDict({"head": head}), "head.")):
        with record_attention(model) as record:
            head(inputs)
        assert record[f"{name}attention"].grid == Grid(6, 9, (16, 16))


def test_a_block_outside_of_a_resnet_needs_its_stride():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), build_attention("dnl", 8))
    image = torch.randn(2, 3, 16, 24)
    with torch.no_grad(), record_attention(model) as record:
        model(image)
    assert record.frames == [Frame(16, 24, 16, 24)] * 2
    with pytest.raises(ValueError, match="strides="):
        _ = record["1"].grid
    with torch.no_grad(), record_attention(model, strides={"1": 4}) as record:
        model(image)
    assert record["1"].grid.centres()[-1].tolist() == [20.5, 12.5]


@pytest.mark.parametrize("position", ["before_relu", "after_relu", "before_add"])
def test_the_input_is_a_copy_that_nothing_writes_into(position, batch):
    model = _detector(POSITION=position)
    with torch.no_grad(), record_attention(model) as record:
        seen = []
        handle = record_hook(model, seen)
        model(batch)
        handle.remove()
    assert torch.equal(record[RES4].input, seen[0])


def record_hook(model, seen):
    block = model.get_submodule(RES4)
    return block.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))


def test_recomputed_stages_and_half_precision_are_recorded_too(batch):
    model = _detector(CHECKPOINT=["res4"]).train()
    model.proposal_generator.training = model.roi_heads.training = False
    with (
        record_attention(model) as record,
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        features = model.backbone(model.preprocess_image(batch).tensor)
    features["p4"].float().sum().backward()
    assert record[RES4].input.dtype == torch.bfloat16
    weights = record[RES4].attention(1, [3]).pairwise
    torch.testing.assert_close(weights.sum(1), torch.ones(1))
