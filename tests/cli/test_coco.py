"""The paper's best config on real COCO images, from the command line, on any device."""

CONFIG = "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_dnl_c4_c5all_1x.yaml"
SMALL = [
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.RPN.POST_NMS_TOPK_TEST", "10"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0"),
]


def test_short_training_and_evaluation_run_to_the_tables(start, shared, tmp_path):
    command = ["train_net.py", "--config-file", CONFIG]
    command += ["OUTPUT_DIR", tmp_path, "MODEL.WEIGHTS", "", *SMALL]
    output = start(*command, DETECTRON2_DATASETS=str(shared / "datasets")).finish()
    assert "TEST.EXPECTED_RESULTS is not verified" in output
    assert "Task: bbox" in output
    assert "Task: segm" in output
    assert (tmp_path / "model_final.pth").exists()
