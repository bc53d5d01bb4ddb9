"""The trainer in this process: what it builds, its schedule, what it refuses."""

import pytest
import torch
from detectron2.utils.env import seed_all_rng
from gpu import NEEDS_GPU
from torch import nn

from dnl_det.checkpoint import Checkpointer
from dnl_det.engine import Trainer, argument_parser, load_config, setup

SHAPES = "configs/Shapes/disentangled.yaml"
PAPER = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"


def shapes_config(root, tiny, tmp_path, *overrides):
    cfg = load_config(str(root / SHAPES), [*tiny, "OUTPUT_DIR", str(tmp_path), *overrides])
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_training_learns_and_gives_box_and_mask_ap(root, shapes, tiny, tmp_path):
    torch.manual_seed(0)
    cfg = shapes_config(
        root, tiny, tmp_path, "SOLVER.MAX_ITER", "4", "MODEL.RESNETS.NORM", "SyncBN"
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    attention = trainer.model.backbone.bottom_up.res4[-1].attention
    before = attention.conv_value.weight.detach().clone()
    trainer.train()
    assert set(trainer._last_eval_results) == {"bbox", "segm"}
    assert not torch.equal(before, attention.conv_value.weight)
    assert isinstance(trainer.checkpointer, Checkpointer)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in trainer.model.modules())


def test_amp_without_a_gpu_is_refused_before_anything_is_built(root, shapes, tiny, tmp_path):
    cfg = shapes_config(root, tiny, tmp_path, "SOLVER.AMP.ENABLED", "True")
    with pytest.raises(ValueError, match=r"SOLVER.AMP.ENABLED: True needs a CUDA device"):
        Trainer(cfg)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)], indirect=True)
def test_amp_has_the_losses_of_float32(root, shapes, tiny, tmp_path, device):
    def losses(amp):
        keys = ("SOLVER.AMP.ENABLED", amp, "SOLVER.MAX_ITER", "4", "SEED", "1")
        cfg = shapes_config(root, tiny, tmp_path / amp, *keys, "MODEL.RESNETS.NORM", "LN")
        cfg.MODEL.DEVICE, cfg.DATASETS.TEST = device, ()
        seed_all_rng(1)
        trainer = Trainer(cfg)
        trainer.train()
        scaler = torch.load(tmp_path / amp / "model_final.pth")["trainer"]["_trainer"]
        assert ("grad_scaler" in scaler) == (amp == "True")
        return [value for value, _ in trainer.storage.history("total_loss").values()]

    found, expected = losses("True"), losses("False")
    assert len(found) == 4
    assert found == pytest.approx(expected, rel=0.05)


def test_the_paper_s_schedule(root):
    cfg = load_config(str(root / PAPER))
    model = nn.Linear(1, 1)
    optimizer = Trainer.build_optimizer(cfg, model)
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)

    def rate(iteration):
        scheduler.last_epoch = iteration
        return scheduler.get_lr()[0]

    # Linear from a third: 0.02 * (1/3 + 2/3 * iteration / 500).
    assert rate(0) == pytest.approx(0.02 / 3, rel=1e-6)
    assert rate(250) == pytest.approx(0.02 * (1 / 3 + 1 / 3), rel=1e-3)
    assert rate(500) == rate(58639) == pytest.approx(0.02)
    assert rate(58640) == rate(80629) == pytest.approx(0.002)
    assert rate(80630) == rate(87959) == pytest.approx(0.0002)


@pytest.mark.parametrize(
    ("processes", "batch", "rate", "length"),
    [(8, 16, 0.02, 87960), (1, 2, 0.0025, 703680), (16, 32, 0.04, 43980)],
)
def test_another_number_of_processes_scales_the_schedule(root, processes, batch, rate, length):
    cfg = Trainer.auto_scale_workers(load_config(str(root / PAPER)), processes)
    assert cfg.SOLVER.IMS_PER_BATCH == batch
    assert cfg.SOLVER.BASE_LR == pytest.approx(rate)
    assert cfg.SOLVER.MAX_ITER == length


def test_flags_for_one_s_own_data(root, shapes, tmp_path):
    words = ["--config-file", str(root / PAPER)]
    for split in ("train", "val"):
        words += [f"--{split}-json", str(shapes / f"annotations/instances_{split}.json")]
        words += [f"--{split}-images", str(shapes / split)]
    args = argument_parser().parse_args([*words, "OUTPUT_DIR", str(tmp_path)])
    cfg = setup(args)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("own_train",), ("own_val",))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 10
    assert cfg.TEST.EXPECTED_RESULTS == []
    again = load_config(str(tmp_path / "config.yaml"))
    assert again.DATASETS.VAL_JSON == words[words.index("--val-json") + 1]


def test_test_time_augmentation_reports_beside_the_plain_results(root, shapes, tiny, tmp_path):
    augmentation = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(96,128)")
    cfg = shapes_config(root, tiny, tmp_path, *augmentation)
    results = Trainer.test_with_tta(cfg, Trainer.build_model(cfg).eval())
    assert set(results) == {"bbox_TTA", "segm_TTA"}


def test_an_image_too_small_for_a_batch_norm_ends_it_in_so_many_words(root, shapes, tiny, tmp_path):
    small = ["INPUT.MIN_SIZE_TRAIN", "(32,)", "MODEL.RESNETS.NORM", "BN"]
    cfg = shapes_config(root, tiny, tmp_path, *small, "SOLVER.IMS_PER_BATCH", "1")
    with pytest.raises(SystemExit, match="too small for a batch norm.* INPUT.MIN_SIZE_TRAIN or"):
        Trainer(cfg).train()
