"""Python configs: the YAML ones of the same name in all that they train with, and their runs."""

import json
import shutil

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.utils.events import EventStorage

from dnl_det.engine import LazyTrainer, Trainer, load_config
from dnl_det.engine.config.lazy_files import load_lazy

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = [
    "COCO-Detection/faster_rcnn_R_50_FPN_dnl_c4_c5all_1x",
    "COCO-Detection/retinanet_R_50_FPN_dnl_c4_c5all_1x",
    "COCO-InstanceSegmentation/cascade_mask_rcnn_R_50_FPN_dnl_c4_c5all_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_modern_1x",
    "Shapes/disentangled",
]
SHAPES = "configs/Shapes/disentangled.py"
SAME = [
    *("MODEL.WEIGHTS", "MODEL.MASK_ON", "MODEL.META_ARCHITECTURE", "INPUT.FORMAT"),
    *("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "INPUT.MASK_FORMAT"),
    *("DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.ASPECT_RATIO_GROUPING"),
    *("SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD"),
]


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def pair(root, name):
    """A Python config, its keys, and the YAML config, on the CPU."""
    words = (str(root / f"configs/{name}.py"), "train.device=cpu")
    cfg = load_config(str(root / f"configs/{name}.yaml"), ["MODEL.DEVICE", "cpu"])
    return load_lazy(*words), load_config(words[0], words[1:]), cfg


def groups(optimizer, model):
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: [group[k] for k in ("lr", "weight_decay", "momentum")]
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_every_python_config_is_tested(root):
    files = {f.relative_to(root / "configs").as_posix() for f in root.glob("configs/[A-Z]*/*.py")}
    assert files == {f"{name}.py" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_python_config_is_the_yaml_of_its_name(name, root):
    """Keys, parameters, optimizer, schedule, and the losses of one batch."""
    lazy, keys, cfg = pair(root, name)
    assert set(lazy) == {"model", "optimizer", "lr_multiplier", "dataloader", "train"}
    assert {k: value(keys, k) for k in SAME} == {k: value(cfg, k) for k in SAME}
    theirs, ours = Trainer.build_model(cfg), LazyTrainer.build_model(keys)
    ours.load_state_dict(theirs.state_dict())
    optimizer = LazyTrainer.build_optimizer(keys, ours)
    expected = Trainer.build_optimizer(cfg, theirs)
    assert groups(optimizer, ours) == groups(expected, theirs)
    assert len(optimizer._optimizer_step_pre_hooks) == len(expected._optimizer_step_pre_hooks)
    schedules = [
        LazyTrainer.build_lr_scheduler(keys, optimizer),
        Trainer.build_lr_scheduler(cfg, expected),
    ]
    for iteration in (0, 10, 99, 999, 59_999, 60_000, 89_999):
        if iteration < cfg.SOLVER.MAX_ITER:
            rates = []
            for schedule in schedules:
                schedule.last_epoch = iteration
                rates.append(schedule.get_lr())
            assert rates[0] == pytest.approx(rates[1])


def test_batches_and_losses_are_those_of_yaml(root, shapes):
    lazy, keys, cfg = pair(root, "Shapes/disentangled")
    keys.SEED = cfg.SEED = 3
    keys.DATALOADER.NUM_WORKERS = cfg.DATALOADER.NUM_WORKERS = 0
    streams = [LazyTrainer.build_train_loader(keys), Trainer.build_train_loader(cfg)]
    theirs, ours = Trainer.build_model(cfg), LazyTrainer.build_model(keys)
    ours.load_state_dict(theirs.state_dict())
    batches = []
    for stream in streams:
        stream.start(0)
        batches.append(next(iter(stream)))
    for one, other in zip(*batches, strict=True):
        assert one["file_name"] == other["file_name"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
    losses = []
    for model, batch in zip((ours, theirs), batches, strict=True):
        torch.manual_seed(0)
        with EventStorage():
            losses.append({k: v.item() for k, v in model(batch).items()})
    assert losses[0] == losses[1]


def test_masks_are_read_as_the_check_of_the_data_says(root, shapes):
    """It asks for bitmasks where annotations are RLE, which detectron2's polygons cannot be."""
    _, keys, _ = pair(root, "Shapes/disentangled")
    keys.DATALOADER.NUM_WORKERS = 0
    for kind, expected in (("polygon", PolygonMasks), ("bitmask", BitMasks)):
        keys.INPUT.MASK_FORMAT = kind
        stream = LazyTrainer.build_train_loader(keys)
        stream.start(0)
        assert type(next(iter(stream))[0]["instances"].gt_masks) is expected


def run(start, folder, *words):
    options = [f"train.output_dir={folder}", "train.eval_period=4", "train.seed=1"]
    options += ["dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0"]
    return start("train_net.py", "--config-file", SHAPES, *words, *options).finish()


def test_training_resuming_and_evaluating(start, shapes, tmp_path, monkeypatch):
    """Stopped after four of eight iterations and resumed: to the bit the model of one run."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(start, once, "train.max_iter=8", "train.checkpointer.period=4")
    twice.mkdir()
    shutil.copy(once / "model_0000003.pth", twice)
    (twice / "last_checkpoint").write_text("model_0000003.pth")
    run(start, twice, "--resume", "train.max_iter=8")
    models = [torch.load(f / "model_final.pth", weights_only=False)["model"] for f in (once, twice)]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])
    lines = [json.loads(line) for line in (once / "metrics.json").read_text().splitlines()]
    assert any("bbox/AP" in line for line in lines)
    assert any(key.startswith("attention/") for line in lines for key in line)
    printed = run(start, once, "--eval-only", f"train.init_checkpoint={once}/model_final.pth")
    assert "Evaluation results for bbox" in printed
    saved = once / "config.yaml"
    assert set(instantiate(LazyConfig.load(str(saved)).model).state_dict()) == set(models[0])

    # The saved config is one for train_net.py, which keeps it, and for the other commands.
    text, weights = saved.read_text(), once / "model_final.pth"
    words = ["--eval-only", f"train.init_checkpoint={weights}"]
    refused = start("train_net.py", "--config-file", str(saved), *words).finish(1)
    assert "can run any code when it is read: give the .py file, or set DNL_DET_TRUST" in refused
    monkeypatch.setenv("DNL_DET_TRUST_YAML", "1")
    again = start("train_net.py", "--config-file", str(saved), *words).finish()
    assert table(again) == table(printed)
    assert saved.read_text() == text
    given = ["--config-file", str(saved), "--weights", str(weights)]
    picture = str(shapes / "val/000001.bmp")
    for name in ("predict", "explore"):
        start("-m", "dnl_det", name, *given, picture, "--output", str(tmp_path / name)).finish()
    exported = str(tmp_path / "model.pt")
    start("-m", "dnl_det", "export", *given, picture, "--output", exported).finish()
    run_exported = ["predict", "--model", exported, picture, "--output", str(tmp_path / "exported")]
    start("-m", "dnl_det", *run_exported).finish()
    found = [
        json.loads((tmp_path / name / "detections.json").read_text())
        for name in ("predict", "exported")
    ]
    assert [d["category_id"] for d in found[0]] == [d["category_id"] for d in found[1]]
    assert (tmp_path / "explore/000001.html").is_file()


def table(printed):
    """The lines of numbers of an evaluation."""
    return [line.strip() for line in printed.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.MAX_ITER", "8"], "SOLVER.MAX_ITER: overrides of a Python config are KEY=VALUE"),
        (["train.max_iter=many"], "train.max_iter: 'many' does not fit SOLVER.MAX_ITER"),
        (["--epochs", "3"], "SOLVER.EPOCHS is of YAML configs: register the data"),
        (
            ["dataloader.test.dataset.names=[shapes_train,shapes_val]"],
            "dataloader.test.dataset.names: shapes_train, shapes_val: name one data set",
        ),
    ],
)
def test_bad_input(words, message, start, tmp_path):
    output = [f"train.output_dir={tmp_path}/out"]
    words = [*words, *([] if words[0][0].isupper() else output)]
    printed = start("train_net.py", "--config-file", SHAPES, *words).finish(1)
    assert message in printed
    assert "Traceback" not in printed


def test_a_config_without_its_parts(tmp_path):
    file = tmp_path / "config.py"
    with pytest.raises(ValueError, match="does not exist"):
        load_lazy(str(file))
    file.write_text("model = dict(a=1)\n")
    with pytest.raises(ValueError, match="optimizer, lr_multiplier, dataloader, train is missing"):
        load_lazy(str(file))
    file.write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named"):
        load_lazy(str(file))
