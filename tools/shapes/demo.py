#!/usr/bin/env python3
"""Train a small DNL Mask R-CNN on generated data, score it and draw its detections.

What is there already is reused: the data, a finished training, the last checkpoint of one that
was interrupted. Remove the output folder to start over.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from cues import CUES, ap_by_cue
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from PIL import Image
from tqdm import tqdm
from training import ROOT, train

from dnl_det.data import ShapesOptions, write_shapes
from dnl_det.data.shapes import default_root
from dnl_det.engine import Predictor, fall_back_to_cpu, load_config
from dnl_det.evaluation.pictures import draw_annotations, draw_detections

PICTURES = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default=str(ROOT / "configs/Shapes/disentangled.yaml"))
    parser.add_argument(
        "--iterations", type=int, default=1000, help="of training; the config's own are 2000"
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), metavar="DIR")
    args = parser.parse_args()
    start = time.monotonic()

    shapes = default_root() / "shapes"
    print(f"[1/3] Shapes: the data set, in {shapes}", flush=True)
    if not shapes.exists():
        write_shapes(shapes, ShapesOptions())
    print(f"[2/3] Training {args.config_file}; the log is {args.output}/log.txt", flush=True)
    results = train(args.config_file, args.iterations, args.output)
    print(f"[3/3] Drawing {PICTURES} images, detections left and annotations right", flush=True)
    draw(args.config_file, args.output)

    print(f"\n{'AP on shapes_val, per cent':<36}{'box':>6}{'mask':>7}")
    print(f"{'all classes':<36}{results['bbox/AP']:>6.1f}{results['segm/AP']:>7.1f}")
    box, mask = (ap_by_cue(results, task) for task in ("bbox", "segm"))
    for cue, title in CUES.items():
        print(f"{title:<36}{box[cue]:>6.1f}{mask[cue]:>7.1f}")
    print(f"\nmodel     {args.output}/model_final.pth")
    print(f"pictures  {args.output}/pictures")
    print(f"curves    {Path(sys.executable).parent}/tensorboard --logdir {args.output}")
    print(f"took      {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def draw(config_file: str, output: Path) -> None:
    """Write the first validation images with detections and annotations into ``pictures``."""
    cfg = load_config(config_file, ["MODEL.WEIGHTS", str(output / "model_final.pth")])
    fall_back_to_cpu(cfg)
    predictor = Predictor(cfg)
    (output / "pictures").mkdir(exist_ok=True)
    name = cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    for record in tqdm(DatasetCatalog.get(name)[:PICTURES], unit="image", desc="      draw"):
        image = read_image(record["file_name"], format="BGR")
        found = draw_detections(image, predictor(image)["instances"], metadata, threshold=0.5)
        gap = np.full_like(found[:, :8], 255)
        sheet = np.hstack([found, gap, draw_annotations(image, record, metadata)])
        file = output / "pictures" / f"{Path(record['file_name']).stem}.png"
        Image.fromarray(sheet).save(file)


if __name__ == "__main__":
    sys.exit(main())
