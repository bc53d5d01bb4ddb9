"""The configs of this project by name, with detectron2's ``model_zoo`` functions.

A name is a path below ``configs/``, which an installed package has in this folder::

    from dnl_det import model_zoo

    cfg = model_zoo.get_config(
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"
    )

Some are Python too, under the same name with ``.py``.
"""

import difflib
from pathlib import Path
from typing import NoReturn

from detectron2.config import CfgNode, LazyConfig
from omegaconf import DictConfig
from torch import nn

from ..checkpoint import Checkpointer
from ..engine import Trainer, fall_back_to_cpu, load_config

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

_IN_PACKAGE = Path(__file__).resolve().parent / "configs"
_FOLDER = _IN_PACKAGE if _IN_PACKAGE.is_dir() else _IN_PACKAGE.parents[2] / "configs"


def get_config_file(config_path: str) -> str:
    """The file of a config.

    Args:
        config_path: its name, such as ``"Shapes/disentangled.yaml"``.

    Returns:
        The absolute path, for ``--config-file``, or for ``_BASE_`` in a config of your own.

    Raises:
        RuntimeError: no such config; the message has the nearest names.
    """
    files = [*_FOLDER.rglob("*.yaml"), *_FOLDER.glob("[A-Z]*/*.py")]
    names = sorted(file.relative_to(_FOLDER).as_posix() for file in files)
    if config_path not in names:
        near = difflib.get_close_matches(config_path, names, cutoff=0)
        raise RuntimeError(
            f"dnl_det.model_zoo has no config {config_path!r}; the nearest are {', '.join(near)}"
        )
    return str(_FOLDER / config_path)


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """A config over the defaults of detectron2 and of this project.

    Args:
        config_path: see :func:`get_config_file`.
        trained: see :func:`get_checkpoint_url`. Without it ``MODEL.WEIGHTS`` is the config's own:
            the ResNet that its training starts from.

    Returns:
        The config, not frozen; of a Python config what ``LazyConfig.load`` returns.

    Raises:
        RuntimeError: no such config, or ``trained``.
    """
    file = get_config_file(config_path)
    cfg = LazyConfig.load(file) if file.endswith(".py") else load_config(file)
    if trained:
        get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """A model with the weights of :func:`get_config`, in training mode.

    Args:
        config_path: see :func:`get_config_file`.
        trained: see :func:`get_config`.
        device: where the model is; by default the config's, or the CPU where there is no GPU.

    Raises:
        RuntimeError: see :func:`get_config`.
        WeightsNotFetchedError: the weights are on the network, which does not answer.
    """
    cfg = get_config(config_path, trained)
    if isinstance(cfg, DictConfig):
        cfg = load_config(get_config_file(config_path))
    if device is None:
        fall_back_to_cpu(cfg)
    else:
        cfg.MODEL.DEVICE = device
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return model


def get_checkpoint_url(config_path: str) -> NoReturn:
    """There is no address of trained weights; the error says how to get a file of them.

    Raises:
        RuntimeError: always.
    """
    file = get_config_file(config_path)
    raise RuntimeError(
        f"dnl_det hosts no trained weights for {config_path}. Use the authors': download a model "
        "from the table in https://github.com/Howal/DNL-Object-Detection, convert it (python -m "
        "dnl_det convert DOWNLOADED model.pth, which names the config that it is for), and set "
        f"MODEL.WEIGHTS to model.pth. Or train: python -m dnl_det train --config-file {file}"
    )
