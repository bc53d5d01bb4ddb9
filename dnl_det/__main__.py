"""Train, evaluate, use and look into detectors with attention in their backbones."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .cli import train
from .engine import argument_parser

# All but train, whose options are detectron2's.
COMMANDS = (
    "benchmark",
    "blocks",
    "check-data",
    "compare",
    "convert",
    "diagnose",
    "explore",
    "export",
    "import-data",
    "predict",
    "report",
    "shapes",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each module in ``dnl_det.cli`` has ``add_arguments``, ``run``."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    program = "python -m dnl_det" if as_module else "dnl-det"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"dnl_det.cli.{name.replace('-', '_')}")
        text = (module.__doc__ or "").strip()
        subparser = subparsers.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    options = argument_parser()
    subparsers.add_parser(
        "train",
        help=train.__doc__,
        description=train.__doc__,
        epilog=options.epilog,
        parents=[options],
        add_help=False,  # options has it
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).set_defaults(run=train.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    args = build_parser().parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
