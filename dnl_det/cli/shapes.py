"""Write the Shapes data set, whose classes need context: COCO's format and label maps."""

import argparse
import dataclasses
from pathlib import Path

from ..data.shapes import (
    SPLITS,
    ShapesOptions,
    count_categories,
    default_root,
    json_path,
    write_shapes,
)
from ..engine import exit_on_bad_input

EXAMPLES = """\
examples:
  python -m dnl_det shapes    (detectron2 then finds it as shapes_train and shapes_val)
  python -m dnl_det shapes --output /data/easy --num-train 500 --noise 8 --max-overlap 0
  python -m dnl_det shapes --output /data/tags --beacon-share 0 --plain-share 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, ``--overwrite`` and an option for each field of ShapesOptions."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--output",
        type=Path,
        default=default_root() / "shapes",
        metavar="DIR",
        help="folder to make (default: $DETECTRON2_DATASETS/shapes, here %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a Shapes data set with other options"
    )
    for option in dataclasses.fields(ShapesOptions):
        flag = "--" + option.name.replace("_", "-")
        text = f"{option.metadata['help']} (default: {option.default})"
        if option.type is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=option.default, help=text
            )
        else:
            kind = float if option.type is float else int
            parser.add_argument(flag, type=kind, default=option.default, metavar="N", help=text)


def run(args: argparse.Namespace) -> int:
    """Write the data set and print where it is and what is in it."""
    names = [option.name for option in dataclasses.fields(ShapesOptions)]
    with exit_on_bad_input():
        options = ShapesOptions(**{name: getattr(args, name) for name in names})
        written = write_shapes(args.output, options, overwrite=args.overwrite)
    print(f"{'Wrote' if written else 'Already there:'} {args.output}")
    counts = [count_categories(json_path(args.output, split)) for split in SPLITS]
    images = [getattr(options, f"num_{split}") for split in SPLITS]
    print(f"{'':<14}" + "".join(f"{split:>8}" for split in SPLITS))
    print(f"{'images':<14}" + "".join(f"{number:>8}" for number in images))
    for category in counts[0]:
        print(f"{category:<14}" + "".join(f"{count[category]:>8}" for count in counts))
    return 0
