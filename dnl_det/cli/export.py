"""Write a detector as one file for machines without this package: TorchScript, torch.export, ONNX.

example:
  python -m dnl_det export --config-file configs/Shapes/disentangled.yaml \\
      --weights output/shapes/model_final.pth photo1.jpg photo2.jpg --output model.onnx

The ending says the format: .pt is TorchScript, .pt2 torch.export, .onnx ONNX. The graph takes
images of other sizes than the example's. The file gets its name once it has found what the model
finds, in the photos and in the upper three quarters of each. Without photos two generated pictures
are taken.

Input: image, uint8 (3, H, W), resized as INPUT says, in the order of INPUT.FORMAT. Outputs: boxes
(D, 4), x1, y1, x2, y2 in its pixels; scores (D,); classes (D,), from 0 on; masks (D, 1, 28, 28),
probabilities within each box. MMDet1RCNN has a second input: scale, float32 (4,), the image's
width, height, width, height over the original's. `predict --model` does what is before and after.
"""

import argparse

import numpy as np
from detectron2.utils.logger import setup_logger

from ..data.shapes import ShapesOptions
from ..data.shapes.scene import make_scene
from ..engine import exit_on_bad_input, export
from ..engine.export import ENDINGS, format_of
from ..files import refuse_to_overwrite
from .inputs import add_model_arguments, files_read, read_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="photos to compare both on")
    add_model_arguments(parser, output="the file to write: .pt, .pt2 or .onnx")
    text = "of the file (default: by its ending)"
    parser.add_argument("--format", choices=ENDINGS, help=text)


def run(args: argparse.Namespace) -> int:
    """Load, export, compare, write."""
    setup_logger(name="dnl_det")
    with exit_on_bad_input():
        kind = format_of(args.output, "--output")
        if args.format not in (None, kind):
            raise ValueError(
                f"--output: {args.output} must end in {ENDINGS[args.format]} with --format "
                f"{args.format}"
            )
        given = read_inputs(args, device="cpu")
        refuse_to_overwrite([args.output], files_read(given.predictor.cfg, args))
        images = [given.image(index) for index in range(len(args.images))] or _generated()
        ids = given.metadata.thing_dataset_id_to_contiguous_id
        result = export(given.predictor, args.output, images, given.class_names, list(ids))
    print(f"{args.output}: {kind}, compared with the model on {2 * len(images)} images:")
    if not result.detections:
        print("Neither finds anything there, which says little: give photos with its objects.")
        return 0
    print(
        f"the same {result.detections} detections; boxes differ by up to {result.box:.1e} pixels, "
        f"scores by {result.score:.1e}, masks in {result.pixels:.2%} of their pixels"
    )
    return 0


def _generated() -> list[np.ndarray]:
    """Two pictures of Shapes, BGR."""
    scenes = (make_scene(ShapesOptions(), "val", index) for index in range(2))
    return [np.ascontiguousarray(scene.image[:, :, ::-1]) for scene in scenes]
