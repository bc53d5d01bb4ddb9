"""``dnl_det.model_zoo``: configs and models by name, with the meaning of detectron2's functions."""

import inspect

import pytest
import torch
from detectron2 import model_zoo as detectron2_zoo

from dnl_det import model_zoo
from dnl_det.engine import load_config

NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"
SHAPES = "Shapes/disentangled.yaml"


def test_its_functions_are_called_as_detectron2_s():
    assert sorted(model_zoo.__all__) == sorted(detectron2_zoo.__all__)
    for name in model_zoo.__all__:
        mine = inspect.signature(getattr(model_zoo, name)).parameters.values()
        theirs = inspect.signature(getattr(detectron2_zoo, name)).parameters.values()
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in theirs]


def test_every_config_has_a_name(root):
    files = list((root / "configs").rglob("*.yaml"))
    assert len(files) > 30
    for file in files:
        name = file.relative_to(root / "configs").as_posix()
        assert model_zoo.get_config_file(name) == str(file)


def test_python_configs_have_names_too(root):
    """But not what they share, which is no config."""
    name = SHAPES.replace(".yaml", ".py")
    assert model_zoo.get_config_file(name) == str(root / "configs" / name)
    assert model_zoo.get_config(name).train.max_iter == model_zoo.get_config(SHAPES).SOLVER.MAX_ITER
    shapes = [
        {key: value.shape for key, value in model_zoo.get(each, device="cpu").state_dict().items()}
        for each in (name, SHAPES)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(RuntimeError, match="has no config 'common/attention.py'"):
        model_zoo.get_config_file("common/attention.py")


def test_a_config_is_that_of_its_file_and_can_be_changed(root):
    cfg = model_zoo.get_config(NAME)
    assert cfg == load_config(str(root / "configs" / NAME))
    assert not cfg.is_frozen()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Shapes/disentagled.yaml", SHAPES),
        (NAME.removesuffix(".yaml"), NAME),
        (NAME.split("/")[1], NAME),
        ("configs/" + SHAPES, SHAPES),
        ("../configs/" + SHAPES, SHAPES),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    for function in (model_zoo.get_config_file, model_zoo.get, model_zoo.get_checkpoint_url):
        with pytest.raises(RuntimeError) as error:
            function(name)
        unknown, near = str(error.value).split("; the nearest are ")
        assert unknown.endswith(f"has no config {name!r}")
        assert nearest in near.split(", ")
        assert len(near.split(", ")) == 3


def test_a_model_has_the_weights_of_its_config(tmp_path, monkeypatch):
    model = model_zoo.get(SHAPES, device="cpu")
    assert model.training
    assert model.device == torch.device("cpu")
    state = {key: value + 1 for key, value in model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "model.pth")

    cfg = model_zoo.get_config(SHAPES)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    monkeypatch.setattr(model_zoo, "get_config", lambda *_: cfg)
    loaded = model_zoo.get(SHAPES)
    assert loaded.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert all(torch.equal(value.cpu(), state[k]) for k, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    "function",
    [
        model_zoo.get_checkpoint_url,
        lambda name: model_zoo.get_config(name, trained=True),
        lambda name: model_zoo.get(name, trained=True),
    ],
)
def test_trained_weights_are_the_authors_to_fetch_and_convert(root, function):
    with pytest.raises(RuntimeError) as error:
        function(NAME)
    for part in (
        f"no trained weights for {NAME}",
        "https://github.com/Howal/DNL-Object-Detection",
        "python -m dnl_det convert DOWNLOADED model.pth",
        f"python -m dnl_det train --config-file {root / 'configs' / NAME}",
    ):
        assert part in str(error.value)
