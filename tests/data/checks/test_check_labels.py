"""One's own label files: what is found in them, and what a training makes of it."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from dnl_det.__main__ import main
from dnl_det.data import DataError, build_mapper
from dnl_det.data.checks import Use, check_dataset, prepare_data, raise_errors, use_repaired
from dnl_det.data.label_folders import pairs, read_classes, register_labels
from dnl_det.data.labels import LabelError
from dnl_det.data.own_data import use_own_data
from dnl_det.engine import load_config

CLASSES = ["road", "car", "sky"]
CONFIG = "configs/Shapes/sem_seg_none.yaml"


class Folders:
    """Six images of 48 x 36 pixels in two folders, and their labels."""

    def __init__(self, folder):
        self.images, self.labels = folder / "images", folder / "labels"
        for k in range(6):
            for root in (self.images, self.labels):
                (root / f"city{k % 2}").mkdir(parents=True, exist_ok=True)
            values = np.zeros((36, 48), np.uint8)
            values[:, 16:] = 1
            values[:12] = 2
            values[0] = 255
            Image.new("RGB", (48, 36), (40 * k, 90, 10)).save(self.image(k))
            Image.fromarray(values).save(self.label(k))

    def image(self, k):
        return self.images / f"city{k % 2}" / f"{k}.jpg"

    def label(self, k):
        return self.labels / f"city{k % 2}" / f"{k}.png"

    def write(self, k, **values):
        """Labels of an image, all of one value; another size or kind."""
        size, mode = values.get("size", (48, 36)), values.get("mode", "L")
        Image.new(mode, size, values.get("value", 0)).save(self.label(k))


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


@pytest.fixture
def check(folders):
    def run(**use):
        register_labels("mine", str(folders.images), str(folders.labels), CLASSES, 255)
        return check_dataset("mine", Use(labels=True, **use))

    yield run
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("mine", None)


def found(checked):
    """Codes and kinds, with their counts."""
    return {(code, kind): len(group) for kind, code, group in checked.report.groups()}


def test_sound_data_have_no_finding(check, folders):
    checked = check()
    assert found(checked) == {}
    assert (checked.report.images, checked.report.categories) == (6, 3)
    records = DatasetCatalog.get("mine")
    assert [record["file_name"] for record in records] == [
        str(folders.image(k)) for k in (0, 2, 4, 1, 3, 5)
    ]
    assert records[1]["sem_seg_file_name"] == str(folders.label(2))


FAULTY = {
    "label-missing": lambda f: f.label(0).unlink(),
    "label-unreadable": lambda f: f.label(0).write_bytes(f.label(0).read_bytes()[:60]),
    "label-size": lambda f: f.write(0, size=(48, 35)),
    "image-truncated": lambda f: f.image(0).write_bytes(f.image(0).read_bytes()[:-20]),
}


@pytest.mark.parametrize("code", FAULTY)
def test_an_image_is_left_out_of_a_training_but_not_of_an_evaluation(check, folders, code):
    FAULTY[code](folders)
    checked = check()
    assert found(checked) == {(code, "skipped"): 1}
    raise_errors([checked.report])
    use_repaired(checked, folders.images.parent / "annotations")
    assert {record["file_name"] for record in DatasetCatalog.get("mine")} == {
        str(folders.image(k)) for k in range(1, 6)
    }
    checked = check(evaluation=True)
    assert (code, "error") in found(checked)
    with pytest.raises(DataError, match=f"{code}.*mIoU" if code[0] == "l" else code):
        raise_errors([checked.report])


def test_values_without_a_class_are_named_with_their_files(check, folders):
    folders.write(2, value=3)
    folders.write(3, value=200)
    checked = check()
    assert found(checked) == {("label-unknown", "error"): 2}
    text = checked.report.text()
    assert f"{folders.label(2)}: [3]; allowed are 0 to 2, or 255 to ignore" in text
    assert f"{folders.label(3)}: [200]" in text


def test_colours_are_refused_and_a_palette_is_not(check, folders):
    folders.write(0, mode="RGB", value=(128, 64, 128))
    palette = Image.fromarray(np.array(Image.open(folders.label(1))), "P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(folders.label(1))
    checked = check()
    assert found(checked) == {("label-channels", "error"): 1, ("label-palette", "note"): 1}
    assert "write it as a grey or palette PNG" in checked.report.text()


def test_notes_and_what_leaves_nothing(check, folders):
    (folders.labels / "more.png").write_bytes(folders.label(0).read_bytes())
    for k in range(6):
        folders.write(k, value=1)
    notes = {("label-without-image", "note"): 1, ("label-class-absent", "note"): 2}
    assert found(check()) == notes
    for k in range(4):
        folders.write(k, size=(9, 9))
    assert ("images-mostly-unusable", "error") in found(check())
    for k in range(6):
        folders.write(k, size=(9, 9))
    assert ("images-none", "error") in found(check())
    for k in range(6):
        folders.label(k).unlink()
    assert ("labels-none", "error") in found(check())


def test_of_many_images_only_the_heads_are_read(check, folders, monkeypatch):
    monkeypatch.setattr("dnl_det.data.checks.dataset._DECODED_AT_START", 5)
    folders.write(2, value=77)
    folders.write(3, size=(3, 3))
    assert found(check()) == {("label-size", "skipped"): 1}
    assert ("label-unknown", "error") in found(check(thorough=True))


def test_classes_from_a_text_and_from_a_file(tmp_path):
    assert read_classes("road, car ,sky") == CLASSES
    file = tmp_path / "names.txt"
    file.write_text("road\ncar\nsky, blue\n\n", encoding="utf-8-sig")
    assert read_classes(str(file)) == ["road", "car", "sky, blue"]
    with pytest.raises(FileNotFoundError, match="DATASETS.CLASSES: there is no file .*gone.txt"):
        read_classes(str(tmp_path / "gone.txt"))
    with pytest.raises(ValueError, match="DATASETS.CLASSES: .*'car' stands there twice"):
        read_classes("car,car")
    with pytest.raises(ValueError, match="name 2 is empty"):
        read_classes("car,,sky")


def test_one_folder_for_both_is_refused_and_one_in_the_other_is_not(folders):
    with pytest.raises(ValueError, match="is the folder of images and of labels: separate them"):
        pairs(str(folders.images), str(folders.images))
    inner = folders.images / "labels"
    folders.labels.rename(inner)
    found = pairs(str(folders.images), str(inner))
    assert len(found) == 6
    assert all(pair.image and pair.labels for pair in found)


@pytest.fixture
def cfg(root, folders):
    """Of a training on these folders."""
    keys = ["DATASETS.CLASSES", ",".join(CLASSES), "DATALOADER.NUM_WORKERS", 0]
    for split in ("TRAIN", "VAL"):
        keys += [f"DATASETS.{split}_IMAGES", str(folders.images)]
        keys += [f"DATASETS.{split}_LABELS", str(folders.labels)]
    return load_config(str(root / CONFIG), keys)


def test_a_config_follows_the_classes(cfg, folders):
    assert use_own_data(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("own_train",), ("own_val",))
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    assert cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS == []
    assert MetadataCatalog.get("own_val").stuff_classes == CLASSES
    prepare_data(cfg, True, folders.images.parent / "annotations")
    assert len(DatasetCatalog.get("own_train")) == 6


def test_the_names_of_a_file_are_kept_in_the_config(cfg, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("\n".join(CLASSES))
    cfg.DATASETS.CLASSES = str(file)
    use_own_data(cfg)
    assert cfg.DATASETS.CLASSES == "road,car,sky"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CLASSES": ""}, "DATASETS.CLASSES is missing: name the classes"),
        ({"TRAIN_IMAGES": ""}, "DATASETS.TRAIN_LABELS is set and .*TRAIN_IMAGES is not: .*--train"),
        ({"VAL_LABELS": ""}, "DATASETS.VAL_IMAGES is set and DATASETS.VAL_LABELS is not"),
        ({"TRAIN_JSON": "a.json"}, "DATASETS.TRAIN_JSON is set, and so are labels"),
        ({"VAL_LABELS": "gone"}, "own_val: there is no folder gone"),
        (
            {f"{split}_{kind}": "" for split in ("TRAIN", "VAL") for kind in ("IMAGES", "LABELS")},
            "DATASETS.CLASSES is set and no folder of labels: give DATASETS.TRAIN_IMAGES",
        ),
    ],
)
def test_what_does_not_go_together_is_named(cfg, changes, message):
    for key, value in changes.items():
        cfg.DATASETS[key] = value
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        use_own_data(cfg)


def test_another_number_of_classes_than_the_model_s_is_an_error(cfg, check):
    use_own_data(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 7
    with pytest.raises(
        DataError, match="class-count.*\n.*3 categories, and MODEL.SEM_SEG_HEAD.NUM"
    ):
        prepare_data(cfg, True, "annotations")
    # Data without names of classes have none to compare.
    check()
    del MetadataCatalog.get("mine").stuff_classes
    checked = check_dataset("mine", Use(labels=True))
    assert found(checked) == {}
    DatasetCatalog.pop("mine")
    DatasetCatalog.register("mine", lambda: [{"file_name": "gone.jpg", "sem_seg": "elsewhere"}])
    assert found(check_dataset("mine", Use(labels=True))) == {}


def test_a_model_gets_the_data_that_it_learns(cfg, root):
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    with pytest.raises(ValueError, match="META_ARCHITECTURE GeneralizedRCNN learns objects: give"):
        use_own_data(cfg)
    keys = ["DATASETS.TRAIN_JSON", "a.json", "DATASETS.TRAIN_IMAGES", "images"]
    with pytest.raises(ValueError, match="DATASETS.TRAIN_JSON has objects, .*: give .*--train-lab"):
        use_own_data(load_config(str(root / CONFIG), keys))


def test_a_label_that_changed_since_the_start_is_named_in_training(cfg, folders):
    use_own_data(cfg)
    mapper = build_mapper(cfg, is_train=True)
    record = DatasetCatalog.get("own_train")[0]
    assert mapper(record)["sem_seg"].unique().tolist() == [0, 1, 2, 255]
    folders.write(0, value=3)
    with pytest.raises(LabelError, match="0.png has the label 3: must be from 0 to 2, .* or 255"):
        mapper(record)


def test_the_command_reports_them(folders, tmp_path, capsys):
    words = ["check-data", "--images", str(folders.images), "--labels", str(folders.labels)]
    assert main([*words, "--classes", "road,car,sky"]) == 0
    assert "6 images, 6 annotations, 3 categories\n  nothing found" in capsys.readouterr().out
    folders.write(1, value=9)
    names = tmp_path / "names.txt"
    names.write_text("road\ncar\nsky\n")
    assert main([*words, "--classes", str(names), "--output", str(tmp_path / "out.json")]) == 1
    assert "label-unknown x 1" in capsys.readouterr().out
    for given, message in (
        (words, "--labels is given and --classes is not"),
        ([*words[:3], "--classes", "a"], "--images is given and --json is not"),
        ([*words, "--classes", str(names), "--output", str(names)], "names.txt"),
        ([*words, "--classes", "a", "--output", str(folders.label(0))], "0.png"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(given)
