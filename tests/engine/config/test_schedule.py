"""How long a training is: in epochs, in iterations of one's own file, on other processes."""

import logging
import re

import pytest
from torch import nn

from dnl_det.engine import Trainer, argument_parser, load_config, setup
from dnl_det.engine.config.solver import check_schedule
from dnl_det.engine.training.length import with_epochs

PAPER = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"
SHAPES = "configs/Shapes/disentangled.yaml"


@pytest.mark.parametrize(
    ("processes", "epochs", "images", "expected"),
    [
        # batch, MAX_ITER, STEPS after 8 and 11 of 12 epochs, WARMUP_ITERS, CHECKPOINT_PERIOD
        (8, 12, 117280, (16, 87960, (58640, 80630), 500, 7330)),
        (1, 12, 800, (2, 4800, (3200, 4400), 480, 480)),
        (1, 3, 8, (2, 12, (8, 11), 1, 2)),
        (8, 1, 5, (16, 1, (), 0, 1)),
        (1, 100, 4000, (2, 200000, (133333, 183333), 4000, 58640)),
    ],
)
def test_epochs_set_length_steps_and_warm_up(root, processes, epochs, images, expected):
    cfg = load_config(str(root / PAPER), ["SOLVER.EPOCHS", epochs])
    solver = with_epochs(Trainer.auto_scale_workers(cfg, processes), images).SOLVER
    found = (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS)
    assert (*found, solver.CHECKPOINT_PERIOD) == expected


@pytest.mark.parametrize(
    "kind", ["WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"]
)
@pytest.mark.parametrize("images", [1, 3, 7, 50])
def test_a_rate_for_each_of_the_iterations(root, kind, images):
    keys = ["SOLVER.EPOCHS", 1, "SOLVER.LR_SCHEDULER_NAME", kind]
    cfg = with_epochs(load_config(str(root / PAPER), keys), images)
    optimizer = Trainer.build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    for iteration in range(cfg.SOLVER.MAX_ITER):
        scheduler.last_epoch = iteration
        assert 0 < scheduler.get_lr()[0] <= cfg.SOLVER.BASE_LR


def reference(root, tmp_path, content, *given):
    file = tmp_path / "mine.yaml"
    file.write_text(f"_BASE_: {root / PAPER}\n{content}")
    cfg = load_config(str(file))
    check_schedule(cfg, str(file), given)
    return cfg.SOLVER.REFERENCE_WORLD_SIZE


@pytest.mark.parametrize(
    ("content", "given", "expected"),
    [
        ("SEED: 1", [], 8),
        ("SOLVER: {IMS_PER_BATCH: 2}", [], 0),
        ("SOLVER: {BASE_LR: 0.001, MAX_ITER: 10}", [], 0),
        ("SOLVER: {IMS_PER_BATCH: 4, REFERENCE_WORLD_SIZE: 4}", [], 4),
        ("SOLVER: {IMS_PER_BATCH: 4}", ["SOLVER.REFERENCE_WORLD_SIZE"], 8),
        ("SOLVER: {EPOCHS: 3}", [], 8),
        ("SEED: 1", ["SOLVER.BASE_LR"], 0),
    ],
)
def test_a_schedule_in_one_s_own_file_means_itself(root, tmp_path, content, given, expected):
    if given == ["SOLVER.REFERENCE_WORLD_SIZE"]:
        content = content.replace("4}", "8}")
    assert reference(root, tmp_path, content, *given) == expected


@pytest.mark.parametrize("name", ["COCO-InstanceSegmentation", "COCO-Detection", "COCO-Panoptic*"])
def test_this_project_s_own_schedules_are_scaled(root, name):
    files = sorted((root / "configs").glob(f"{name}/*.yaml"))
    assert files
    for file in files:
        cfg = load_config(str(file))
        check_schedule(cfg, str(file), [])
        assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8, file


def test_a_batch_that_cannot_be_scaled_is_named(root, tmp_path):
    content = "SOLVER: {IMS_PER_BATCH: 12, REFERENCE_WORLD_SIZE: 8}"
    message = "SOLVER.IMS_PER_BATCH: 12 must be a multiple of SOLVER.REFERENCE_WORLD_SIZE, 8"
    with pytest.raises(ValueError, match=message):
        reference(root, tmp_path, content)


def test_two_lengths_are_one_too_many(root, tmp_path):
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER: SOLVER.EPOCHS 3 sets the length"):
        reference(root, tmp_path, "SOLVER: {EPOCHS: 3}", "SOLVER.MAX_ITER")


@pytest.mark.parametrize("epochs", ["-1", "1.5", "many"])
def test_epochs_are_a_whole_number(root, epochs):
    with pytest.raises(ValueError, match=f"SOLVER.EPOCHS: '?{epochs}'? must be a whole number"):
        load_config(str(root / PAPER), ["SOLVER.EPOCHS", epochs])


@pytest.fixture
def own_data(root, shapes, tiny, tmp_path, monkeypatch, caplog):
    """Trains on 12 images of one's own, two a batch."""

    def train(*options, keys=()):
        data = ["--train-json", str(shapes / "annotations/instances_train.json")]
        data += ["--train-images", str(shapes / "train"), "--config-file", str(root / SHAPES)]
        keys = [*tiny, "INPUT.MIN_SIZE_TRAIN", "(64,)", "OUTPUT_DIR", str(tmp_path), *keys]
        del keys[keys.index("SOLVER.STEPS") : keys.index("SOLVER.STEPS") + 2]
        args = argument_parser().parse_args([*data, *options, *keys])
        caplog.clear()
        trainer = Trainer(setup(args))
        trainer.resume_or_load(args.resume)
        monkeypatch.setattr(logging.getLogger("dnl_det"), "propagate", True)
        with caplog.at_level("INFO", logger="dnl_det"):
            trainer.train()
        return trainer, caplog.text

    return train


def test_epochs_of_one_s_own_data_and_more_of_them(own_data, tmp_path):
    trainer, said = own_data("--epochs", "1")
    assert trainer.iter == trainer.max_iter == 6
    assert "epochs" not in said
    assert load_config(str(tmp_path / "config.yaml")).SOLVER.EPOCHS == 1
    trainer, said = own_data("--epochs", "2", "--resume")
    assert (trainer.start_iter, trainer.iter) == (6, 12)
    with pytest.raises(ValueError, match="12 iterations are done: raise SOLVER.EPOCHS"):
        own_data("--epochs", "1", "--resume")


def test_iterations_of_one_s_own_data_are_told_in_epochs_and_time(own_data):
    _, said = own_data(keys=("SOLVER.MAX_ITER", "7"))
    assert "7 iterations of 2 images are 1.2 epochs of your 12 images. --epochs 12" in said
    assert re.search(r"An iteration takes [\d.]+ s: the training ends in about 0:00:\d\d\.", said)
