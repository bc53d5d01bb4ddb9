"""SyncBN in a config, in one process and in several without a GPU."""

import logging

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import get_cfg
from detectron2.layers import NaiveSyncBatchNorm, get_norm
from detectron2.utils import comm, logger
from torch import nn

from dnl_det.modeling import replace_sync_bn

KEYS = ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD", "SEM_SEG_HEAD")


def config():
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    for key in KEYS[:-1]:
        cfg.MODEL[key].NORM = "SyncBN"
    cfg.MODEL.SEM_SEG_HEAD.NORM = "GN"
    cfg.freeze()
    return cfg


def test_one_process_gets_plain_bn_and_one_log_line(caplog):
    cfg = config()
    logger._LOG_COUNTER.clear()  # another test may have logged the line already
    with caplog.at_level(logging.INFO, logger="dnl_det"):
        replaced = [replace_sync_bn(cfg) for _ in range(3)][-1]
    assert [replaced.MODEL[key].NORM for key in KEYS] == ["BN", "BN", "BN", "BN", "GN"]
    assert [cfg.MODEL[key].NORM for key in KEYS[:-1]] == ["SyncBN"] * 4
    assert sum("SyncBN is replaced by BN" in r.getMessage() for r in caplog.records) == 1


def test_without_syncbn_the_config_is_returned_itself():
    cfg = get_cfg()
    assert replace_sync_bn(cfg) is cfg


@pytest.mark.parametrize(("device", "expected"), [("cuda", "SyncBN"), ("cpu", "naiveSyncBN_N")])
def test_several_processes(monkeypatch, device, expected):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    cfg = config().clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    norm = replace_sync_bn(cfg).MODEL.FPN.NORM
    assert norm == expected


def test_the_three_norms_share_their_state():
    keys = [get_norm(name, 4).state_dict().keys() for name in ("BN", "SyncBN", "naiveSyncBN_N")]
    assert keys[0] == keys[1] == keys[2]


def layer():
    torch.manual_seed(1)
    norm = NaiveSyncBatchNorm(4, stats_mode="N")
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), norm).double().train()


def data():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(6, 3, 5, 7, generator=generator, dtype=torch.float64)


def worker(rank, port, queue):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    for split in (3, 2, 0):  # equal parts, unequal ones, and an empty batch in one process
        module, x = layer(), data()
        module(x[:split] if rank == 0 else x[split:]).pow(3).sum().backward()
        gradients = [p.grad for p in module.parameters()]
        for gradient in gradients:
            dist.all_reduce(gradient)
        if rank == 0:
            queue.put([gradient.tolist() for gradient in gradients])
    dist.barrier()
    dist.destroy_process_group()


def test_two_cpu_processes_give_the_gradients_of_one(free_port):
    module = layer()
    reference = nn.Sequential(module[0], nn.BatchNorm2d(4).double()).train()
    reference(data()).pow(3).sum().backward()
    queue = mp.get_context("spawn").SimpleQueue()
    processes = mp.spawn(worker, (free_port, queue), nprocs=2, join=False)
    while not processes.join():
        pass
    for _ in range(3):
        for actual, parameter in zip(queue.get(), reference.parameters(), strict=True):
            wanted = parameter.grad
            torch.testing.assert_close(
                torch.tensor(actual).to(wanted), wanted, rtol=1e-6, atol=1e-6
            )
