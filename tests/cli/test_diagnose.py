"""``python -m dnl_det diagnose``: its numbers, its files, and what it refuses."""

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from dnl_det.__main__ import main
from dnl_det.analysis import BackboneAlone, Diagnosis, record_attention
from dnl_det.checkpoint import Checkpointer
from dnl_det.engine import load_config
from dnl_det.layers import build_attention

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture
def model(root, shapes, tiny):
    """Untrained, with attention that is far from uniform."""
    torch.manual_seed(0)
    cfg = load_config(str(root / CONFIG), tiny)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    for name, parameter in model.named_parameters():
        if ".attention." in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.fixture
def weights(model, tmp_path):
    Checkpointer(model, str(tmp_path)).save("model")
    return tmp_path / "model.pth"


def diagnose(root, weights, tiny, output, *options, keys=()):
    words = ["--config-file", str(root / CONFIG), "--weights", str(weights)]
    main(["diagnose", *words, "--output", str(output), *options, "--opts", *tiny, *keys])
    return json.loads((output / "diagnose.json").read_text())


@pytest.mark.usefixtures("device")
def test_numbers_are_means_over_the_images(root, shapes, model, weights, tiny, tmp_path, capsys):
    output = tmp_path / "out"
    found = diagnose(root, weights, tiny, output)
    assert {file.name for file in output.iterdir()} == {"diagnose.json", "diagnose.png"}
    assert Image.open(output / "diagnose.png").width > 1000
    assert (found["dataset"], found["images"], found["images_with_regions"]) == ("shapes_val", 6, 6)
    assert list(found["blocks"]) == [f"backbone.bottom_up.res{k}.attention" for k in ("3.3", "4.5")]
    assert not any(v is None for block in found["blocks"].values() for v in block.values())

    attention = model.backbone.bottom_up.res4[5].attention
    seen, entropies = [], []
    attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for file in sorted((shapes / "val").iterdir()):
        image = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
        with torch.no_grad():
            model([{"image": image}])
            unary = attention.attention_maps(seen[-1]).unary[0].double().numpy()
        entropies.append(-(unary * np.log(unary)).sum() / np.log(64))
    mean = found["blocks"]["backbone.bottom_up.res4.5.attention"]["unary_entropy"]
    assert mean["images"] == 6
    assert mean["value"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert mean["low"] < mean["value"] < mean["high"]
    gamma = found["blocks"]["backbone.bottom_up.res4.5.attention"]["gamma"]["value"]
    assert gamma == pytest.approx(attention.gamma.item())

    table = capsys.readouterr().out
    assert f"{mean['value']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]" in table
    assert "res3.3" in table
    assert "leave out" not in table


@torch.no_grad()
def test_what_a_block_has_not_is_a_dash(root, shapes, tiny, tmp_path, capsys):
    torch.manual_seed(0)
    keys = ["MODEL.DNL.BLOCK", "gc", "MODEL.DNL.RES3", "[]", "MODEL.DEVICE", "cpu"]
    model = build_model(load_config(str(root / CONFIG), [*tiny, *keys]))
    torch.nn.init.normal_(model.backbone.bottom_up.res4[5].attention.channel_add_conv[-1].weight)
    Checkpointer(model, str(tmp_path)).save("gc")
    one = ("--images", "1")
    found = diagnose(root, tmp_path / "gc.pth", tiny, tmp_path / "out", *one, keys=keys)
    ((name, block),) = found["blocks"].items()
    assert name == "backbone.bottom_up.res4.5.attention"
    assert block["pairwise_category"] is block["gamma"] is None
    assert block["context_distance"]["value"] == pytest.approx(0, abs=1e-6)
    assert block["unary_boundary"]["low"] is None  # of one image
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["pairwise", "category", "-"] in lines
    assert ["unary", "boundary", f"{block['unary_boundary']['value']:.3f}"] in lines


def test_own_data_some_without_masks(root, shapes, weights, tiny, tmp_path, capsys):
    content = json.loads((shapes / "annotations/instances_val.json").read_text())
    first, second = (image["id"] for image in content["images"][:2])
    for annotation in content["annotations"]:
        if annotation["image_id"] == first:
            del annotation["segmentation"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != second]
    file = tmp_path / "own.json"
    file.write_text(json.dumps(content))
    keys = ["DATASETS.VAL_JSON", str(file), "DATASETS.VAL_IMAGES", str(shapes / "val")]
    own = diagnose(root, weights, tiny, tmp_path / "own", keys=keys)
    assert (own["dataset"], own["images"], own["images_with_regions"]) == ("own_val", 6, 4)
    assert "leave out 2 of them" in capsys.readouterr().out
    whole = diagnose(root, weights, tiny, tmp_path / "whole")
    for name, block in whole["blocks"].items():
        assert own["blocks"][name]["pairwise_divergence"] == block["pairwise_divergence"]
        assert own["blocks"][name]["unary_boundary"]["images"] == 4


def test_without_annotations_all_but_the_correlations(root, shapes, weights, tiny, tmp_path):
    content = json.loads((shapes / "annotations/instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "own.json").write_text(json.dumps(content))
    keys = ["DATASETS.VAL_JSON", str(tmp_path / "own.json")]
    keys += ["DATASETS.VAL_IMAGES", str(shapes / "val")]
    own = diagnose(root, weights, tiny, tmp_path / "own", keys=keys)
    assert (own["images"], own["images_with_regions"]) == (6, 0)
    whole = diagnose(root, weights, tiny, tmp_path / "whole")
    for name, block in whole["blocks"].items():
        for key, mean in block.items():
            correlation = key.endswith(("category", "boundary"))
            assert own["blocks"][name][key] == (None if correlation else mean)


def test_options_choose_images_and_queries(root, shapes, weights, tiny, tmp_path):
    name = "backbone.bottom_up.res3.3.attention"
    few = ["--images", "2", "--queries", "10", "--dataset", "shapes_train"]
    found = diagnose(root, weights, tiny, tmp_path / "few", *few)
    assert (found["dataset"], found["images"]) == ("shapes_train", 2)
    assert found["blocks"][name]["pairwise_entropy"]["images"] == 2
    again = diagnose(root, weights, tiny, tmp_path / "again", *few)
    assert again == found
    other = diagnose(root, weights, tiny, tmp_path / "other", *few, "--seed", "7")
    assert other["blocks"][name]["pairwise_entropy"] != found["blocks"][name]["pairwise_entropy"]
    assert other["blocks"][name]["unary_entropy"] == found["blocks"][name]["unary_entropy"]
    wide = diagnose(root, weights, tiny, tmp_path / "wide", *few, "--band", "3")
    assert wide["blocks"][name]["unary_boundary"] != found["blocks"][name]["unary_boundary"]
    assert wide["blocks"][name]["unary_category"] == found["blocks"][name]["unary_category"]


@pytest.mark.parametrize(
    ("options", "keys", "message"),
    [
        (["--images", "0"], [], "--images: 0 must be at least 1"),
        (["--queries", "1"], [], "--queries: 1 must be at least 2"),
        (["--band", "0"], [], "--band: 0.0 must be above 0"),
        (["--dataset", "shapes_vall"], [], "no data set 'shapes_vall'; near it are shapes_val"),
        ([], ["DATASETS.TEST", "()"], "--dataset is missing: the config's DATASETS.TEST is empty"),
        ([], ["MODEL.DNL.BLOCK", "none"], "the model has no attention block"),
    ],
)
def test_bad_input_is_named_and_nothing_written(
    root, weights, tiny, tmp_path, options, keys, message
):
    with pytest.raises(SystemExit, match=message):
        diagnose(root, weights, tiny, tmp_path / "out", *options, keys=keys)
    assert not (tmp_path / "out").exists()


def test_the_heads_are_left_out_only_where_they_have_no_attention(model):
    image = torch.randint(0, 256, (3, 128, 96), dtype=torch.uint8)
    alone = BackboneAlone.of(model)
    with torch.no_grad(), record_attention(model) as whole:
        model([{"image": image, "height": 64}])
    with torch.no_grad(), record_attention(alone) as part:
        alone([{"image": image, "height": 64}])
    assert list(part) == list(whole)
    assert part.frames == whole.frames
    for name in whole:
        assert torch.equal(part[name].input, whole[name].input)
    model.roi_heads.attention = build_attention("dnl", 16)
    assert BackboneAlone.of(model) is model


def test_the_images_of_a_batch_count_one_by_one(model):
    images = [torch.randint(0, 256, (3, 128, 96), dtype=torch.uint8) for _ in range(2)]
    together, one_by_one = Diagnosis(), Diagnosis()
    # In float64, since a batch of two is rounded otherwise than two of one.
    alone = BackboneAlone.of(copy.deepcopy(model).double())
    with torch.no_grad(), record_attention(alone) as record:
        alone([{"image": image} for image in images])
        together.add(record, [None, None])
        for image in images:
            alone([{"image": image}])
            one_by_one.add(record, [None])
    assert (together.images, together.images_with_regions) == (2, 0)
    for name, quantities in one_by_one.means().items():
        for key, mean in quantities.items():
            other = together.means()[name][key]
            if mean is None:
                assert other is None
            else:
                assert other.value == pytest.approx(mean.value, rel=1e-6, abs=1e-9)
