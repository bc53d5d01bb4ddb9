"""From a command line to a checked config."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ...config import add_dnl_config
from ...data.checks import prepare_data
from ...data.images import check_image_keys
from ...data.own_data import roboflow_keys, use_own_data
from ...evaluation import check_cityscapes
from ...modeling import BLOCK_KEYS, check_dnl_config, check_test_augmentation
from .config_files import merge_file, merge_overrides
from .kept_inputs import config_file_kept, protect_inputs
from .lazy_files import is_lazy, lazy_keys, load_lazy
from .solver import check_schedule, check_solver

_EPILOG = """
Examples:

    train      %(prog)s --config-file CONFIG
    ... on 8 GPUs        --num-gpus 8          ... go on after a stop    --resume
    evaluate   %(prog)s --config-file CONFIG --eval-only MODEL.WEIGHTS model.pth
    own data   %(prog)s --config-file CONFIG --train-json train.json \\
                   --train-images images/ --val-json val.json --val-images images/ --epochs 12
    ... of semantic segmentation:  --train-images images/ --train-labels labels/ \\
                   --val-images images/ --val-labels labels/ --classes road,car,sky
    any key    ... SOLVER.IMS_PER_BATCH 4 SOLVER.BASE_LR 0.005 OUTPUT_DIR output/mine
"""
# Of one's own data, by the end of their options.
_KINDS = {
    "json": "COCO-format annotations",
    "images": "folder of the images",
    "labels": "folder of the label PNGs, for semantic segmentation,",
}
# Keys on which a published AP does not depend; see setup.
_HARMLESS = (
    "OUTPUT_DIR",
    "MODEL.WEIGHTS",
    "MODEL.DEVICE",
    "SEED",
    "DATALOADER.NUM_WORKERS",
    "TEST.EVAL_PERIOD",
    "SOLVER.CHECKPOINT_PERIOD",
    "VIS_PERIOD",
    "MODEL.DNL.MONITOR_TIMES",
    "MODEL.DNL.MONITOR_SHARE",
    "CUDNN_BENCHMARK",
)
_COCO_VAL_IMAGES = 5000


def argument_parser() -> argparse.ArgumentParser:
    """detectron2's command line, one's own data, and the length in epochs."""
    parser = default_argument_parser(epilog=_EPILOG)
    text = "folder that Roboflow has exported as COCO, in place of the next options: train/, valid/"
    parser.add_argument("--data", default="", metavar="DIR", help=text)
    for split in ("train", "val"):
        for kind, what in _KINDS.items():
            key = f"DATASETS.{split.upper()}_{kind.upper()}"
            text = f"{what} of your own {split} data ({key})"
            parser.add_argument(f"--{split}-{kind}", default="", metavar="PATH", help=text)
    text = "names of the classes of labels: A,B,C or a text file (DATASETS.CLASSES)"
    parser.add_argument("--classes", default="", metavar="NAMES", help=text)
    text = "length of the training, its steps and warm-up adapted (SOLVER.EPOCHS)"
    parser.add_argument("--epochs", default="", metavar="N", help=text)
    return parser


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """A config file over detectron2's and this project's defaults.

    Args:
        config_file: a YAML file, or a Python config, which runs.
        overrides: ``KEY, VALUE, KEY, VALUE, ...``; of a Python config ``KEY=VALUE, ...``.

    Returns:
        The config, not frozen.

    Raises:
        ValueError: no file given, one that cannot be read, overrides that are not pairs of a key
            and a value, an unknown key, or a value that is not allowed.
    """
    if not config_file:
        raise ValueError(
            "--config-file is missing: give one, such as a file in configs/ "
            "or what dnl_det.model_zoo.get_config_file returns"
        )
    if is_lazy(config_file):
        return lazy_keys(config_file, overrides)
    cfg = get_cfg()
    add_dnl_config(cfg)
    merge_file(cfg, config_file)
    merge_overrides(cfg, overrides)
    check_dnl_config(cfg)
    check_solver(cfg)
    check_image_keys(cfg)
    if cfg.TEST.AUG.ENABLED:
        check_test_augmentation(cfg)
    _warn_of_unused_keys(cfg)
    return cfg


def _warn_of_unused_keys(cfg: CfgNode) -> None:
    """Keys of ``MODEL.DNL`` that were set and that its block does not have."""
    defaults = get_cfg()
    add_dnl_config(defaults)
    used = BLOCK_KEYS.get(cfg.MODEL.DNL.BLOCK, {})
    for key in {key for keys in BLOCK_KEYS.values() for key in keys if key not in used}:
        if cfg.MODEL.DNL.BLOCK != "none" and cfg.MODEL.DNL[key] != defaults.MODEL.DNL[key]:
            logging.getLogger(__name__).warning(
                f"MODEL.DNL.{key}: {cfg.MODEL.DNL[key]!r} has no effect: BLOCK "
                f"{cfg.MODEL.DNL.BLOCK} has {', '.join(used) or 'no keys'}"
            )


def fall_back_to_cpu(cfg: CfgNode) -> None:
    """``MODEL.DEVICE: cuda`` becomes ``cpu`` where there is no CUDA device, with a log line."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        logging.getLogger(__name__).info("MODEL.DEVICE: cpu, since there is no CUDA device.")


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """End the program with an error's message alone, and exit status 1.

    For what is checked before a run starts, where the message says what to do. An error in the
    middle of a run keeps its traceback, and so do these with DNL_DET_TRACEBACK=1.
    """
    try:
        yield
    except (ValueError, KeyError, OSError) as error:
        if os.environ.get("DNL_DET_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"error: {message}")


def setup(args: argparse.Namespace) -> CfgNode:
    """Build, check and log the config of a run; everything that can be told before it is.

    Args:
        args: of :func:`argument_parser`.

    Returns:
        The frozen config.

    Raises:
        ValueError, KeyError, FileNotFoundError: what is wrong with a key or a data set.
    """
    given = _overrides(args)
    cfg = load_config(args.config_file, given)
    lazy = is_lazy(args.config_file)
    try:
        setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="dnl_det")
    except OSError as error:
        raise OSError(
            f"OUTPUT_DIR: {cfg.OUTPUT_DIR!r} cannot be written to ({error}): name another folder, "
            "or make it writable"
        ) from error
    fall_back_to_cpu(cfg)
    if not lazy:
        check_schedule(cfg, args.config_file, given[::2])
    own_data = use_own_data(cfg, will_be_checked=True)
    protect_inputs(cfg, args)
    for name in cfg.DATASETS.TEST:
        check_cityscapes(name)
    sizes = prepare_data(cfg, not args.eval_only, os.path.join(cfg.OUTPUT_DIR, "annotations"))
    if own_data or any(key not in _HARMLESS for key in given[::2]):
        _drop_expectations(cfg, "this is not the config's own run")
    if sizes.get("coco_2017_val", _COCO_VAL_IMAGES) != _COCO_VAL_IMAGES:
        _drop_expectations(cfg, "coco_2017_val is not complete here")
    if not args.eval_only and cfg.SOLVER.REFERENCE_WORLD_SIZE not in (0, comm.get_world_size()):
        _drop_expectations(cfg, "another number of processes trains with another batch")
    cfg.freeze()
    with config_file_kept(cfg, args.config_file):
        default_setup(load_lazy(*cfg.MODEL.PYTHON_CONFIG) if lazy else cfg, args)
    return cfg


def drop_expectations_unless_trained(cfg: CfgNode, checkpoint: Mapping[str, Any]) -> CfgNode:
    """Empty ``TEST.EXPECTED_RESULTS`` where the weights are not those of a finished training.

    Args:
        cfg: frozen.
        checkpoint: what the file had besides the model: ``iteration``, the last one, counted from
            0, or ``converted`` if it is one of the authors' models.

    Returns:
        A frozen copy, or ``cfg`` itself.
    """
    if not cfg.TEST.EXPECTED_RESULTS:
        return cfg
    if "converted" in checkpoint or checkpoint.get("iteration", -1) + 1 >= cfg.SOLVER.MAX_ITER:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    _drop_expectations(cfg, "the weights are not those of a finished training of this config")
    cfg.freeze()
    return cfg


def _overrides(args: argparse.Namespace) -> list[str]:
    own = roboflow_keys(args.data) if args.data else []
    names = [f"{split}_{kind}" for split in ("train", "val") for kind in _KINDS]
    for name in (*names, "classes"):
        if value := getattr(args, name):
            own += [f"DATASETS.{name.upper()}", value]
    if args.epochs:
        own += ["SOLVER.EPOCHS", args.epochs]
    if own and is_lazy(args.config_file):
        raise ValueError(
            f"{own[0]} is of YAML configs: register the data in the Python config, by "
            "detectron2.data.datasets.register_coco_instances, and name it in dataloader"
        )
    return own + list(args.opts or [])


def _drop_expectations(cfg: CfgNode, why: str) -> None:
    if cfg.TEST.EXPECTED_RESULTS:
        cfg.TEST.EXPECTED_RESULTS = []
        logging.getLogger(__name__).info(f"TEST.EXPECTED_RESULTS is not verified: {why}.")
