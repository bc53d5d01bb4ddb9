"""From the command line to a checked config."""

import logging

import pytest
import torch
from detectron2.utils import comm

from dnl_det.engine import (
    argument_parser,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    fall_back_to_cpu,
    load_config,
    setup,
)

PAPER = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"


@pytest.fixture
def arguments(root, tmp_path, monkeypatch):
    """Arguments of the paper's config; its data set is said to be there with all its images."""
    sizes = {"coco_2017_train": 118287, "coco_2017_val": 5000}
    monkeypatch.setattr("dnl_det.engine.config.command_line.prepare_data", lambda *_: sizes)
    monkeypatch.setattr(comm, "get_world_size", lambda: 8)

    def parse(*command_line):
        output = ["OUTPUT_DIR", str(tmp_path)]
        options = [word for word in command_line if word.startswith("--")]
        keys = [word for word in command_line if not word.startswith("--")]
        config = ["--config-file", str(root / PAPER)]
        return sizes, argument_parser().parse_args([*config, *options, *output, *keys])

    return parse


def test_without_a_gpu_the_device_is_the_cpu(root, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = load_config(str(root / PAPER))
    assert cfg.MODEL.DEVICE == "cuda"
    with caplog.at_level(logging.INFO, logger="dnl_det"):
        fall_back_to_cpu(cfg)
    assert cfg.MODEL.DEVICE == "cpu"
    assert "MODEL.DEVICE: cpu, since there is no CUDA device" in caplog.text

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = load_config(str(root / PAPER))
    fall_back_to_cpu(cfg)
    assert cfg.MODEL.DEVICE == "cuda"


def test_the_config_s_own_run_is_verified(arguments):
    cfg = setup(arguments("MODEL.WEIGHTS", "x.pth", "SEED", "1")[1])
    assert cfg.TEST.EXPECTED_RESULTS == [["bbox", "AP", 41.2, 0.3], ["segm", "AP", 37.2, 0.3]]
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8
    assert cfg.is_frozen()


@pytest.mark.parametrize("key", ["SOLVER.MAX_ITER", "INPUT.MIN_SIZE_TEST", "SOLVER.IMS_PER_BATCH"])
def test_another_run_is_not_verified(arguments, key):
    assert setup(arguments(key, "10")[1]).TEST.EXPECTED_RESULTS == []


def test_a_part_of_the_data_is_not_verified(arguments):
    sizes, args = arguments("--eval-only")
    sizes["coco_2017_val"] = 80
    assert setup(args).TEST.EXPECTED_RESULTS == []


@pytest.mark.parametrize(("flags", "verified"), [((), False), (("--eval-only",), True)])
def test_on_another_number_of_processes_only_evaluation_is_verified(
    arguments, monkeypatch, flags, verified
):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    assert bool(setup(arguments(*flags)[1]).TEST.EXPECTED_RESULTS) is verified


@pytest.mark.parametrize(
    ("checkpoint", "verified"),
    [
        ({}, False),
        ({"iteration": 0}, False),
        ({"iteration": 87958}, False),
        ({"iteration": 87959}, True),
        ({"converted": {"from": "authors.pth"}}, True),
    ],
)
def test_only_trained_weights_are_verified(arguments, checkpoint, verified):
    cfg = setup(arguments()[1])
    kept = drop_expectations_unless_trained(cfg, checkpoint).TEST.EXPECTED_RESULTS
    assert bool(kept) is verified


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("SOLVER.MAX_ITER", 0),
        ("SOLVER.IMS_PER_BATCH", 0),
        ("SEED", 8),
        ("SOLVER.REFERENCE_WORLD_SIZE", 16),
    ],
)
def test_a_schedule_that_was_typed_is_not_rescaled(arguments, key, reference):
    world_size = setup(arguments(key, "16")[1]).SOLVER.REFERENCE_WORLD_SIZE
    assert world_size == reference


@pytest.mark.parametrize(
    ("file", "overrides", "error", "message"),
    [
        ("", [], ValueError, "--config-file is missing"),
        (PAPER, ["SEED"], ValueError, r"must be pairs KEY VALUE, and \['SEED'\]"),
        (PAPER, ["MODEL.DNL.MOOD", "joint"], ValueError, "MODEL.DNL.MOOD"),
        ("configs/gone.yaml", [], ValueError, "gone.yaml.*does not exist"),
        (PAPER, ["MODEL.DNL.MODE", "mixed"], ValueError, "MODEL.DNL.MODE: 'mixed' is not one of"),
    ],
)
def test_bad_command_lines_are_named(root, file, overrides, error, message):
    with pytest.raises(error, match=message):
        load_config(str(root / file) if file else "", overrides)


def test_bad_input_ends_the_program_with_its_message_alone():
    with (
        pytest.raises(SystemExit, match=r"^error: Non-existent config key: X$"),
        exit_on_bad_input(),
    ):
        raise KeyError("Non-existent config key: X")
    with pytest.raises(ZeroDivisionError), exit_on_bad_input():
        1 / 0  # noqa: B018


def test_another_number_of_channels_is_an_error_before_the_start(root):
    four = ["MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0, 4.0]"]
    with pytest.raises(ValueError, match="MODEL.PIXEL_MEAN: .* must have 3 numbers"):
        load_config(str(root / PAPER), four)
