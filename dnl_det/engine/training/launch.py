"""Start one process or many: detectron2's launcher, or under ``torchrun``."""

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Call ``main(args)`` in every process that the command line or ``torchrun`` asks for.

    Without a GPU, processes talk over gloo and ``--num-gpus`` counts CPU processes. A SIGTERM is
    passed on to them, and this process waits for them. Where one dies the others are ended, within
    a minute, and the program exits with what it died of.
    """
    if _under_torchrun():
        _run_under_torchrun(main, args)
        return
    several = args.num_gpus * args.num_machines > 1
    before = signal.signal(signal.SIGTERM, _pass_on) if several else None
    try:
        detectron2_launch(
            _run_and_leave,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )
    except KeyboardInterrupt:
        if not several:
            raise
        sys.exit(128 + signal.SIGINT)  # Ctrl-C, which they got as well: they say what they do
    except ProcessExitedException as error:
        if error.signal_name is None or -error.exit_code == signal.SIGTERM:
            sys.exit(abs(error.exit_code) + 128 * (error.exit_code < 0))  # it has said why
        sys.exit(
            f"error: process {error.error_index} was ended by {error.signal_name}"
            + (" (is there no memory left?)" if error.signal_name == "SIGKILL" else "")
            + ", and the others were ended with it. A training goes on from its last checkpoint "
            "by --resume."
        )
    except ProcessRaisedException as error:
        sys.exit(f"error: {str(error).strip()}")
    finally:
        if several:
            signal.signal(signal.SIGTERM, before)


def _run_and_leave(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    main(args)
    leave_group()


def leave_group() -> None:
    """Wait for the other processes and leave their group, if there is one.

    At the end of a process that does not, threads of gloo may abort it.
    """
    if dist.is_initialized():
        comm.synchronize()
        dist.destroy_process_group()


def _pass_on(number: int, frame: FrameType | None) -> None:
    for process in multiprocessing.active_children():
        process.terminate()


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
