#!/usr/bin/env python3
"""Train a small DNL Mask R-CNN on generated data, score it and draw its detections.

What is there already is reused: the data, a finished training, the last checkpoint of one that
was interrupted. Remove the output folder to start over.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from PIL import Image
from tqdm import tqdm

from dnl_det.data import ShapesOptions, write_shapes
from dnl_det.data.options import OUTLINES_OF_CUE
from dnl_det.data.register import default_root
from dnl_det.engine import Predictor, fall_back_to_cpu, load_config
from dnl_det.evaluation.pictures import draw_annotations, draw_detections

ROOT = Path(__file__).resolve().parents[1]
PICTURES = 12
# A line of detectron2's log: "... eta: 0:05:12  iter: 19  total_loss: 4.448  loss_cls: ..."
PROGRESS = re.compile(r"iter: (\d+)\s+total_loss: ([\d.]+|nan)")


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
    pictures = draw(args.config_file, args.output)
    print_table(results)
    print(f"\nmodel     {args.output}/model_final.pth")
    print(f"pictures  {pictures}")
    print(f"curves    {Path(sys.executable).parent}/tensorboard --logdir {args.output}")
    print(f"took      {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def train(config_file: str, iterations: int, output: Path) -> dict[str, float]:
    """Train to the end, unless that was done; the last evaluation's results."""
    metrics = output / "metrics.json"
    if not (output / "model_final.pth").exists() or "bbox/AP" not in metrics.read_text():
        command = [sys.executable, "-u", "-W", "ignore", str(ROOT / "train_net.py"), "--resume"]
        command += ["--config-file", config_file, "OUTPUT_DIR", str(output)]
        command += ["SOLVER.MAX_ITER", str(iterations), "SEED", "0"]
        show_progress(command, iterations)
    else:
        print(f"      found {output}/model_final.pth, trained before")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return next(line for line in reversed(lines) if "bbox/AP" in line)


def show_progress(command: list[str], iterations: int) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = []
    with tqdm(total=iterations, unit="iter", desc="      train") as bar:
        for line in process.stdout:
            printed.append(line)
            if match := PROGRESS.search(line):
                bar.update(int(match[1]) + 1 - bar.n)
                bar.set_postfix(loss=match[2])
            elif "Start inference" in line:
                bar.set_postfix_str("evaluating")
    if process.wait():
        sys.exit("".join(printed[-30:]) + "error: the training ended; its last lines are above")


def draw(config_file: str, output: Path) -> Path:
    cfg = load_config(config_file, ["MODEL.WEIGHTS", str(output / "model_final.pth")])
    fall_back_to_cpu(cfg)
    predictor = Predictor(cfg)
    folder = output / "pictures"
    folder.mkdir(exist_ok=True)
    name = cfg.DATASETS.TEST[0]
    for record in tqdm(DatasetCatalog.get(name)[:PICTURES], unit="image", desc="      draw"):
        image = read_image(record["file_name"], format="BGR")
        metadata = MetadataCatalog.get(name)
        found = draw_detections(image, predictor(image)["instances"], metadata, threshold=0.5)
        pair = [Image.fromarray(found), Image.fromarray(draw_annotations(image, record, metadata))]
        sheet = Image.new("RGB", (2 * pair[0].width + 8, pair[0].height), "white")
        sheet.paste(pair[0], (0, 0))
        sheet.paste(pair[1], (pair[0].width + 8, 0))
        sheet.save(folder / f"{Path(record['file_name']).stem}.png")
    return folder


def print_table(results: dict[str, float]) -> None:
    """Box and mask AP, and their mean over the classes of each kind of context."""
    kinds = {
        "tag": "tag classes (a relation)",
        "beacon": "beacon classes (one cue for all)",
        "plain": "plain classes (no context)",
    }
    print(f"\n{'AP on shapes_val, per cent':<36}{'box':>6}{'mask':>7}")
    print(f"{'all classes':<36}{results['bbox/AP']:>6.1f}{results['segm/AP']:>7.1f}")
    for cue, title in kinds.items():
        row = f"{title:<36}"
        for task, width in (("bbox", 6), ("segm", 7)):
            prefixes = tuple(f"{task}/AP-{outline}" for outline in OUTLINES_OF_CUE[cue])
            values = [value for key, value in results.items() if key.startswith(prefixes)]
            row += f"{fmean(values) if values else float('nan'):>{width}.1f}"
        print(row)


if __name__ == "__main__":
    sys.exit(main())
