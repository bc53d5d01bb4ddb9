"""What a training resumed with other keys does: they take effect, or are named and refused."""

import logging
import shutil

import pytest
import torch

from dnl_det.engine import Trainer, load_config

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture(scope="module")
def resumed(root, data_root, tmp_path_factory):
    """A trainer that resumes a training of two iterations with more keys."""
    folder = tmp_path_factory.mktemp("resumed")
    usual = [
        *("OUTPUT_DIR", str(folder), "MODEL.DEVICE", "cpu", "DATASETS.TEST", "()"),
        *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
        *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "SOLVER.IMS_PER_BATCH", "1"),
        *("SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", "0", "SOLVER.MAX_ITER", "2"),
        *("SOLVER.MOMENTUM", "0.5", "SOLVER.BASE_LR", "0.004"),
        *("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"),
    ]

    def resume(*keys):
        trainer = Trainer(load_config(str(root / CONFIG), [*usual, *keys]))
        trainer.resume_or_load(resume=True)
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        from dnl_det.data import register_shapes

        patch.setenv("DETECTRON2_DATASETS", str(data_root))
        register_shapes(data_root)
        first = resume()
        first.train()
        resume.first = first
        yield resume


def test_the_learning_rate_and_momentum_take_effect(resumed, tmp_path, caplog):
    shutil.copytree(resumed.first.cfg.OUTPUT_DIR, tmp_path, dirs_exist_ok=True)
    keys = ("OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "4", "SOLVER.WARMUP_ITERS", "0")
    with caplog.at_level(logging.WARNING, logger="dnl_det"):
        trainer = resumed(*keys, "SOLVER.BASE_LR", "0.001", "SOLVER.MOMENTUM", "0.7")
    assert "SOLVER.BASE_LR was 0.004, and is 0.001 from here" in caplog.text
    assert "SOLVER.MOMENTUM was 0.5, and is 0.7 from here" in caplog.text
    used = []
    optimizer = trainer._trainer.optimizer
    optimizer.register_step_pre_hook(
        lambda *_: used.append({(g["lr"], g["momentum"]) for g in optimizer.param_groups})
    )
    trainer.train()
    assert used == [{(0.001, 0.7)}, {(0.001, 0.7)}]


def test_unchanged_keys_change_nothing_and_are_not_mentioned(resumed, caplog):
    with caplog.at_level(logging.WARNING, logger="dnl_det"):
        trainer = resumed("SOLVER.MAX_ITER", "2")
    assert "all 2 iterations are done" in caplog.text
    assert "from here" not in caplog.text
    ours, theirs = (t._trainer.optimizer.state_dict() for t in (trainer, resumed.first))
    assert ours["param_groups"] == theirs["param_groups"]
    for index, values in theirs["state"].items():
        assert torch.equal(ours["state"][index]["momentum_buffer"], values["momentum_buffer"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("SOLVER.OPTIMIZER", "AdamW"), r"SOLVER.OPTIMIZER is AdamW.* trained with SGD"),
        (("MODEL.BACKBONE.FREEZE_AT", "3"), r"FREEZE_AT 3 .*and \d+ did in the checkpoint"),
        (("SOLVER.WEIGHT_DECAY_BIAS", "0.5"), r"WEIGHT_DECAY_BIAS \(.*0.5\) group the parameters"),
        (("SOLVER.MAX_ITER", "1"), r"SOLVER.MAX_ITER is 1, and 2 iterations are done"),
        (
            ("MODEL.ROI_HEADS.NUM_CLASSES", "4"),
            r"cls_score.weight is \(11, 32\) there and \(5, 32\) in the model",
        ),
    ],
)
def test_what_cannot_take_effect_is_named(resumed, keys, message):
    with pytest.raises(ValueError, match=message):
        resumed(*keys)


def test_an_empty_folder_is_said_to_be_a_new_start(resumed, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="dnl_det"):
        trainer = resumed("OUTPUT_DIR", str(tmp_path))
    assert trainer.start_iter == 0
    assert f"there is no checkpoint in OUTPUT_DIR {tmp_path}" in caplog.text
