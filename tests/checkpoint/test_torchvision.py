"""torchvision's ResNets, converted: the features that torchvision computes."""

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer, UnknownLayoutError, convert

from .test_checkpointer import Detector


def torchvision_file(tmp_path, name, **change):
    torch.manual_seed(0)
    resnet = getattr(torchvision.models, name)(weights=None).eval()
    for module in resnet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    file = tmp_path / f"{name}.pth"
    torch.save({**resnet.state_dict(), **change}, file)
    return resnet, file


@pytest.mark.parametrize("kind", [Checkpointer, DetectionCheckpointer])
@pytest.mark.parametrize(("name", "depth"), [("resnet18", 18), ("resnet50", 50)])
def test_a_resnet_computes_what_torchvision_computes(tmp_path, name, depth, kind, capsys):
    resnet, file = torchvision_file(tmp_path, name)
    out = tmp_path / "out.pth"
    assert main(["convert", str(file), str(out)]) == 0
    report = capsys.readouterr().out
    assert f"torchvision's ResNet, depth {depth}" in report
    assert "fc.weight, fc.bias: ImageNet's classifier" in report

    detector = Detector(depth=depth, attention=False, full_width=True)
    kind(detector).load(str(out))
    ours = detector.backbone.bottom_up.eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        y = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x))))
        features = ours(x)
        for stage in range(1, 5):
            y = getattr(resnet, f"layer{stage}")(y)
            torch.testing.assert_close(features[f"res{stage + 1}"], y, rtol=1e-4, atol=1e-4)


def test_a_resnet_of_unknown_depth_names_what_is_too_much(tmp_path):
    _, file = torchvision_file(tmp_path, "resnet18", **{"layer4.2.conv1.weight": torch.ones(1)})
    with pytest.raises(UnknownLayoutError, match=r"without a place there: layer4.2.conv1.weight"):
        convert(file)


def test_output_is_never_replaced_unasked(tmp_path, capsys):
    _, file = torchvision_file(tmp_path, "resnet18")
    out = tmp_path / "out.pth"
    out.write_text("precious")
    with pytest.raises(SystemExit, match=r"OUT: .*out.pth is there already: .*--overwrite"):
        main(["convert", str(file), str(out)])
    assert out.read_text() == "precious"
    assert main(["convert", str(file), str(out), "--overwrite"]) == 0
    assert set(torch.load(out, weights_only=True)) >= {"model", "matching_heuristics"}
    with pytest.raises(SystemExit, match=r"OUT: .* must end with .pth"):
        main(["convert", str(file), str(tmp_path / "out.bin")])
    with pytest.raises(SystemExit, match=r"OUT: there is no folder"):
        main(["convert", str(file), str(tmp_path / "gone" / "out.pth")])
    with pytest.raises(SystemExit, match=r"there is no file .*gone.pth"):
        main(["convert", str(tmp_path / "gone.pth"), str(tmp_path / "new.pth")])
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.pth", "resnet18.pth"]
