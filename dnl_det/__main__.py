"""``python -m dnl_det COMMAND``: every tool that is not training."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = ("benchmark", "check-data", "convert", "diagnose", "explore", "predict", "shapes")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each module in ``dnl_det.cli`` has ``add_arguments``, ``run``."""
    parser = argparse.ArgumentParser(prog="python -m dnl_det", description=__doc__)
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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    args = build_parser().parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
