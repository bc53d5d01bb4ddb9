"""detectron2's model zoo with this project's backbones: trained, evaluated, exported."""

import json
import pickle
from importlib.util import find_spec
from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from PIL import Image

from dnl_det import add_dnl_config
from dnl_det.engine import Trainer
from dnl_det.modeling.check import DEPTHS

ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"
MODELS = sorted(
    str(file.relative_to(ZOO))[: -len(".yaml")]
    for file in ZOO.glob("*/*.yaml")
    if file.parent.name != "quick_schedules" and not file.name.startswith("Base-")
)
# One of each kind that no other test trains like this.
FIRST = {
    "COCO-Detection/fast_rcnn_R_50_FPN_1x",
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-Detection/rpn_R_50_C4_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "Misc/mask_rcnn_R_50_FPN_3x_gn",
    "Misc/mask_rcnn_R_50_FPN_3x_syncbn",
    "Misc/semantic_R_50_FPN_1x",
}
OUTPUTS = {
    "GeneralizedRCNN": "instances",
    "RetinaNet": "instances",
    "ProposalNetwork": "proposals",
    "SemanticSegmentor": "sem_seg",
    "PanopticFPN": "panoptic_seg",
}
SIDE = 64
WIDTH = 32  # the least that GN and 32 groups allow
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": WIDTH,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": WIDTH,
    "MODEL.FPN.OUT_CHANNELS": WIDTH,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": WIDTH,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": WIDTH,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": WIDTH,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (WIDTH,),
    "MODEL.RETINANET.NUM_CLASSES": 2,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 20,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": WIDTH,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "DATASETS.TRAIN": ("zoo_small",),
    "DATASETS.TEST": ("zoo_small",),
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": (SIDE,),
    "INPUT.MIN_SIZE_TEST": SIDE,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": (),
    "TEST.DETECTIONS_PER_IMAGE": 5,
    "TEST.EVAL_PERIOD": 0,
    "TEST.PRECISE_BN.ENABLED": True,  # two steps are too few for running means
    "TEST.PRECISE_BN.NUM_ITER": 2,
    "MODEL.DNL.RES4": [-2],
    "SEED": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images with all that any model of the zoo learns; the file of their proposals."""
    folder = tmp_path_factory.mktemp("zoo")
    random = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in (1, 2)]
    for number in (1, 2):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
        labels[5:45, 5:45] = number
        Image.fromarray(labels).save(folder / f"{number}_labels.png")
        size = {"width": SIDE, "height": SIDE}
        content["images"].append({"id": number, "file_name": f"{number}.png", **size})
        content["annotations"].append(
            {
                "id": number,
                "image_id": number,
                "category_id": number,
                "bbox": [5, 5, 40, 40],
                "area": 1600,
                "iscrowd": 0,
                "segmentation": [[5, 5, 45, 5, 45, 45, 5, 45]],
                "keypoints": [*(10, 20, 2), *(40, 30, 1)] * 8 + [15, 15, 0],
                "num_keypoints": 16,
            }
        )
    (folder / "truth.json").write_text(json.dumps(content))

    def load():
        dicts = load_coco_json(str(folder / "truth.json"), str(folder), "zoo_small")
        for entry in dicts:
            entry["sem_seg_file_name"] = entry["file_name"].replace(".png", "_labels.png")
        return dicts

    coco = MetadataCatalog.get("keypoints_coco_2017_val")
    DatasetCatalog.register("zoo_small", load)
    MetadataCatalog.get("zoo_small").set(
        json_file=str(folder / "truth.json"),
        image_root=str(folder),
        evaluator_type="coco",
        keypoint_names=coco.keypoint_names,
        keypoint_flip_map=coco.keypoint_flip_map,
    )
    boxes = np.array([[4, 6, 44, 46], [0, 0, 20, 20]], dtype=np.float32)
    proposals = {
        "ids": [1, 2],
        "boxes": [boxes, boxes],
        "objectness_logits": [np.array([2, 1], dtype=np.float32)] * 2,
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    (folder / "proposals.pkl").write_bytes(pickle.dumps(proposals))
    yield str(folder / "proposals.pkl")
    DatasetCatalog.remove("zoo_small")
    MetadataCatalog.remove("zoo_small")


def small_config(name, proposals, folder):
    cfg = get_cfg()
    add_dnl_config(cfg)
    cfg.merge_from_file(str(ZOO / f"{name}.yaml"))
    backbone = cfg.MODEL.BACKBONE.NAME
    cfg.MODEL.BACKBONE.NAME = backbone.replace("build_", "build_dnl_", 1)
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = WIDTH // cfg.MODEL.RESNETS.NUM_GROUPS
    if cfg.MODEL.LOAD_PROPOSALS:
        cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (proposals,)
    for key, value in SMALL.items():
        cfg.merge_from_list([key, value])
    if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        cfg.DATASETS.TEST = ()  # nothing that COCO's evaluator knows
    if cfg.MODEL.RESNETS.NORM == "FrozenBN":
        cfg.MODEL.RESNETS.NORM = "BN"  # features of random weights grow without end otherwise
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def tasks(cfg):
    if cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        return {"box_proposals"}
    optional = {"segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return {"bbox", *(task for task, wanted in optional.items() if wanted)}


def traced(backbone):
    """Traced at one size; the features of another are the same as of the module itself."""
    with torch.no_grad():
        trace = torch.jit.trace(backbone, torch.rand(1, 3, SIDE, SIDE), strict=False)
        other = torch.rand(2, 3, 2 * SIDE, SIDE)
        return trace(other), backbone(other)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FIRST else pytest.mark.slow) for n in MODELS]
)
def test_model_of_the_zoo(name, data, tmp_path):
    cfg = small_config(name, data, tmp_path)
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) and not find_spec("detectron2._C"):
        pytest.skip("deformable convolution needs a detectron2 with its compiled part")
    trainer = Trainer(cfg)
    trainer.train()

    # gamma is 0 at the start: it has moved where the loss's gradient goes through the attention.
    model = trainer.model.eval()
    gammas = {n: p.item() for n, p in model.named_parameters() if n.endswith(".gamma")}
    last_but_one = DEPTHS[cfg.MODEL.RESNETS.DEPTH][2] - 2
    assert [n.split("res4.")[1] for n in gammas] == [f"{last_but_one}.attention.gamma"]
    assert all(gammas.values())

    batch = next(iter(Trainer.build_test_loader(cfg, "zoo_small")))
    with torch.no_grad():
        (output,) = model(batch)
    assert OUTPUTS[cfg.MODEL.META_ARCHITECTURE] in output
    if cfg.DATASETS.TEST:
        results = Trainer.test(cfg, model)
        assert set(results) == tasks(cfg)
        assert all(0 <= next(iter(numbers.values())) <= 100 for numbers in results.values())

    for feature, expected in zip(*map(dict.values, traced(model.backbone)), strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())
