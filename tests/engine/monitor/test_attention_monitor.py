"""The hook that watches attention: what it writes, and that it changes nothing."""

import random
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.utils.env import seed_all_rng
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnl_det.analysis import block_statistics, record_attention
from dnl_det.engine import AttentionMonitor, Trainer, load_config
from dnl_det.engine.monitor.attention_monitor import undisturbed
from dnl_det.engine.monitor.fixed_images import choose_fixed_images

ALWAYS = ("MODEL.DNL.MONITOR_TIMES", "100", "MODEL.DNL.MONITOR_SHARE", "1000.0")


def config(root, tiny, output, *overrides, name="disentangled", device="cpu"):
    keys = ["OUTPUT_DIR", str(output), "MODEL.DEVICE", device]
    keys += ["DATASETS.TRAIN", "('shapes_train',)"]
    cfg = load_config(str(root / f"configs/Shapes/{name}.yaml"), [*tiny, *keys, *overrides])
    output.mkdir(exist_ok=True)
    return cfg


def train(cfg):
    """A training without its evaluation, which would hide what the hook does; writes every step."""
    seed_all_rng(1)
    trainer = Trainer(cfg)
    trainer._hooks = [h for h in trainer._hooks if type(h).__name__ != "EvalHook"]
    if type(trainer._hooks[-1]).__name__ == "PeriodicWriter":
        trainer._hooks[-1]._period = 1
    trainer.train()
    return trainer


def monitor_of(trainer):
    (monitor,) = (h for h in trainer._hooks if isinstance(h, AttentionMonitor))
    return monitor


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_a_segmentation_model_is_watched_in_whole_images(root, shapes, tmp_path, device):
    keys = [
        *("DATASETS.TRAIN", "('shapes_sem_seg_train',)", "SOLVER.IMS_PER_BATCH", "2"),
        *("SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0", *ALWAYS),
        *("TEST.SLIDING_WINDOW.SIZE", "[64, 64]", "TEST.SLIDING_WINDOW.STRIDE", "[64, 64]"),
    ]
    model = {"name": "sem_seg_disentangled", "device": device}
    trainer = train(config(root, [], tmp_path / "run", *keys, **model))
    assert monitor_of(trainer).turns == 2
    assert trainer.model.window == (64, 64)
    found = events(tmp_path / "run")
    assert {"attention/gamma/sem_seg_head", "attention/unary_entropy/sem_seg_head"} <= set(
        found.Tags()["scalars"]
    )
    for picture in ("labels", "sem_seg_head"):
        for index in range(2):
            assert f"attention/image{index}/{picture}" in found.Tags()["images"]


def test_tensorboard_gets_scalars_and_pictures(root, shapes, tiny, tmp_path, device):
    cfg = config(root, tiny, tmp_path / "run", *ALWAYS, "SOLVER.MAX_ITER", "3", device=device)
    trainer = train(cfg)
    assert monitor_of(trainer).turns == 3
    found = events(tmp_path / "run")
    scalars, pictures = found.Tags()["scalars"], found.Tags()["images"]
    for block in ("res3.3", "res4.5"):
        for quantity in (
            "gamma",
            "pairwise_entropy",
            "unary_entropy",
            "pairwise_distance",
            "pairwise_divergence",
            "input_distance",
            "context_distance",
        ):
            assert f"attention/{quantity}/{block}" in scalars
        for index in (0, 1):
            tag = f"attention/image{index}/{block}"
            assert [event.step for event in found.Images(tag)] == [0, 1, 2]
            picture = found.Images(tag)[0]
            assert (picture.width, picture.height) == (512, 256)  # two maps
    assert "attention/image0/detections" in pictures
    assert "attention/image1/detections" in pictures

    # What was written last is what the trained model gives.
    block = trainer.model.backbone.bottom_up.res4[5].attention
    gamma = found.Scalars("attention/gamma/res4.5")[-1]
    assert (gamma.step, gamma.value) == (2, pytest.approx(block.gamma.item()))
    entropies = []
    trainer.model.eval()
    with torch.no_grad(), record_attention(trainer.model) as record:
        for image in choose_fixed_images(cfg, 2):
            trainer.model([image.input])
            statistics = block_statistics(
                record["backbone.bottom_up.res4.5.attention"], 0, record.frames[0]
            )
            entropies.append(statistics.unary_entropy)
    written = found.Scalars("attention/unary_entropy/res4.5")[-1].value
    assert written == pytest.approx(np.mean(entropies), rel=1e-5)


def test_training_is_the_same_bit_by_bit(root, shapes, tiny, tmp_path):
    length = ("SOLVER.MAX_ITER", "4", "MODEL.RESNETS.NORM", "BN")
    watched = train(config(root, tiny, tmp_path / "a", *ALWAYS, *length))
    off = ("MODEL.DNL.MONITOR_TIMES", "0")
    alone = train(config(root, tiny, tmp_path / "b", *off, *length))
    assert (monitor_of(watched).turns, monitor_of(alone).turns) == (4, 0)
    a, b = watched.model.state_dict(), alone.model.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert "attention" not in {
        tag.split("/")[0] for tag in events(tmp_path / "b").Tags()["scalars"]
    }


def test_modes_and_random_numbers_are_put_back():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout(), torch.nn.ReLU())
    model.train()
    model[0].eval()
    seed_all_rng(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    seed_all_rng(3)
    with undisturbed(model):
        model.eval()
        random.random(), np.random.rand(), torch.rand(1)
    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_by_default_a_short_training_has_gamma_alone(root, shapes, tiny, tmp_path):
    """Two images may take 2 % of the time only where it is that of 200 iterations or so."""
    trainer = train(config(root, tiny, tmp_path / "run", "SOLVER.MAX_ITER", "40"))
    monitor = monitor_of(trainer)
    assert (monitor.turns, monitor.budget.share) == (0, 0.02)
    gammas = events(tmp_path / "run").Scalars("attention/gamma/res4.5")
    assert [event.step for event in gammas] == [19, 39]


def test_turns_that_would_exceed_the_share_are_left_out(root, shapes, tiny, tmp_path, monkeypatch):
    """On a clock of its own: an iteration takes 1 s, a turn 2 s, and writing its pictures 3 s."""

    class Clock:
        now = 0.0

    class Storage:
        _vis_data = []

        def put_scalar(self, *args, **kwargs):
            pass

    class Loop:
        iter, start_iter, max_iter, storage = 0, 0, 2000, Storage()

    def turn(self, images):
        taken.append(Loop.iter)
        Storage._vis_data.append("a picture")
        Clock.now += 2

    taken = []
    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(AttentionMonitor, "_take_turn", turn)
    keys = ("MODEL.DNL.MONITOR_TIMES", "400")
    cfg = config(root, tiny, tmp_path / "run", *keys)
    monitor = AttentionMonitor(cfg, Trainer.build_model(cfg))
    monitor._images = []
    monitor.trainer = Loop
    monitor.before_train()
    for Loop.iter in range(2000):
        monitor.before_step()
        Clock.now += 1
        monitor.after_step()
        if Loop.iter % 20 == 19 and Storage._vis_data:
            Clock.now += 3
            Storage._vis_data.clear()
    monitor.before_step()
    # The first as soon as 4 iterations are 2 %, then one for every 250 s of the clock.
    assert taken[0] == 199
    assert len(taken) == 2000 // 250
    assert monitor.budget.spent == 5 * len(taken)
    assert monitor.budget.spent <= 0.02 * monitor.budget.elapsed


def test_without_test_data_there_is_gamma_alone(root, shapes, tiny, tmp_path):
    keys = (*ALWAYS, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()")
    train(config(root, tiny, tmp_path / "run", *keys))
    found = events(tmp_path / "run").Tags()
    names = {tag for tag in found["scalars"] if tag.startswith("attention/")}
    assert names == {"attention/gamma/res3.3", "attention/gamma/res4.5", "attention/time_share"}
    assert not found["images"]


def test_a_failure_does_not_end_the_training(root, shapes, tiny, tmp_path, caplog, monkeypatch):
    calls = []

    def fail(self, images):
        calls.append(len(images))
        self._model.eval()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(AttentionMonitor, "_take_turn", fail)
    trainer = train(config(root, tiny, tmp_path / "run", *ALWAYS, "SOLVER.MAX_ITER", "3"))
    assert trainer.iter == 3
    assert calls == [2]
    assert monitor_of(trainer).turns == 0
    assert "Attention is not watched any more" in caplog.text
    assert "out of memory" in caplog.text
    assert trainer.model.training
    assert "attention/gamma/res4.5" in events(tmp_path / "run").Tags()["scalars"]


@pytest.mark.parametrize("name", ["baseline", "gc", "nl"])
def test_other_blocks_and_none(root, shapes, tiny, tmp_path, name):
    trainer = train(
        config(root, tiny, tmp_path / "run", *ALWAYS, "SOLVER.MAX_ITER", "1", name=name)
    )
    found = events(tmp_path / "run").Tags()["scalars"]
    kinds = {tag.split("/")[1] for tag in found if tag.startswith("attention/")}
    assert ("unary_entropy" in kinds) == (name == "gc")
    assert ("pairwise_entropy" in kinds) == (name == "nl")
    assert monitor_of(trainer).turns == (name != "baseline")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TIMES", "-1", "MONITOR_TIMES: -1 must be a whole number"),
        ("SHARE", "0.0", "MONITOR_SHARE: 0.0 must be"),
    ],
)
def test_keys_out_of_range_are_named(root, shapes, tiny, tmp_path, key, value, message):
    with pytest.raises(ValueError, match=message):
        Trainer(config(root, tiny, tmp_path / "run", f"MODEL.DNL.MONITOR_{key}", value))


def in_one_of_two(rank, port, root, data_root, tiny, output):
    from detectron2.utils import comm

    from dnl_det.data import register_shapes

    torch.set_num_threads(1)
    register_shapes(data_root)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, world_size=2, rank=rank)
    comm.create_local_process_group(2)
    trainer = train(config(root, tiny, output, *ALWAYS, "SOLVER.MAX_ITER", "3"))
    monitors = [h for h in trainer._hooks if isinstance(h, AttentionMonitor)]
    assert len(monitors) == (rank == 0)
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    torch.save(weights, output / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes(root, data_root, tiny, tmp_path, free_port):
    """The first alone watches, the other does not wait for what never comes."""
    output = tmp_path / "run"
    mp.spawn(in_one_of_two, (free_port, root, data_root, tiny, output), nprocs=2)
    assert torch.equal(torch.load(output / "0.pt"), torch.load(output / "1.pt"))
    found = events(output)
    assert len(found.Images("attention/image1/res3.3")) == 3
    assert "attention/pairwise_divergence/res3.3" in found.Tags()["scalars"]
