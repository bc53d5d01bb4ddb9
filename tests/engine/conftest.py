"""What the tests of the engine share."""

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def train(root, data_root):
    """Start a small training of 12 iterations, seeded, that notes its losses."""

    def start(folder, *words, keys=(), workers=0, launcher=(), script="tests/engine/exact.py"):
        environment = {**os.environ, "DETECTRON2_DATASETS": str(data_root), "OMP_NUM_THREADS": "1"}
        usual = {
            "OUTPUT_DIR": folder,
            "SEED": 3,
            "DATALOADER.NUM_WORKERS": workers,
            "INPUT.MIN_SIZE_TRAIN": "(96, 128)",
            "MODEL.FPN.OUT_CHANNELS": 16,
            "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
            "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.CHECKPOINT_PERIOD": 4,
            "SOLVER.MAX_ITER": 12,
        }
        pairs = [str(word) for pair in usual.items() for word in pair]
        config = ("--config-file", "configs/Shapes/disentangled.yaml")
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *launcher, script, *config, *words, *pairs, *keys],
            cwd=root,
            env={**environment, "PYTHONPATH": str(root)},
            stdout=(folder / "printed").open("w"),  # a pipe nobody reads would fill up
            stderr=subprocess.STDOUT,
        )
        process.printed = folder / "printed"
        return process

    return start
