"""What the tests of the engine share."""

import pytest

SMALL = {
    "SEED": 3,
    "INPUT.MIN_SIZE_TRAIN": "(96, 128)",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "SOLVER.MAX_ITER": 12,
}


@pytest.fixture(scope="session")
def train(start, data_root):
    """Start a small training of 12 iterations, seeded, that notes its losses."""

    def training(folder, *words, keys=(), workers=0, launcher=(), script="tests/engine/exact.py"):
        usual = {"OUTPUT_DIR": folder, "DATALOADER.NUM_WORKERS": workers, **SMALL}
        pairs = [word for pair in usual.items() for word in pair]
        config = ("--config-file", "configs/Shapes/disentangled.yaml")
        environment = {"DETECTRON2_DATASETS": str(data_root)}
        return start(*launcher, script, *config, *words, *pairs, *keys, fork=True, **environment)

    return training
