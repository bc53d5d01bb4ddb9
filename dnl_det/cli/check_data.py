"""Check a data set before training: files, sizes, ids, categories, masks, labels, all at once.

examples:
  python -m dnl_det check-data --json train.json --images images/
  python -m dnl_det check-data --labels labels/ --images images/ --classes road,car,sky
  python -m dnl_det check-data --config-file configs/Shapes/disentangled.yaml
  python -m dnl_det check-data --config-file CONFIG --opts DATASETS.TRAIN_JSON train.json \\
      DATASETS.TRAIN_IMAGES images/

Prints every kind of finding with its count and the first files and ids: errors, which have to be
corrected; what is skipped or repaired, in a training by itself; and notes. The exit status is 1
with an error, 0 without. train_net.py checks the same, but decodes images only if they are few or
end early. What each code means: dnl_det/data/checks/FAULTS.md.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.utils.logger import setup_logger

from ..data.checks import Report, Use, check_config, check_dataset, checked
from ..data.checks.json_file import MAX_JSON_MB
from ..data.label_folders import read_classes, register_labels
from ..data.own_data import use_own_data
from ..engine import config_inputs, exit_on_bad_input, load_config
from ..files import refuse_to_overwrite, write_whole
from .inputs import add_opts_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--json", metavar="FILE", help="annotations in COCO's format")
    parser.add_argument("--images", metavar="DIR", help="the folder that its file names are in")
    text = "in place of --json: label PNGs of semantic segmentation, named as the images"
    parser.add_argument("--labels", metavar="DIR", help=text)
    text = "of --labels: the names of the classes, A,B,C or a text file"
    parser.add_argument("--classes", metavar="NAMES", default="", help=text)
    text = "of --labels: the label of pixels that do not count (default %(default)s)"
    parser.add_argument("--ignore", type=int, default=255, metavar="LABEL", help=text)
    parser.add_argument(
        "--evaluation",
        action="store_true",
        help="of --json or --labels: they are evaluated, so that no image may be left out",
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="check DATASETS.TRAIN and TEST of a config instead, and its classes",
    )
    parser.add_argument("--output", metavar="FILE", help="write all findings there, as JSON")
    parser.add_argument(
        "--examples", type=int, default=5, help="files and ids printed of each kind (default 5)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="as train_net.py does: do not decode all images"
    )
    parser.add_argument(
        "--max-json-mb",
        type=int,
        default=MAX_JSON_MB,
        metavar="MB",
        help="of --json: the largest file that is read (default %(default)s)",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check, print, write."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        _check(args)
        reports = _reports(args)
        for report in reports:
            print(report.text(args.examples))
        if args.output:
            content = json.dumps([report.as_json() for report in reports], indent=1)
            with write_whole(Path(args.output)) as file:
                file.write(content.encode())
            print(f"All findings: {args.output}")
    return int(any(report.has_errors for report in reports))


def _check(args: argparse.Namespace) -> None:
    annotations = args.json or args.labels
    if bool(annotations) != bool(args.images):
        given = "--images" if args.images else "--json" if args.json else "--labels"
        missing = "--images" if annotations else "--json"
        raise ValueError(f"{given} is given and {missing} is not: give both")
    if bool(args.json) + bool(args.labels) + bool(args.config_file) != 1:
        raise ValueError(
            "give either --json and --images, or --config-file, or --labels, --images and --classes"
        )
    if bool(args.labels) != bool(args.classes):
        given, missing = ("--labels", "--classes") if args.labels else ("--classes", "--labels")
        raise ValueError(f"{given} is given and {missing} is not: give both")
    if args.opts and not args.config_file:
        raise ValueError("--opts: config overrides need --config-file")
    if args.examples < 0:
        raise ValueError(f"--examples: {args.examples} must be at least 0")
    if args.output and not Path(args.output).parent.is_dir():
        raise FileNotFoundError(f"--output: there is no folder {Path(args.output).parent}")


def _protect(args: argparse.Namespace, folder: str | None, inputs: Sequence[str]) -> None:
    """Refuse an ``--output`` that is read: a file of annotations or a config, or an image."""
    if not args.output:
        return
    refuse_to_overwrite([args.output], inputs)
    output = Path(args.output).resolve()
    in_images = folder and output.is_relative_to(Path(folder).resolve())
    if in_images and output.exists() and output.suffix.lower() != ".json":
        raise ValueError(f"--output: {args.output} is a file in the folder of the images")


def _reports(args: argparse.Namespace) -> list[Report]:
    if args.json:
        _protect(args, args.images, [args.json])
        use = Use(
            evaluation=args.evaluation,
            max_json_mb=args.max_json_mb,
            thorough=not args.quick,
            progress=True,
        )
        return [checked(Path(args.json).name, args.json, args.images, use).report]
    if args.labels:
        _protect(args, args.images, [args.classes])
        _protect(args, args.labels, [])
        classes = read_classes(args.classes)
        register_labels(args.labels, args.images, args.labels, classes, args.ignore)
        use = Use(evaluation=args.evaluation, labels=True, thorough=not args.quick, progress=True)
        return [check_dataset(args.labels, use).report]
    cfg = load_config(args.config_file, args.opts)
    use_own_data(cfg, will_be_checked=True)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        known = MetadataCatalog.get(name)
        _protect(args, known.get("image_root"), [known.get("json_file")])
        _protect(args, known.get("sem_seg_root"), [])
    _protect(args, None, config_inputs(cfg, args.config_file))
    found = check_config(cfg, thorough=not args.quick, progress=True)
    return [one.report for one in found]
