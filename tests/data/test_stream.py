"""The order of a training's data where a run goes on as another: with what is told of it."""

import itertools
import logging

import pytest

from dnl_det.data import TrainingStream
from dnl_det.engine import load_config

CONFIG = "configs/Shapes/disentangled.yaml"


@pytest.fixture
def stream(root, shapes):
    """A stream of a seed and a batch size, without workers."""

    def make(seed, batch):
        cfg = load_config(
            str(root / CONFIG),
            ["SEED", seed, "SOLVER.IMS_PER_BATCH", batch, "DATALOADER.NUM_WORKERS", 0],
        )
        return TrainingStream(cfg)

    return make


@pytest.fixture
def resume(stream, caplog):
    """A stream that goes on at an iteration as another, of seed 3 and batches of 2, has begun."""

    def make(state, iteration, seed=3, batch=2):
        again = stream(seed, batch)
        with caplog.at_level(logging.WARNING, logger="dnl_det"):
            again.load_state_dict(state, iteration)
        return again

    return make


def images(stream, batches, iteration=0):
    """Ids of the images of some batches, and the sums of their pixels."""
    stream.start(iteration)
    found = itertools.islice(stream, batches)
    return [(sample["image_id"], int(sample["image"].sum())) for batch in found for sample in batch]


def test_the_same_run_goes_on_with_the_batch_that_was_next(stream, resume, caplog):
    first = stream(3, 2)
    whole = images(first, 6)
    assert images(resume(first.state_dict(), 4), 2, 4) == whole[8:]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_another_batch_size_goes_on_after_the_samples_that_were_seen(stream, resume, caplog):
    first = stream(3, 2)
    whole = images(first, 7)
    again = resume(first.state_dict(), 3, batch=4)
    assert images(again, 2, 3) == whole[6:14]
    assert "(SOLVER.IMS_PER_BATCH 2 -> 4): the data go on after 6 samples" in caplog.text
    # And once more, from a checkpoint of the second run.
    assert images(resume(again.state_dict(), 4), 2, 4) == whole[10:14]


@pytest.mark.parametrize(("given", "warned"), [(7, True), (-1, False)])
def test_the_run_s_own_seed_stays(stream, resume, caplog, given, warned):
    first = stream(3, 2)
    whole = images(first, 3)
    assert images(resume(first.state_dict(), 1, seed=given), 2, 1) == whole[2:]
    assert ("SEED: 7 is not used: the run began with seed 3" in caplog.text) is warned


def test_a_checkpoint_without_the_data_s_place_begins_anew_and_says_so(stream, resume, caplog):
    whole = images(stream(3, 2), 2)
    assert images(resume(None, 5), 2, 5) == whole
    assert "has no seed and place in the data: the data's order begins anew" in caplog.text


def test_records_without_a_size_are_one_group(root, shapes):
    """As detectron2 loads folders of images and labels."""
    data = ["DATASETS.TRAIN", ("shapes_sem_seg_train",), "DATALOADER.NUM_WORKERS", 0]
    cfg = load_config(str(root / CONFIG), data)
    stream = TrainingStream(cfg)
    stream.start(0)
    assert [len(batch) for batch in itertools.islice(stream, 2)] == [8, 8]
    assert stream.batch[0]["sem_seg"].shape == stream.batch[0]["image"].shape[1:]
