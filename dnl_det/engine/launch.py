"""Start one process or many: detectron2's launcher, or under ``torchrun``."""

import argparse
import os
import signal
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# The exit status of a process that ended on a signal in good order.
_OF_SIGNALS = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Call ``main(args)`` in every process that the command line or ``torchrun`` asks for.

    Without a GPU, processes talk over gloo and ``--num-gpus`` counts CPU processes. Where a signal
    ends them, this one exits with their status.
    """
    if _under_torchrun():
        _run_under_torchrun(main, args)
        return
    try:
        detectron2_launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except KeyboardInterrupt:
        if args.num_gpus * args.num_machines == 1:
            raise
        sys.exit(128 + signal.SIGINT)  # Ctrl-C, which they got as well: they say what they do
    except ProcessExitedException as error:
        if error.exit_code not in _OF_SIGNALS:
            raise
        sys.exit(error.exit_code)


def check_processes(args: argparse.Namespace) -> None:
    """Check that a GPU is there for every process, where there are GPUs at all.

    Raises:
        ValueError: more processes on this machine than GPUs.
    """
    wanted, option = args.num_gpus, "--num-gpus"
    if _under_torchrun():
        wanted, option = int(os.environ["LOCAL_WORLD_SIZE"]), "torchrun --nproc-per-node"
    if torch.cuda.is_available() and wanted > torch.cuda.device_count():
        raise ValueError(
            f"{option} {wanted}: this machine has {torch.cuda.device_count()} GPUs; ask for as "
            "many or fewer"
        )


def _under_torchrun() -> bool:
    return all(name in os.environ for name in _TORCHRUN)


def _run_under_torchrun(
    main: Callable[[argparse.Namespace], object], args: argparse.Namespace
) -> None:
    use_gpu = torch.cuda.is_available()
    if use_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if use_gpu else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        main(args)
    finally:
        dist.destroy_process_group()
