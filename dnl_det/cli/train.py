"""Train a detector with attention in its backbone, or evaluate one."""

import argparse
import logging
from typing import Any

from detectron2.engine import hooks
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from torch import nn

from ..checkpoint import Checkpointer, WeightsNotFetchedError, check_finite
from ..engine import (
    Trainer,
    check_processes,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    exit_on_signal,
    launch,
    setup,
    trainer_class,
)

logger = logging.getLogger("dnl_det")


def evaluate(cfg: Any, args: argparse.Namespace) -> dict[str, Any]:
    with exit_on_bad_input():
        model = Trainer.build_model(cfg)
        rest = load_for_evaluation(cfg, model, args)
    cfg = drop_expectations_unless_trained(cfg, rest)
    with exit_on_signal("the evaluation"):
        results = trainer_class(cfg).test(cfg, model)
        if cfg.TEST.AUG.ENABLED:
            results.update(Trainer.test_with_tta(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def load_for_evaluation(cfg: Any, model: nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    checkpointer = Checkpointer(model, save_dir=cfg.OUTPUT_DIR, complete=True)
    try:
        rest = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    except WeightsNotFetchedError as error:
        # A config's own weights are the start of a training, with random heads: without them too
        # the AP is that of an untrained detector. Weights that were asked for are another matter.
        if any(word.startswith(("MODEL.WEIGHTS", "train.init_checkpoint")) for word in args.opts):
            raise
        logger.warning(f"{error} Evaluating a random start: the AP says nothing.")
        return {}
    check_finite(model)
    return rest


def train(cfg: Any, args: argparse.Namespace) -> dict[str, Any] | None:
    with exit_on_bad_input():
        trainer = trainer_class(cfg)(cfg)
        trainer.resume_or_load(resume=args.resume)
    if cfg.TEST.AUG.ENABLED:
        augmented = hooks.EvalHook(0, lambda: Trainer.test_with_tta(trainer.cfg, trainer.model))
        trainer.register_hooks([augmented])
    return trainer.train()


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    with exit_on_bad_input():
        cfg = setup(args)
    return evaluate(cfg, args) if args.eval_only else train(cfg, args)


def run(args: argparse.Namespace) -> int:
    """Train or evaluate in as many processes as are asked for.

    Args:
        args: of :func:`dnl_det.engine.argument_parser`.
    """
    with exit_on_bad_input():
        check_processes(args)
    launch(main, args)
    return 0
