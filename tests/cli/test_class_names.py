"""Class names that are no plain words, through training, evaluation and every command."""

import json
import re

import pytest
from faulty import DataSet

from dnl_det.__main__ import main
from dnl_det.engine import Trainer, argument_parser, setup

CONFIG = "configs/Shapes/disentangled.yaml"
LONG = "long " * 40
NAMES = [
    *("a $x^{2$ b_c", r"$\frac{1}{$", r"50%d\n\ ", "😀", "قطة", "חתול", "黑猫", LONG),
    *(
        "long " * 20 + "x" + "long " * 20,
        "<script>x</script>",
        "</script><b>&amp;\"'",
        "new\nline\ttab",
    ),
    *("\x1b[31mred\x00", "a|b", "x\u202etxt", "half \ud800", ""),
]
KNOWN = [*NAMES[:-2], r"half \ud800", "class_17"]  # those two are repaired
SMALL = [
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.RPN.POST_NMS_TOPK_TEST", "3"),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.RESNETS.NORM", "LN"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "()", "SOLVER.MAX_ITER", "1", "SEED", "1"),
    *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """A folder with such data, and in ``out`` a training of one step that ended in its AP."""
    folder = tmp_path_factory.mktemp("names")
    data = DataSet(folder)
    data.content["categories"] = [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)]
    for k in range(3, len(NAMES) + 1):
        data.add(category_id=k)
    words = ["--config-file", str(root / CONFIG), "OUTPUT_DIR", str(folder / "out"), *SMALL]
    words += ["DATASETS.TRAIN_JSON", str(data.write()), "DATASETS.TRAIN_IMAGES", str(data.images)]
    words += ["DATASETS.VAL_JSON", str(data.json), "DATASETS.VAL_IMAGES", str(data.images)]
    trainer = Trainer(setup(argument_parser().parse_args(words)))
    trainer.resume_or_load()
    trainer.train()
    return folder


@pytest.fixture
def run(trained, root, tmp_path):
    """Run a command on the trained detector; its output folder."""

    def start(command, *words):
        data = ["DATASETS.VAL_JSON", trained / "annotations.json"]
        data += ["DATASETS.VAL_IMAGES", trained / "images"]
        options = ["--config-file", root / CONFIG, "--weights", trained / "out/model_final.pth"]
        options += ["--output", tmp_path / "out", "--opts", *data, *SMALL]
        assert main([command, *map(str, [*words, *options])]) == 0
        return tmp_path / "out"

    return start


def test_tables_stay_tables(trained):
    log = (trained / "out/log.txt").read_text()
    assert not re.search(r"[\0\t]|\x1b\[31m", log)
    tables = re.findall(r"(?:Per-category|Distribution).*\n((?:\|.*\n)+)(.*)", log)
    assert len(tables) == 3  # objects of the classes, AP of boxes and of masks
    for table, after in tables:
        assert after.startswith("["), "a line of the table has no bars"
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} == {7}
    ap = tables[-1][0]
    assert max(map(len, ap.splitlines())) < 200
    assert all(text in ap for text in (r"$\frac{1}{$", "黑猫", "l…", r"new\nline\ttab", r"a\|b"))


def test_ap_has_the_whole_names(trained):
    metrics = json.loads((trained / "out/metrics.json").read_text().splitlines()[-1])
    (events,) = (trained / "out").glob("events.*")
    tags = events.read_bytes()
    for name in KNOWN:
        assert f"segm/AP-{name}" in metrics
        assert f"segm/AP-{name}".encode() in tags


def test_predict_writes_the_whole_names(trained, run, recwarn):
    output = run("predict", trained / "images/1.png", "--threshold", "0")
    results = json.loads((output / "detections.json").read_text())
    assert {result["category_name"] for result in results} == set(KNOWN)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_explore_writes_the_whole_names(trained, run):
    output = run("explore", trained / "images/1.png", "--format", "both")
    page = (output / "1.html").read_text()
    content = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert {found["label"] for found in content["detections"]} & set(KNOWN)
    assert not {found["label"] for found in content["detections"]} - set(KNOWN)


def test_diagnose(run):
    assert json.loads((run("diagnose") / "diagnose.json").read_text())["images"] == 4
