"""Training: the command line, the trainer and the optimizer."""

from .config.command_line import (
    argument_parser,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    fall_back_to_cpu,
    load_config,
    setup,
)
from .config.kept_inputs import config_inputs
from .export import ExportedDetector, export
from .monitor.attention_monitor import AttentionMonitor
from .predictor import Predictor
from .training.augmented_segmentor import SemanticSegmentorWithTTA
from .training.launch import check_processes, launch
from .training.lazy import LazyTrainer, trainer_class
from .training.optimizer import build_lr_scheduler, build_optimizer, clip_whole_gradient
from .training.stopping import at_first_signal, exit_on_signal
from .training.trainer import Trainer

__all__ = [
    "AttentionMonitor",
    "ExportedDetector",
    "LazyTrainer",
    "Predictor",
    "SemanticSegmentorWithTTA",
    "Trainer",
    "argument_parser",
    "at_first_signal",
    "build_lr_scheduler",
    "build_optimizer",
    "check_processes",
    "clip_whole_gradient",
    "config_inputs",
    "drop_expectations_unless_trained",
    "exit_on_bad_input",
    "exit_on_signal",
    "export",
    "fall_back_to_cpu",
    "launch",
    "load_config",
    "setup",
    "trainer_class",
]
