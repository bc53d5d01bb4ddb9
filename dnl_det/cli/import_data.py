"""Convert YOLO, Pascal VOC, CVAT or LabelMe annotations to COCO's format, and check them.

examples:
  python -m dnl_det import-data labels/train --format yolo --images images/train --output train.json
  python -m dnl_det import-data Annotations --format voc --images JPEGImages --output voc.json
  python -m dnl_det import-data annotations.xml --format cvat --images images --output cvat.json
  python -m dnl_det import-data photos --format labelme --images photos --output labelme.json

Boxes and polygons become boxes and masks. What is passed over is counted. Then the data set is
checked as check-data does; the exit status is 1 if that finds an error.
"""

import argparse
import json
from pathlib import Path

from detectron2.utils.logger import setup_logger

from ..checkpoint.tensor_files import require
from ..data.checks import Use, checked
from ..data.imported import as_coco
from ..data.label_folders import read_classes
from ..engine import exit_on_bad_input
from ..files import refuse_to_overwrite, write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add = parser.add_argument
    add("annotations", metavar="PATH", help="the folder of the annotations; of cvat its XML file")
    kinds = ("cvat", "labelme", "voc", "yolo")
    add("--format", required=True, choices=kinds, help="of the annotations")
    add("--images", required=True, metavar="DIR", help="the folder of the images")
    add("--output", required=True, metavar="FILE", help="the .json to write, in COCO's format")
    text = (
        "names of the classes, A,B,C or a text file: of yolo in the order of their numbers "
        "(default: those of data.yaml or classes.txt); of the others the order of their ids "
        "(default: the alphabet's)"
    )
    add("--classes", default="", metavar="NAMES", help=text)


def run(args: argparse.Namespace) -> int:
    """Read, convert, write, check."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        require("globox", "import-data")
        from ..data.other_formats import Source, read

        path, images, output = Path(args.annotations), Path(args.images), Path(args.output)
        if not images.is_dir():
            raise FileNotFoundError(f"--images: there is no folder {images}")
        if not (path.is_file() if args.format == "cvat" else path.is_dir()):
            what = "file" if args.format == "cvat" else "folder"
            raise FileNotFoundError(f"PATH: there is no {what} {path}")
        if output.suffix != ".json" or not output.parent.is_dir():
            raise ValueError(f"--output: {output} must end in .json, in a folder that is there")
        if args.format == "labelme" and output.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"--output: {output} lies among the annotations: name another folder")
        source = Source(path, images, read_classes(args.classes) if args.classes else ())
        found = read(args.format, source)
        content = as_coco(found, source.classes)
        refuse_to_overwrite([output], [*source.files, args.classes])
        with write_whole(output) as file:
            file.write(json.dumps(content).encode())
        for what, count in source.passed.items():
            print(f"not read: {count} {what}")
        use = Use(thorough=True, progress=True)
        report = checked(output.name, str(output), str(images), use).report
        print(report.text(5))
    print(f"Wrote {output}: --train-json {output} --train-images {images} of train_net.py")
    return int(report.has_errors)
