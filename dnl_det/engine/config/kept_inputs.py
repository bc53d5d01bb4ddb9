"""The files that a run is given stay as they are."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ...files import refuse_to_overwrite, write_whole
from .config_files import files_of


def config_inputs(cfg: CfgNode, file: str) -> list[str]:
    """All files that a config consists of or names: YAML, and the files of one's own data."""
    data = cfg.DATASETS
    return [*files_of(file), data.TRAIN_JSON, data.VAL_JSON, data.CLASSES]


def protect_inputs(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Refuse an ``OUTPUT_DIR`` in which this run would write over a file that it reads.

    Raises:
        ValueError: names the file.
    """
    output, names = Path(cfg.OUTPUT_DIR), (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    written = [output / "metrics.json", output / "inference/coco_instances_results.json"]
    written += [output / "annotations" / f"{name}.json" for name in names]
    inputs = config_inputs(cfg, args.config_file)
    if not (args.eval_only or args.resume):
        written += output.glob("model_*.pth")
        inputs.append(cfg.MODEL.WEIGHTS)
    refuse_to_overwrite(written, inputs)


@contextmanager
def config_file_kept(cfg: CfgNode, config_file: str) -> Iterator[None]:
    """Keep a given config that is ``OUTPUT_DIR/config.yaml``, where detectron2 writes a run's."""
    file = Path(cfg.OUTPUT_DIR, "config.yaml")
    given = file.exists() and any(
        os.path.exists(name) and file.samefile(name) for name in files_of(config_file)
    )
    if not given or not comm.is_main_process():
        yield
        return
    content, other = file.read_bytes(), file.with_name("config_of_last_run.yaml")
    try:
        yield
    finally:
        if (full := file.read_bytes()) != content:
            for path, text in ((other, full), (file, content)):
                with write_whole(path) as stream:
                    stream.write(text)
            logging.getLogger(__name__).info(f"{file} was given and stays: see {other}")
