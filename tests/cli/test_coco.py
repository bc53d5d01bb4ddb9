"""The paper's best config on real COCO images, from the command line, on any device."""

import os
import subprocess
import sys

CONFIG = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"
SMALL = [
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.RPN.POST_NMS_TOPK_TEST", "10"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0"),
]


def test_short_training_and_evaluation_run_to_the_tables(root, shared, tmp_path):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(shared / "datasets")}
    command = [sys.executable, "-W", "ignore", "train_net.py", "--config-file", CONFIG]
    command += ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "", *SMALL]
    run = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=550
    )
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-4000:]
    assert "TEST.EXPECTED_RESULTS is not verified" in output
    assert "Task: bbox" in output
    assert "Task: segm" in output
    assert (tmp_path / "model_final.pth").exists()
