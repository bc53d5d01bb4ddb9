"""Python configs, detectron2's ``LazyConfig``: loaded, and the keys of YAML that mean the same."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig, get_cfg
from omegaconf import DictConfig, ListConfig, OmegaConf

from ...config import add_dnl_config

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
    "dataloader.train.mapper.instance_mask_format": "INPUT.MASK_FORMAT",
    "dataloader.train.total_batch_size": "SOLVER.IMS_PER_BATCH",
    "dataloader.train.num_workers": "DATALOADER.NUM_WORKERS",
    "dataloader.train.aspect_ratio_grouping": "DATALOADER.ASPECT_RATIO_GROUPING",
}


def is_lazy(file: str) -> bool:
    """Whether a config is Python, or the YAML that a training by one has saved."""
    if file.endswith(".py"):
        return True
    path = Path(file)
    return path.is_file() and "_target_:" in path.read_text("utf-8", errors="replace")


@cache
def load_lazy(config_file: str, *overrides: str) -> DictConfig:
    """A Python config with overrides, such as ``train.max_iter=1000``: not to be changed.

    It runs once in a process, since it may register data sets. What a training has saved as YAML
    runs code too, when it is read and by its ``_target_``, and is read with DNL_DET_TRUST_YAML=1.

    Raises:
        ValueError: it cannot be loaded, lacks a part, or an override does not fit.
    """
    if not os.path.isfile(config_file):
        raise ValueError(f"config file {config_file} does not exist")
    if not (config_file.endswith(".py") or os.environ.get("DNL_DET_TRUST_YAML") == "1"):
        raise ValueError(
            f"config file {config_file} was saved by a Python config, and can run any code when it "
            "is read: give the .py file, or set DNL_DET_TRUST_YAML=1 if the YAML is yours"
        )
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


def lazy_keys(config_file: str, overrides: Sequence[str]) -> CfgNode:
    """What the trainer and the commands need to know of :func:`load_lazy`, as keys of YAML.

    Returns:
        A config of detectron2's with ``add_dnl_config`` and ``MODEL.PYTHON_CONFIG``, the
        arguments of :func:`load_lazy`, which no YAML file can have.

    Raises:
        ValueError: see :func:`load_lazy`; a value of another type; more than one data set for one
            evaluation.
    """
    lazy = load_lazy(config_file, *overrides)
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.MODEL.PYTHON_CONFIG = [config_file, *overrides]
    paths = {f"train.{name}": key for name, key in _KEYS.items()} | _OTHERS
    for path, key in paths.items():
        value = OmegaConf.select(lazy, path)
        if value is None:
            continue
        try:
            cfg.merge_from_list([key, value])
        except ValueError as error:
            raise ValueError(f"{path}: {value!r} does not fit {key}: {error}") from error
    cfg.SOLVER.BASE_LR = float(innermost(lazy.optimizer).lr)
    model = lazy.model._target_
    cfg.MODEL.META_ARCHITECTURE = getattr(model, "__name__", str(model).rpartition(".")[2])
    if heads := OmegaConf.select(lazy, "model.roi_heads"):
        cfg.MODEL.MASK_ON = heads.get("mask_head") is not None
        cfg.MODEL.KEYPOINT_ON = heads.get("keypoint_head") is not None
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = _names(lazy, "train"), _names(lazy, "test")
    if len(cfg.DATASETS.TEST) > 1:
        raise ValueError(
            f"dataloader.test.dataset.names: {', '.join(cfg.DATASETS.TEST)}: name one data set"
        )
    for augmentation in OmegaConf.select(lazy, "dataloader.test.mapper.augmentations") or ():
        if isinstance(size := augmentation.get("short_edge_length"), int):
            cfg.INPUT.MIN_SIZE_TEST = size
            cfg.INPUT.MAX_SIZE_TEST = augmentation.get("max_size", cfg.INPUT.MAX_SIZE_TEST)
    return cfg


def innermost(optimizer: DictConfig) -> DictConfig:
    """The optimizer itself, without what clips its gradients."""
    return innermost(optimizer.optimizer) if "optimizer" in optimizer else optimizer


def _names(lazy: DictConfig, split: str) -> tuple[str, ...]:
    names = OmegaConf.select(lazy, f"dataloader.{split}.dataset.names")
    if names is None:
        return ()
    return tuple(names) if isinstance(names, ListConfig) else (names,)
