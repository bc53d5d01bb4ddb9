"""``train_net.py``, which also writes each iteration's losses to OUTPUT_DIR/losses, in full.

The image whose id is in the environment's NAN_IMAGE is full of NaN.
"""

import json
import os
import runpy
from pathlib import Path

from detectron2.engine.train_loop import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from dnl_det.data.images import FileMapper
from dnl_det.engine import Trainer

write_metrics = SimpleTrainer._write_metrics
build_hooks = Trainer.build_hooks
map_sample = FileMapper.__call__


def build_and_note(self):
    SimpleTrainer.losses_file = Path(self.cfg.OUTPUT_DIR, "losses")
    return build_hooks(self)


def write_and_note(self, *args, **kwargs):
    write_metrics(self, *args, **kwargs)
    if comm.is_main_process():
        latest = get_event_storage().latest()
        values = {k: v for k, (v, at) in latest.items() if "loss" in k and at == self.iter}
        with SimpleTrainer.losses_file.open("a") as file:
            file.write(json.dumps([self.iter, values]) + "\n")


def map_and_poison(self, dataset_dict):
    sample = map_sample(self, dataset_dict)
    if str(sample["image_id"]) == os.environ.get("NAN_IMAGE") and self.is_train:
        sample["image"] = sample["image"] * float("nan")
    return sample


FileMapper.__call__ = map_and_poison
SimpleTrainer._write_metrics = write_and_note
Trainer.build_hooks = build_and_note

if __name__ == "__main__":
    runpy.run_path("train_net.py", run_name="__main__")
