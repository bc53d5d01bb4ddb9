"""Training: the command line, the trainer and the optimizer."""

from .attention_monitor import AttentionMonitor
from .command_line import (
    argument_parser,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    fall_back_to_cpu,
    load_config,
    setup,
)
from .kept_inputs import config_inputs
from .launch import check_processes, launch
from .optimizer import build_optimizer
from .predictor import Predictor
from .stopping import exit_on_signal
from .trainer import Trainer

__all__ = [
    "AttentionMonitor",
    "Predictor",
    "Trainer",
    "argument_parser",
    "build_optimizer",
    "check_processes",
    "config_inputs",
    "drop_expectations_unless_trained",
    "exit_on_bad_input",
    "exit_on_signal",
    "fall_back_to_cpu",
    "launch",
    "load_config",
    "setup",
]
