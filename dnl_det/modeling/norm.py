"""Synchronised BatchNorm where torch's own cannot run."""

import logging
from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import log_first_n


def replace_sync_bn(cfg: CfgNode) -> CfgNode:
    """The config with every ``NORM: SyncBN`` replaced where it cannot or need not synchronise.

    One process has nothing to synchronise: plain ``BN``. Several processes on CPUs: detectron2's
    ``naiveSyncBN_N``, since torch's layer takes no CPU tensors (the variant that weights a
    process by its batch, which may be empty in the mask head). Several GPUs: unchanged. All
    three have the same parameters and state.

    Args:
        cfg: any detectron2 config; not changed.

    Returns:
        ``cfg`` itself where nothing is replaced, else a copy. The replacement is logged once.
    """
    if comm.get_world_size() > 1 and cfg.MODEL.DEVICE != "cpu":
        return cfg
    if not any(node["NORM"] == "SyncBN" for node in _nodes_with_norm(cfg)):
        return cfg
    norm, why = "BN", "one process has nothing to synchronise"
    if comm.get_world_size() > 1:
        norm, why = "naiveSyncBN_N", "torch's SyncBN needs GPUs"

    cfg = cfg.clone()
    cfg.defrost()
    for node in _nodes_with_norm(cfg):
        if node["NORM"] == "SyncBN":
            node["NORM"] = norm
    message = f"NORM: SyncBN is replaced by {norm} in this run: {why}."
    log_first_n(logging.INFO, message, name=__name__, key="message")
    return cfg


def _nodes_with_norm(node: CfgNode) -> Iterator[CfgNode]:
    if isinstance(node.get("NORM"), str):
        yield node
    for child in node.values():
        if isinstance(child, CfgNode):
            yield from _nodes_with_norm(child)
