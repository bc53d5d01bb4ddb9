#!/usr/bin/env python3
"""Train or evaluate a detector from the checkout: what ``dnl-det train`` does."""

from dnl_det.cli.train import run
from dnl_det.engine import argument_parser

if __name__ == "__main__":
    run(argument_parser().parse_args())
