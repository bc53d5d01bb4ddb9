"""Training and evaluation by a Python config, detectron2's ``LazyConfig``."""

import copy
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import default_setup
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ...config import add_dnl_config
from ...data import TrainingStream
from ...data.checks import prepare_data
from ..config.command_line import fall_back_to_cpu
from .trainer import Trainer

_GROUPS = ("model", "optimizer", "lr_multiplier", "dataloader", "train")
# Of `train`, as in detectron2's common/train.py, and the keys of YAML that mean the same.
_KEYS = {
    "output_dir": "OUTPUT_DIR",
    "init_checkpoint": "MODEL.WEIGHTS",
    "device": "MODEL.DEVICE",
    "max_iter": "SOLVER.MAX_ITER",
    "amp.enabled": "SOLVER.AMP.ENABLED",
    "checkpointer.period": "SOLVER.CHECKPOINT_PERIOD",
    "eval_period": "TEST.EVAL_PERIOD",
    "seed": "SEED",
    "cudnn_benchmark": "CUDNN_BENCHMARK",
    # Of this project alone.
    "max_bad_steps": "SOLVER.MAX_BAD_STEPS",
    "best_metric": "TEST.BEST_METRIC",
    "early_stopping_patience": "SOLVER.EARLY_STOPPING_PATIENCE",
    "monitor_times": "MODEL.DNL.MONITOR_TIMES",
    "monitor_share": "MODEL.DNL.MONITOR_SHARE",
}
# Of other groups, where a config has them.
_OTHERS = {
    "model.input_format": "INPUT.FORMAT",
    "model.num_classes": "MODEL.RETINANET.NUM_CLASSES",
    "model.roi_heads.num_classes": "MODEL.ROI_HEADS.NUM_CLASSES",
    "dataloader.train.total_batch_size": "SOLVER.IMS_PER_BATCH",
    "dataloader.train.num_workers": "DATALOADER.NUM_WORKERS",
    "dataloader.train.aspect_ratio_grouping": "DATALOADER.ASPECT_RATIO_GROUPING",
}
# Options of the command line that are keys of YAML.
_OWN_DATA = {
    *("data", "classes", "epochs"),
    *(f"{s}_{kind}" for s in ("train", "val") for kind in ("json", "images", "labels")),
}


def is_lazy(config_file: str) -> bool:
    """Whether a config is Python rather than YAML."""
    return config_file.endswith(".py")


def load_lazy(config_file: str, overrides: Sequence[str]) -> DictConfig:
    """A Python config with overrides, such as ``train.max_iter=1000``.

    Raises:
        ValueError: it cannot be loaded, lacks a part, or an override does not fit.
    """
    if not os.path.isfile(config_file):
        raise ValueError(f"config file {config_file} does not exist")
    try:
        lazy = LazyConfig.load(config_file)
    except Exception as error:
        raise ValueError(f"config file {config_file}: {type(error).__name__}: {error}") from error
    if missing := [name for name in _GROUPS if name not in lazy]:
        raise ValueError(
            f"config file {config_file}: {', '.join(missing)} is missing: it must have "
            f"{', '.join(_GROUPS)}, as the configs of detectron2 and those in configs/ have"
        )
    if wrong := [word for word in overrides if "=" not in word]:
        raise ValueError(
            f"{wrong[0]}: overrides of a Python config are KEY=VALUE, such as train.max_iter=1000"
        )
    try:
        return LazyConfig.apply_overrides(lazy, list(overrides))
    except Exception as error:
        raise ValueError(f"overrides {' '.join(overrides)}: {error}") from error


def keys_of(lazy: DictConfig) -> CfgNode:
    """What the trainer needs to know, as a config of detectron2's with ``add_dnl_config``.

    Raises:
        ValueError: a value of ``train`` of another type, or an unknown one of this project.
    """
    cfg = get_cfg()
    add_dnl_config(cfg)
    paths = {f"train.{name}": key for name, key in _KEYS.items()} | _OTHERS
    for path, key in paths.items():
        value = OmegaConf.select(lazy, path)
        if value is None:
            continue
        try:
            cfg.merge_from_list([key, value])
        except ValueError as error:
            raise ValueError(f"{path}: {value!r} does not fit {key}: {error}") from error
    cfg.SOLVER.BASE_LR = float(_innermost(lazy.optimizer).lr)
    heads = OmegaConf.select(lazy, "model.roi_heads")
    if heads is None:
        cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    else:
        cfg.MODEL.MASK_ON = heads.get("mask_head") is not None
        cfg.MODEL.KEYPOINT_ON = heads.get("keypoint_head") is not None
    cfg.DATASETS.TRAIN = _names(lazy, "train")
    cfg.DATASETS.TEST = _names(lazy, "test")
    return cfg


def _innermost(optimizer: DictConfig) -> DictConfig:
    """The optimizer itself, without what clips its gradients."""
    return _innermost(optimizer.optimizer) if "optimizer" in optimizer else optimizer


def _names(lazy: DictConfig, split: str) -> tuple[str, ...]:
    names = OmegaConf.select(lazy, f"dataloader.{split}.dataset.names")
    if names is None:
        return ()
    return tuple(names) if isinstance(names, ListConfig) else (names,)


def setup_lazy(args: Any) -> tuple[DictConfig, CfgNode]:
    """As ``setup``, by a Python config.

    Returns:
        The config, and :func:`keys_of` it, frozen.

    Raises:
        ValueError, KeyError, OSError: what is wrong with a key or a data set.
    """
    given = [name for name, value in vars(args).items() if name in _OWN_DATA and value]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise ValueError(
            f"{option} is of YAML configs: register the data in the Python config, by "
            "detectron2.data.datasets.register_coco_instances, and name it in dataloader"
        )
    lazy = load_lazy(args.config_file, args.opts)
    cfg = keys_of(lazy)
    fall_back_to_cpu(cfg)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="dnl_det")
    prepare_data(cfg, not args.eval_only, os.path.join(cfg.OUTPUT_DIR, "annotations"))
    cfg.freeze()
    default_setup(lazy, args)
    return lazy, cfg


class LazyTrainer(Trainer):
    """:class:`Trainer` of a Python config, with the parts of detectron2's own.

    ``dataloader.train`` gives its records, mapper, batch and workers to a ``TrainingStream``, so
    that ``--resume`` is exact. Without ``dataloader.evaluator`` the data are evaluated as those of
    a YAML config.

    Args:
        lazy: of :func:`load_lazy`.
        cfg: of :func:`keys_of`.

    Raises:
        ValueError: see :class:`Trainer`.
    """

    def __init__(self, lazy: DictConfig, cfg: CfgNode):
        self.lazy = lazy
        super().__init__(cfg)

    def build_model(self, cfg: CfgNode) -> nn.Module:  # type: ignore[override]
        return build_lazy_model(self.lazy, cfg)

    def build_optimizer(  # type: ignore[override]
        self, cfg: CfgNode, model: nn.Module
    ) -> torch.optim.Optimizer:
        lazy = copy.deepcopy(self.lazy.optimizer)
        _innermost(lazy).params.model = model
        return instantiate(lazy)

    def build_lr_scheduler(self, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:  # type: ignore[override]
        return LRMultiplier(optimizer, instantiate(self.lazy.lr_multiplier), cfg.SOLVER.MAX_ITER)

    def build_train_loader(self, cfg: CfgNode) -> TrainingStream:  # type: ignore[override]
        loader = self.lazy.dataloader.train
        records = list(instantiate(loader.dataset))
        sampler = instantiate(loader.sampler) if loader.get("sampler") else None
        parts = {
            "dataset": records,
            "mapper": instantiate(loader.mapper),
            "sampler": sampler or TrainingSampler(len(records)),
            "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
            "num_workers": cfg.DATALOADER.NUM_WORKERS,
            "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        }
        return TrainingStream(cfg, parts)

    def test(self, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:  # type: ignore[override]
        return evaluate_lazy(self.lazy, cfg, model)


def build_lazy_model(lazy: DictConfig, cfg: CfgNode) -> nn.Module:
    """The model, on ``train.device``."""
    model = instantiate(lazy.model).to(cfg.MODEL.DEVICE)
    logging.getLogger(__name__).info(f"Model:\n{model}")
    return model


def evaluate_lazy(lazy: DictConfig, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """Evaluate on ``dataloader.test``; nothing where there is none."""
    if "test" not in lazy.dataloader:
        return {}
    if lazy.dataloader.get("evaluator"):
        evaluator = instantiate(lazy.dataloader.evaluator)
    else:
        evaluator = Trainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    results = inference_on_dataset(model, instantiate(lazy.dataloader.test), evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return OrderedDict(results)
