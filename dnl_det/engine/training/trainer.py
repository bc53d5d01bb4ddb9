"""detectron2's trainer with this project's optimizer, checkpoints and evaluation."""

import logging
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA, SemanticSegmentor
from detectron2.utils import comm
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ...checkpoint import Checkpointer
from ...data import TrainingStream, UnreadableImageError, build_mapper
from ...data.own_data import OWN_TRAIN
from ...evaluation import LabelError, build_evaluator
from ...modeling import check_test_augmentation, replace_sync_bn
from ..config.lazy_files import load_lazy
from ..config.solver import check_solver
from ..monitor.attention_monitor import AttentionMonitor
from .augmented_segmentor import SemanticSegmentorWithTTA
from .best import BestCheckpoint, EarlyStop
from .checked_step import CheckedAMPTrainer, CheckedTrainer, NotFiniteError
from .length import LengthNote, with_epochs
from .optimizer import build_lr_scheduler, build_optimizer
from .resuming import check_same_optimizer, use_own_values
from .stopping import StopOnSignal, reason_to_stop

# RetinaNet's running mean of the number of positive anchors, which is no buffer.
_NORMALIZER = "loss_normalizer"


class Trainer(DefaultTrainer):
    """Trains on GPUs as detectron2 does, and on one or several CPU processes too.

    Args:
        cfg: detectron2's config with ``add_dnl_config``.

    Raises:
        ValueError: ``SOLVER.AMP.ENABLED`` without a CUDA device, or a key of ``SOLVER`` that
            :func:`check_solver` refuses.
    """

    _hooks: list[HookBase]

    def __init__(self, cfg: CfgNode):
        # Not DefaultTrainer's: that wraps the model for GPUs only and cannot be told of another
        # checkpointer.
        super(DefaultTrainer, self).__init__()
        if cfg.SOLVER.AMP.ENABLED and not torch.cuda.is_available():
            raise ValueError(
                "SOLVER.AMP.ENABLED: True needs a CUDA device, and there is none; set it to False"
            )
        check_solver(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        cfg = with_epochs(cfg, data_loader.images)

        devices = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        trainer_class = CheckedAMPTrainer if cfg.SOLVER.AMP.ENABLED else CheckedTrainer
        self._trainer = trainer_class(
            model, data_loader, optimizer, max_bad_steps=cfg.SOLVER.MAX_BAD_STEPS
        )
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
        if self.cfg.TEST.BEST_METRIC:
            after_evaluation = next(i for i, h in enumerate(hooks) if isinstance(h, EvalHook)) + 1
            hooks.insert(after_evaluation, BestCheckpoint(self.cfg))
        if comm.is_main_process():
            # Before the last, which writes what the others have put into the event storage.
            hooks.insert(-1, AttentionMonitor(self.cfg, self.model))
            if OWN_TRAIN in self.cfg.DATASETS.TRAIN and not self.cfg.SOLVER.EPOCHS:
                hooks.append(LengthNote(self.cfg, self.data_loader.images))
        return hooks

    def resume_or_load(self, resume: bool = True) -> None:
        """detectron2's; where there is nothing to resume, or to do, it says so."""
        super().resume_or_load(resume)
        logger, done = logging.getLogger(__name__), self.start_iter
        if resume and not self.checkpointer.has_checkpoint():
            logger.warning(
                f"--resume: there is no checkpoint in OUTPUT_DIR {self.cfg.OUTPUT_DIR}, so the "
                f"training starts anew, from MODEL.WEIGHTS {self.cfg.MODEL.WEIGHTS!r}."
            )
        elif done == self.max_iter:
            logger.warning(
                f"--resume: all {done} iterations are done. Raise {self._length_key} to train "
                "longer."
            )

    @property
    def _length_key(self) -> str:
        return "SOLVER.EPOCHS" if self.cfg.SOLVER.EPOCHS else "SOLVER.MAX_ITER"

    def train(self) -> dict[str, Any] | None:
        """Train from ``start_iter`` on, with the data that an uninterrupted run has then."""
        self.data_loader.start(self.start_iter)
        # The log on a full disk: no traceback for each of its lines, since after_step ends it soon.
        before, logging.raiseExceptions = logging.raiseExceptions, False
        try:
            results: dict[str, Any] | None = super().train()
        except EarlyStop:
            results = getattr(self, "_last_eval_results", None)
        finally:
            logging.raiseExceptions = before
        return results

    def after_step(self) -> None:
        """The hooks'; where they cannot write a file, as on a full disk, the program ends."""
        with self._exit_where_nothing_can_be_written():
            super().after_step()

    def after_train(self) -> None:
        """The hooks', likewise."""
        with self._exit_where_nothing_can_be_written():
            super().after_train()

    @contextmanager
    def _exit_where_nothing_can_be_written(self) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            raise  # to another process
        except OSError as error:
            sys.exit(
                f"error: training stopped at iteration {self.iter}: {str(error).rstrip('.')}. "
                f"{self._where_to_go_on()}"
            )

    def run_step(self) -> None:
        """One step, or the end of the program where the numbers are not finite any more.

        Also where an image cannot be read or is too small for a batch norm, or a process that
        reads them was killed; a single process saves what it has learnt before.
        """
        try:
            super().run_step()
        except NotFiniteError as error:
            message = f"error: training stopped before the step of {error} {self._how_to_go_on()}"
            comm.synchronize()  # no process ends the others before all know
            self._end(message if comm.is_main_process() else 1)
        except (UnreadableImageError, ValueError, RuntimeError) as error:
            if not (reason := reason_to_stop(self.cfg, error)):
                raise
            # The other processes wait for this one's gradients: whoever started them ends them.
            self._end(f"error: training stopped{reason} {self._keep()}")

    def _end(self, status: str | int) -> NoReturn:
        """Exit, without the evaluation that the last iteration's hooks make on the way out."""
        self._hooks = [h for h in self._hooks if not isinstance(h, EvalHook)]
        sys.exit(status)

    def _keep(self) -> str:
        """Save the steps before this one; where to go on."""
        if comm.get_world_size() == 1 and self.iter > self.start_iter:
            self.iter -= 1  # the last that is done
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
        return self._where_to_go_on()

    def _where_to_go_on(self) -> str:
        newest, _ = self.checkpointer.newest_finite()
        return f"Go on from {newest} by --resume." if newest else "There is no checkpoint yet."

    def _how_to_go_on(self) -> str:
        key = f"SOLVER.MAX_BAD_STEPS {self.cfg.SOLVER.MAX_BAD_STEPS + 1}"
        advice = f"with {key} or more to skip such steps, without these images, or with a lower"
        advice += " SOLVER.BASE_LR"
        newest, good = self.checkpointer.newest_finite()
        if good is None:
            return f"There is no good checkpoint in {self.cfg.OUTPUT_DIR}: start anew {advice}."
        if newest != good:
            advice += f", after removing the checkpoints that are newer than {good.name}"
        return f"The last good checkpoint is {good}: go on from it by --resume {advice}."

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides the model's parameters to go on exactly."""
        state: dict[str, Any] = super().state_dict()
        state["stream"] = self.data_loader.state_dict()
        state["loss_normalizers"] = {
            name: module.loss_normalizer
            for name, module in self._bare_model().named_modules()
            if _NORMALIZER in vars(module)
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the run of a checkpoint was, with this run's ``SOLVER`` keys.

        Raises:
            ValueError: the optimizer's state does not fit, see :mod:`.resuming`, or
                more iterations are done than ``SOLVER.MAX_ITER``.
        """
        if (done := state_dict["iteration"] + 1) > self.max_iter:
            raise ValueError(
                f"--resume: SOLVER.MAX_ITER is {self.max_iter}, and {done} iterations are done: "
                f"raise {self._length_key} to go on, or evaluate with --eval-only"
            )
        optimizer = self._trainer.optimizer
        check_same_optimizer(self.cfg, optimizer, state_dict["_trainer"]["optimizer"])
        own = [dict(group) for group in optimizer.param_groups]
        super().load_state_dict(state_dict)
        use_own_values(optimizer, self.scheduler, own)
        self.data_loader.load_state_dict(state_dict.get("stream"), self.iter + 1)
        modules = dict(self._bare_model().named_modules())
        for name, value in state_dict.get("loss_normalizers", {}).items():
            setattr(modules[name], _NORMALIZER, value)

    def _bare_model(self) -> nn.Module:
        model: Any = self.model
        return getattr(model, "module", model)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model, of YAML with its synchronised norms replaced where they cannot run."""
        if lazy := cfg.MODEL.get("PYTHON_CONFIG"):
            return instantiate(load_lazy(*lazy).model).to(cfg.MODEL.DEVICE)
        return super().build_model(replace_sync_bn(cfg))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`dnl_det.engine.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """See :func:`dnl_det.engine.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainingStream:
        """See :class:`dnl_det.data.TrainingStream`."""
        return TrainingStream(cfg)

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
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """detectron2's; an image or labels that cannot be used end the program, and are named."""
        try:
            results: dict[str, Any] = super().test(cfg, model, evaluators)
        except LabelError as error:
            sys.exit(f"error: {error}")
        except UnreadableImageError as error:
            sys.exit(
                f"error: evaluation stopped at an image that changed since the start: {error}. "
                "Correct it, or remove its entry; python -m dnl_det check-data finds others."
            )
        return results

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate with the test-time augmentation of ``TEST.AUG``; keys end with ``_TTA``.

        Raises:
            ValueError: it does not work with this detector.
        """
        check_test_augmentation(cfg)
        logging.getLogger(__name__).info("Evaluating with test-time augmentation ...")
        folder = f"{cfg.OUTPUT_DIR}/inference_TTA"
        evaluators = [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST]
        augmented: nn.Module
        if isinstance(getattr(model, "module", model), SemanticSegmentor):
            augmented = SemanticSegmentorWithTTA(cfg, model)
        else:
            augmented = GeneralizedRCNNWithTTA(cfg, model)
        results = cls.test(cfg, augmented, evaluators)
        return OrderedDict((f"{key}_TTA", value) for key, value in results.items())
