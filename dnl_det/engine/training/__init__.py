"""The training: the trainer, its steps, its length, how it stops and how it goes on."""

from .launch import check_processes, launch
from .optimizer import build_optimizer
from .stopping import exit_on_signal
from .trainer import Trainer

__all__ = ["Trainer", "build_optimizer", "check_processes", "exit_on_signal", "launch"]
