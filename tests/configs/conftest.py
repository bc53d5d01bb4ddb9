"""Loading a config by its name, and building its model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

from dnl_det import add_dnl_config
from dnl_det.modeling import replace_sync_bn


@pytest.fixture(scope="session")
def load(root: Path) -> Callable[[str], CfgNode]:
    """A function from a name in ``configs``, without ``.yaml``, to its config."""

    def load_config(name: str) -> CfgNode:
        cfg = get_cfg()
        add_dnl_config(cfg)
        cfg.merge_from_file(str(root / "configs" / f"{name}.yaml"))
        return cfg

    return load_config


@pytest.fixture(scope="session")
def build(load: Callable[[str], CfgNode]) -> Callable[..., nn.Module]:
    """A function from a name in ``configs`` to its model, with random weights.

    On the device ``meta`` it has shapes without values, in a third of the time.
    """

    def build_from_config(name: str, device: str = "cpu") -> nn.Module:
        cfg = replace_sync_bn(load(name))
        cfg.MODEL.DEVICE = device
        with torch.device(device):
            return build_model(cfg)

    return build_from_config


@pytest.fixture(scope="session")
def flatten() -> Callable[[dict], dict]:
    """A function from nested dicts to one of ``"A.B.KEY"``."""

    def flatten_dict(node: dict, prefix: str = "") -> dict:
        flat: dict = {}
        for key, value in node.items():
            if isinstance(value, dict):
                flat |= flatten_dict(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = value
        return flat

    return flatten_dict
