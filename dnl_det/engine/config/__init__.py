"""From a command line and its YAML files to a checked config.

Every error names file, key and value, and what is allowed.
"""

from .command_line import (
    argument_parser,
    drop_expectations_unless_trained,
    exit_on_bad_input,
    fall_back_to_cpu,
    load_config,
    setup,
)
from .kept_inputs import config_inputs

__all__ = [
    "argument_parser",
    "config_inputs",
    "drop_expectations_unless_trained",
    "exit_on_bad_input",
    "fall_back_to_cpu",
    "load_config",
    "setup",
]
