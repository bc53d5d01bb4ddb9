"""Training: the command line, the trainer and the optimizer."""

from .config import (
    argument_parser,
    config_inputs,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    fall_back_to_cpu,
    load_config,
    setup,
)
from .monitor import AttentionMonitor
from .predictor import Predictor
from .training import Trainer, build_optimizer, check_processes, exit_on_signal, launch

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
