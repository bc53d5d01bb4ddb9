"""Training and evaluation by a Python config, detectron2's ``LazyConfig``."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data.samplers import TrainingSampler
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from torch import nn

from ...data import TrainingStream
from ..config.lazy_files import innermost, load_lazy
from .trainer import Trainer


class LazyTrainer(Trainer):
    """:class:`Trainer` of a Python config, with the parts of detectron2's own.

    ``dataloader.train`` gives its records, mapper, batch and workers to a ``TrainingStream``, so
    that ``--resume`` is exact. Without ``dataloader.evaluator`` the data are evaluated as those of
    a YAML config.

    Args:
        cfg: of :func:`dnl_det.engine.load_config`, which was given a Python config.

    Raises:
        ValueError: see :class:`Trainer`.
    """

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        lazy = copy.deepcopy(load_lazy(*cfg.MODEL.PYTHON_CONFIG).optimizer)
        innermost(lazy).params.model = model
        return instantiate(lazy)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
        multiplier = instantiate(load_lazy(*cfg.MODEL.PYTHON_CONFIG).lr_multiplier)
        return LRMultiplier(optimizer, multiplier, cfg.SOLVER.MAX_ITER)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainingStream:
        loader = load_lazy(*cfg.MODEL.PYTHON_CONFIG).dataloader.train
        records = list(instantiate(loader.dataset))
        mapper = dict(loader.mapper)
        if mapper.get("use_instance_mask"):  # the check of the data may have changed it
            mapper["instance_mask_format"] = cfg.INPUT.MASK_FORMAT
        sampler = instantiate(loader.sampler) if loader.get("sampler") else None
        parts = {
            "dataset": records,
            "mapper": instantiate(mapper),
            "sampler": sampler or TrainingSampler(len(records)),
            "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
            "num_workers": cfg.DATALOADER.NUM_WORKERS,
            "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        }
        return TrainingStream(cfg, parts)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """Evaluate on ``dataloader.test``; nothing where there is none."""
        dataloader = load_lazy(*cfg.MODEL.PYTHON_CONFIG).dataloader
        if "test" not in dataloader:
            return {}
        if dataloader.get("evaluator"):
            evaluator = instantiate(dataloader.evaluator)
        else:
            evaluator = cls.build_evaluator(cfg, cfg.DATASETS.TEST[0])
        results = inference_on_dataset(model, instantiate(dataloader.test), evaluator)
        if comm.is_main_process():
            print_csv_format(results)
        return OrderedDict(results)


def trainer_class(cfg: CfgNode) -> type[Trainer]:
    """The trainer of a config: :class:`LazyTrainer` of a Python config."""
    return LazyTrainer if cfg.MODEL.get("PYTHON_CONFIG") else Trainer
