"""``python -m dnl_det COMMAND``: every tool that is not training."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = ("convert", "predict", "shapes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its module in ``dnl_det.cli`` has ``add_arguments`` and ``run``."""
    parser = argparse.ArgumentParser(prog="python -m dnl_det", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs = {}
    for name in COMMANDS:
        module = importlib.import_module(f"dnl_det.cli.{name}")
        text = (module.__doc__ or "").strip()
        subparser = subparsers.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        runs[name] = module.run
    args = parser.parse_args(argv)
    return runs[args.command](args)


if __name__ == "__main__":
    sys.exit(main())
