"""Blocks of timm in a backbone: what timm computes, and what cannot be used."""

import inspect
import re

import pytest
import torch
from detectron2.layers import ShapeSpec

from dnl_det.__main__ import main
from dnl_det.engine import Trainer, load_config
from dnl_det.modeling import TIMM_BLOCKS, build_block, build_dnl_resnet_backbone
from dnl_det.modeling.timm_blocks import _REFUSED

create_attn = pytest.importorskip("timm.layers").create_attn


def test_every_block_of_timms_factory_is_known():
    factory = inspect.getsource(pytest.importorskip("timm.layers.create_attn").get_attn)
    assert set(re.findall(r"attn_type == '(\w+)'", factory)) == {*TIMM_BLOCKS, *_REFUSED}


@pytest.mark.parametrize("name", TIMM_BLOCKS)
def test_a_backbone_computes_what_timm_does(name, root):
    keys = ["MODEL.DNL.BLOCK", f"timm/{name}", "MODEL.RESNETS.NORM", "BN"]
    cfg = load_config(str(root / "configs/Shapes/disentangled.yaml"), keys)
    cfg.MODEL.DNL.RES3, cfg.MODEL.DNL.RES4 = [], [-1]
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    torch.manual_seed(0)
    resnet = build_dnl_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    block = resnet.res4[-1]
    alone = create_attn(name, block.out_channels).eval()
    alone.load_state_dict(block.attention.state_dict())
    seen = []  # cloned: what follows changes it in place
    block.attention.register_forward_hook(lambda _, x, y: seen.extend((x[0].clone(), y.clone())))
    for size in ((64, 96), (70, 33)):
        x = torch.randn(2, 3, *size)
        out = resnet(x)["res4"]
        *_, features, attended = seen
        assert attended.shape == features.shape
        assert torch.equal(attended, alone(features))
        assert torch.equal(out, attended.relu())
    resnet.train()(x)["res4"].square().sum().backward()
    gradients = [p.grad for n, p in resnet.named_parameters() if n.startswith("res4.5.attention.")]
    assert gradients
    assert all(gradient is not None for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_those_refused_do_not_fit():
    for name, side in (("halo", 8), ("bat", 7)):
        block = create_attn(name, 64)
        assert block(torch.randn(1, 64, side, 2 * side)).shape == (1, 64, side, 2 * side)
        with pytest.raises(AssertionError):
            block(torch.randn(1, 64, side, 2 * side + 1))
    with pytest.raises(AssertionError):
        create_attn("bottleneck", 64)
    with pytest.raises(TypeError):
        create_attn("ge", 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "timm/halo",
            r"BLOCK: 'timm/halo' \(it takes feature maps .* of 8 alone\) is not one",
        ),
        ("timm/nothing", r"MODEL.DNL.BLOCK: 'timm/nothing' is not one of timm/se, ese, "),
        ("timm", "MODEL.DNL.BLOCK: 'timm' is not one of none, nl, "),
    ],
)
def test_a_block_that_cannot_be_used_is_named(root, name, message):
    with pytest.raises(ValueError, match=message):
        load_config(str(root / "configs/Shapes/disentangled.yaml"), ["MODEL.DNL.BLOCK", name])


def test_without_timm_it_says_what_to_install(root, monkeypatch, capsys):
    monkeypatch.setattr("dnl_det.modeling.timm_blocks.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"BLOCK: 'timm/eca' needs the package timm: pip install"):
        load_config(str(root / "configs/Shapes/disentangled.yaml"), ["MODEL.DNL.BLOCK", "timm/eca"])
    monkeypatch.setattr("dnl_det.cli.blocks.find_spec", lambda _: None)
    assert main(["blocks", "--channels", "64"]) == 0
    printed = capsys.readouterr().out
    assert "| timm/" not in printed
    assert "With timm installed (pip install timm) also: se, ese, " in printed


def test_the_list_says_what_a_block_does_at_its_start(capsys):
    assert main(["blocks", "--channels", "64"]) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
    assert {f"timm/{name}" for name in TIMM_BLOCKS} < rows.keys()
    assert rows["gc"][2] == "0.00"
    assert rows["timm/eca"][0] == "3"
    # A gate of a half.
    assert rows["timm/eca"][2] == "0.50"
    torch.manual_seed(0)
    x = torch.randn(2, 64, 20, 20)
    with torch.no_grad():
        gated = build_block("timm/eca", 64).eval()(x)
    assert (gated - x).abs().mean() / x.abs().mean() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(SystemExit, match="--channels: 100 must be a multiple of 64"):
        main(["blocks", "--channels", "100"])


def test_a_detector_with_one_trains(root, shapes, tiny, tmp_path):
    keys = ["MODEL.DNL.BLOCK", "timm/cbam", "SOLVER.MAX_ITER", "2", "MODEL.DEVICE", "cpu"]
    keys += ["OUTPUT_DIR", str(tmp_path), *tiny]
    trainer = Trainer(load_config(str(root / "configs/Shapes/disentangled.yaml"), keys))
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if ".attention." in n}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert before
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    assert trainer._last_eval_results["bbox"]["AP"] >= 0
