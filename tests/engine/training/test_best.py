"""The best checkpoint and early stopping: in trainings whose evaluations have given numbers."""

import logging
import math

import pytest
import torch

from dnl_det.engine import Trainer, load_config
from dnl_det.engine.training.best import BestCheckpoint

CONFIG = "configs/Shapes/sem_seg_none.yaml"
METRIC = ("TEST.BEST_METRIC", "sem_seg/mIoU", "TEST.EVAL_PERIOD", 1)


@pytest.fixture
def train(root, shapes, tmp_path, monkeypatch):
    """Train with given numbers as the evaluations' results, one after each iteration."""

    def run(values, *keys, resume=False, iterations=None):
        given = iter(values)
        evaluate = classmethod(lambda *_: {"sem_seg": {"mIoU": next(given)}})
        monkeypatch.setattr(Trainer, "test", evaluate)
        cfg = load_config(
            str(root / CONFIG),
            [
                *("MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "SEED", 1),
                *("SOLVER.MAX_ITER", iterations or len(values), "SOLVER.IMS_PER_BATCH", 2),
                *("DATALOADER.NUM_WORKERS", 0, "SOLVER.CHECKPOINT_PERIOD", 1),
                *("MODEL.DNL.MONITOR_TIMES", 0, *METRIC, *keys),
            ],
        )
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer

    return run


def best(folder):
    return torch.load(folder / "model_best.pth", weights_only=True)


def test_the_weights_of_the_largest_value_are_kept(train, tmp_path):
    train([10.0, 30.0, math.nan, 20.0])
    kept = best(tmp_path)
    assert (kept["iteration"], kept["metric"], kept["value"]) == (1, "sem_seg/mIoU", 30.0)
    then = torch.load(tmp_path / "model_0000001.pth", weights_only=True)["model"]
    assert all(torch.equal(value, then[name]) for name, value in kept["model"].items())
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_the_last_evaluation_may_be_the_best(train, tmp_path):
    train([10.0, 30.0, 31.0])
    assert best(tmp_path)["iteration"] == 2


def test_a_training_ends_after_evaluations_that_are_not_better(train, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="dnl_det")
    trainer = train([5.0, 9.0, 9.0, 8.0, 50.0, 60.0], "SOLVER.EARLY_STOPPING_PATIENCE", 2)
    assert trainer.iter == 3
    assert not (tmp_path / "model_final.pth").exists()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    assert best(tmp_path)["value"] == 9
    assert "ends after iteration 3: 2 evaluations had no better sem_seg/mIoU than 9.0000" in (
        caplog.text
    )


def test_a_resumed_training_knows_its_best(train, tmp_path):
    keys = ("SOLVER.EARLY_STOPPING_PATIENCE", 3)
    train([5.0, 40.0, 6.0], *keys)
    trainer = train([7.0, 8.0, 50.0], *keys, resume=True, iterations=6)
    assert trainer.iter == 4  # evaluations after iterations 2, 3 and 4
    assert best(tmp_path)["value"] == 40
    (tmp_path / "model_best.pth").write_bytes(b"PK broken")
    train([9.0, 8.0], resume=True, iterations=7)
    assert best(tmp_path)["value"] == 9


def test_an_unknown_number_is_named_with_what_is_near(train, tmp_path, caplog):
    train([1.0, 2.0], "TEST.BEST_METRIC", "sem_seg/IoU")
    assert "'sem_seg/IoU' is not among the results of the evaluation; near it are sem_seg/mIoU" in (
        caplog.text
    )
    assert not (tmp_path / "model_best.pth").exists()


def test_patience_needs_a_number_and_a_period(train):
    with pytest.raises(ValueError, match="PATIENCE: 2 needs TEST.EVAL_PERIOD, which is 0: set"):
        train([1.0], "SOLVER.EARLY_STOPPING_PATIENCE", 2, "TEST.EVAL_PERIOD", 0)
    with pytest.raises(ValueError, match="PATIENCE: 2 needs TEST.BEST_METRIC, which is '': set"):
        train([1.0], "SOLVER.EARLY_STOPPING_PATIENCE", 2, "TEST.BEST_METRIC", "")


def test_without_a_metric_there_is_no_hook(train):
    trainer = train([1.0], "TEST.BEST_METRIC", "")
    assert not any(isinstance(hook, BestCheckpoint) for hook in trainer._hooks)
