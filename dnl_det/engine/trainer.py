"""detectron2's trainer with this project's optimizer, checkpoints and evaluation."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
)
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from torch import nn

from ..checkpoint import Checkpointer
from ..data import build_mapper
from ..evaluation import build_evaluator
from ..modeling import replace_sync_bn
from .attention_monitor import AttentionMonitor
from .optimizer import build_optimizer
from .stopping import StopOnSignal


class Trainer(DefaultTrainer):
    """Trains on GPUs as detectron2 does, and on one or several CPU processes too.

    Args:
        cfg: detectron2's config with ``add_dnl_config``.

    Raises:
        ValueError: ``SOLVER.AMP.ENABLED`` without a CUDA device.
    """

    def __init__(self, cfg: CfgNode):
        # Not DefaultTrainer's: that wraps the model for GPUs only and cannot be told of another
        # checkpointer.
        super(DefaultTrainer, self).__init__()
        if cfg.SOLVER.AMP.ENABLED and not torch.cuda.is_available():
            raise ValueError(
                "SOLVER.AMP.ENABLED: True needs a CUDA device, and there is none; set it to False"
            )
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)

        devices = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        trainer_class = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer_class(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase | None]:
        """detectron2's, what saves when a signal ends the training, and what watches attention."""
        hooks: list[HookBase | None] = super().build_hooks()
        # Before the evaluation, which at the end a signal may interrupt: all is saved by then.
        index = next(i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook))
        hooks.insert(index, StopOnSignal())
        if comm.is_main_process():
            # Before the last, which writes what the others have put into the event storage.
            hooks.insert(-1, AttentionMonitor(self.cfg, self.model))
        return hooks

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model, its synchronised norms replaced where they cannot run."""
        return super().build_model(replace_sync_bn(cfg))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`dnl_det.engine.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """detectron2's, with images by ``INPUT.IMAGE_LIBRARY``."""
        return build_detection_train_loader(cfg, mapper=build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """detectron2's, with images by ``INPUT.IMAGE_LIBRARY``."""
        mapper = build_mapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """See :func:`dnl_det.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate with the test-time augmentation of ``TEST.AUG``; keys end with ``_TTA``."""
        logging.getLogger(__name__).info("Evaluating with test-time augmentation ...")
        folder = f"{cfg.OUTPUT_DIR}/inference_TTA"
        evaluators = [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST]
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model), evaluators)
        return OrderedDict((f"{key}_TTA", value) for key, value in results.items())
