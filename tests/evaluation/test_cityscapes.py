"""Cityscapes' official evaluation of given predictions, in a small tree of its own layout."""

import json
import shutil

import numpy as np
import pytest
import semantic_data
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import register_all_cityscapes
from detectron2.engine import launch
from detectron2.utils import comm
from PIL import Image

from dnl_det.engine import argument_parser
from dnl_det.engine.config.command_line import setup
from dnl_det.engine.training.launch import leave_group
from dnl_det.evaluation import LabelError, build_evaluator

official = pytest.importorskip("cityscapesscripts.helpers.labels")
NAME = "cityscapes_fine_sem_seg_val"
CITIES = ["aachen", "bochum", "bochum"]
PERSON, RIDER, CAR = 11, 12, 13
USED = [0, 5, 8, PERSON, RIDER, CAR]


def label_file(folder, index, kind):
    city = CITIES[index]
    return folder / f"gtFine/val/{city}/{city}_{index:06d}_000019_gtFine_{kind}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three small images in Cityscapes' folders."""
    root = tmp_path_factory.mktemp("datasets")
    folder = root / "cityscapes"
    ids = np.array([official.trainId2label[k].id for k in range(19)], dtype=np.uint8)
    for index, city in enumerate(CITIES):
        labels = semantic_data.regions(index, USED)
        ignored = labels == semantic_data.IGNORE
        # Of the ids without a class, "unlabeled" and "trailer".
        plain = np.where(ignored, 0, ids[np.where(ignored, 0, labels)])
        plain[-3:] = 30
        instances = plain.astype(np.uint16)
        for k in (PERSON, RIDER, CAR):
            instances[labels == k] = 1000 * int(ids[k]) + index
        image = folder / f"leftImg8bit/val/{city}/{city}_{index:06d}_000019_leftImg8bit.png"
        for file in (image, label_file(folder, index, "x")):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "grey").save(image)
        Image.fromarray(labels).save(label_file(folder, index, "labelTrainIds.png"))
        Image.fromarray(plain).save(label_file(folder, index, "labelIds.png"))
        Image.fromarray(instances).save(label_file(folder, index, "instanceIds.png"))
        size = json.dumps({"imgHeight": 40, "imgWidth": 60, "objects": []})
        label_file(folder, index, "polygons.json").write_text(size)
    return root


@pytest.fixture
def data(tree):
    """The records of the tree, registered by detectron2; afterwards its own again."""
    before = {name: (DatasetCatalog[name], MetadataCatalog[name]) for name in names()}
    register(tree)
    yield DatasetCatalog.get(NAME)
    remove()
    for name, (load, metadata) in before.items():
        DatasetCatalog[name], MetadataCatalog[name] = load, metadata


def names():
    return [name for name in DatasetCatalog.list() if name.startswith("cityscapes_fine_")]


def remove():
    for name in names():
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def register(root):
    remove()
    register_all_cityscapes(str(root))


def pairs(records):
    """Labels and what is predicted for them."""
    found = []
    for record in records:
        with Image.open(record["sem_seg_file_name"]) as image:
            labels = np.array(image)
        seed = int(record["file_name"].split("_")[-3])
        found.append((labels, semantic_data.predicted(labels, seed, USED)))
    return found


def evaluate(records, folder):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    evaluator = build_evaluator(cfg, NAME)
    evaluator.reset()
    evaluator.process(records, [semantic_data.logits(found, 19) for _, found in pairs(records)])
    return evaluator.evaluate()


def test_official_iou_is_this_project_s_and_that_of_plain_counting(data, tmp_path, capsys):
    results = evaluate(data, tmp_path)
    found, ours = results["cityscapes"], results["sem_seg"]
    iou, _, _, of_all = semantic_data.plain_numbers(pairs(data), 19)
    for index, name in enumerate(MetadataCatalog.get(NAME).stuff_classes):
        assert found[f"IoU-{name}"] == pytest.approx(iou[index], nan_ok=True), name
        assert ours[f"IoU-{name}"] == pytest.approx(iou[index], nan_ok=True), name
    assert found["IoU"] == pytest.approx(ours["mIoU"]) == pytest.approx(np.nanmean(iou))
    assert ours["pACC"] == pytest.approx(of_all)
    assert 20 < found["iIoU"] < 100
    assert found["IoU_sup"] > found["IoU"]
    assert capsys.readouterr().out == ""


def test_predictions_have_the_ids_of_the_benchmark(data, tmp_path):
    evaluate(data, tmp_path)
    files = sorted((tmp_path / "inference/cityscapes").iterdir())
    assert len(files) == 3
    assert files[0].name == "aachen_000000_000019_leftImg8bit_pred.png"
    with Image.open(files[0]) as image:
        assert set(np.unique(image)) <= {official.trainId2label[k].id for k in USED}


def test_only_the_data_set_s_images_count(data, tmp_path):
    """detectron2 asks for a prediction of every image in the folder."""
    DatasetCatalog[NAME] = lambda: data[:2]
    results = evaluate(data[:2], tmp_path)
    assert results["cityscapes"]["IoU"] == pytest.approx(results["sem_seg"]["mIoU"])


def evaluate_half(root, folder):
    """In one of two processes: a part of the images, and the results of all."""
    register(root)
    rank = comm.get_rank()
    results = evaluate(DatasetCatalog.get(NAME)[rank::2], folder)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    leave_group()


@pytest.mark.slow  # test_semantic.py has the same of this project's numbers
def test_two_processes_give_what_one_does(data, tree, tmp_path):
    one = evaluate(data, tmp_path)
    launch(evaluate_half, 2, dist_url="auto", args=(tree, tmp_path))
    two = json.loads((tmp_path / "0.json").read_text())
    for task, numbers in one.items():
        assert two[task] == pytest.approx(numbers, nan_ok=True)
    assert json.loads((tmp_path / "1.json").read_text()) is None


def test_without_the_package_the_error_says_how_to_install_it(data, root, tmp_path, monkeypatch):
    monkeypatch.setattr("dnl_det.evaluation.cityscapes.find_spec", lambda _: None)
    message = "needs the package cityscapesscripts, .*: pip install cityscapesscripts"
    with pytest.raises(LabelError, match=message):
        evaluate(data, tmp_path)
    words = ["--config-file", str(root / "configs/Shapes/baseline.yaml"), "OUTPUT_DIR"]
    words += [str(tmp_path), "DATASETS.TEST", f"('{NAME}',)"]
    with pytest.raises(LabelError, match=message):
        setup(argument_parser().parse_args(words))


def test_a_missing_official_label_file_is_named(data, tree, tmp_path):
    file = label_file(tree / "cityscapes", 1, "instanceIds.png")
    shutil.move(file, tmp_path / "away.png")
    try:
        with pytest.raises(LabelError, match=f"there is no file .*{file.name}, which"):
            evaluate(data, tmp_path)
    finally:
        shutil.move(tmp_path / "away.png", file)
