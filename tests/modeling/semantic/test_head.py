"""The head against mmsegmentation's, and with every block."""

from functools import partial

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from dnl_det.layers import BLOCKS
from dnl_det.modeling.semantic import DNLSemSegHead
from dnl_det.modeling.semantic.loss import SemSegLoss

RENAMED = {
    "convs.0.conv": "conv1",
    "convs.0.bn": "conv1.norm",
    "convs.1.conv": "conv2",
    "convs.1.bn": "conv2.norm",
    "conv_cat.conv": "conv_cat",
    "conv_cat.bn": "conv_cat.norm",
    "conv_seg": "predictor",
    "dnl_block.theta.conv": "attention.conv_query",
    "dnl_block.phi.conv": "attention.conv_key",
    "dnl_block.g.conv": "attention.conv_value",
    "dnl_block.conv_out.conv": "attention.conv_out",
    "dnl_block.conv_out.bn": "attention.out_norm",
    "dnl_block.conv_mask": "attention.conv_mask",
}
DNL = {
    **{"reduction": 2, "use_out": True, "use_gamma": False, "out_norm": nn.BatchNorm2d},
    "temperature": float(np.float32(0.05)),
}
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def build_head(channels=16, **options):
    shapes = {"res5": ShapeSpec(channels=channels, stride=8)}
    arguments = {"in_features": ["res5"], "num_classes": 5, "channels": 8, "norm": "BN"}
    return DNLSemSegHead(shapes, **{**arguments, "loss": SemSegLoss(), "dropout": 0.0, **options})


@pytest.mark.parametrize("name", ["dnl_head", "dnl_head_train", "fcn_head", "aux_head"])
def test_it_is_mmsegmentation_s(shared, name):
    data = np.load(shared / "official_segmentation/blocks" / f"mmseg_{name}.npz")
    data = {key: torch.from_numpy(value) for key, value in data.items()}
    block = {"block": "dnl", "block_arguments": DNL} if "dnl" in name else {"block": "none"}
    renamed = RENAMED
    head = build_head(**block).double()
    part, call = head, lambda x: head.predict({"res5": x})
    if name == "aux_head":
        auxiliary = {"aux_in_feature": "res5", "aux_channels": 8, "aux_loss_weight": 0.4}
        head = build_head(**block, **auxiliary).double()
        part = call = head.aux
        renamed = {**RENAMED, "convs.0.conv": "conv", "convs.0.bn": "conv.norm"}

    def ours(key):
        module, leaf = key.split("/")[1].rsplit(".", 1)
        return f"{renamed[module]}.{leaf}"

    state = {ours(k): v for k, v in data.items() if k.split("/")[0] in ("param", "buffer")}
    missing, unexpected = part.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    part.train(name.endswith("train"))

    x = data["x"].requires_grad_()
    y = call(x)
    y.backward(data["grad_out"])
    close(y, data["y"])
    close(x.grad, data["grad_x"])
    parameters, buffers = dict(part.named_parameters()), dict(part.named_buffers())
    recorded = [key for key in data if key.startswith("grad/")]
    assert {ours(key) for key in recorded} == set(parameters)
    for key in recorded:
        close(parameters[ours(key)].grad, data[key])
    for key in data:
        if key.startswith("buffer_after/"):
            close(buffers[ours(key)], data[key])


@pytest.mark.parametrize("block", ["none", *BLOCKS])
def test_every_block_trains_in_it(block):
    head = build_head(block=block, aux_in_feature="res5", aux_loss_weight=0.4)
    x, labels = torch.randn(2, 16, 6, 8), torch.zeros(2, 48, 64, dtype=torch.int64)
    logits, losses = head({"res5": x}, labels)
    assert logits is None
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    logits, losses = head.eval()({"res5": x})
    assert logits.shape == (2, 5, 48, 64)
    assert losses == {}


def test_several_features_are_joined_at_the_size_of_the_first():
    shapes = {"p3": ShapeSpec(channels=4, stride=8), "p4": ShapeSpec(channels=6, stride=16)}
    head = DNLSemSegHead(
        shapes, in_features=["p3", "p4"], num_classes=3, channels=8, loss=SemSegLoss()
    ).eval()
    p3, p4 = torch.randn(1, 4, 6, 8), torch.ones(1, 6, 3, 4)
    joined = torch.cat([p3, torch.ones(1, 6, 6, 8)], dim=1)
    torch.testing.assert_close(
        head.predict({"p3": p3, "p4": p4}),
        head.predictor(head.conv_cat(torch.cat([joined, _middle(head, joined)], dim=1))),
    )
    assert head({"p3": p3, "p4": p4})[0].shape == (1, 3, 48, 64)


def _middle(head, x):
    return head.conv2(head.attention(head.conv1(x)))


def test_dropout_leaves_out_whole_channels_in_training_alone():
    head = build_head(dropout=0.5)
    seen = []
    head.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head.predict({"res5": torch.randn(4, 16, 6, 8)})
    empty = (seen[0] == 0).flatten(2).all(dim=2)
    assert 0 < empty.sum() < empty.numel()
    head.eval().predict({"res5": torch.randn(4, 16, 6, 8)})
    assert not (seen[1] == 0).flatten(2).all(dim=2).all(dim=1).any()
