"""The Shapes data set: its bytes, its COCO annotations, and that its classes need context."""

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dnl_det.data import CATEGORY_IDS, THING_CLASSES, ShapesOptions, make_scene
from dnl_det.data.shapes import PALETTE, drawing
from dnl_det.data.shapes import writing as shapes_module
from dnl_det.data.shapes.scene import _make_layout
from dnl_det.data.shapes.writing import count_categories, write_shapes

SMALL = ShapesOptions(num_train=3, num_val=2, seed=7)


def tree_digest(folder: Path) -> str:
    """Of all but the label maps: the bytes of a PNG depend on the compression library."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".png"):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    assert write_shapes(folder, SMALL, progress=False)
    return folder


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(ShapesOptions(), "train", index) for index in range(240)]


# --- drawing ---------------------------------------------------------------------------------


def test_tables_have_no_value_near_a_rounding_tie():
    exact = drawing.UNIT * np.cos(np.radians(np.arange(360)))
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-6
    assert drawing.COS[60] == 2048
    assert drawing.SIN[30] == 2048
    assert drawing.COS[180] == -4096


@pytest.mark.parametrize("outline", drawing.OUTLINES)
def test_rasterised_area_is_that_of_the_polygon(outline):
    x, y = drawing.OUTLINES[outline].T / drawing.UNIT
    assert (x**2 + y**2).max() < 1.001
    exact = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2 * 20**2
    areas = [drawing.rasterise(outline, 40, tilt).sum() for tilt in range(-20, 21, 4)]
    assert np.mean(areas) == pytest.approx(exact, rel=0.015)


@pytest.mark.parametrize("outline", drawing.OUTLINES)
def test_outlines_have_no_holes(outline):
    for size in range(12, 48, 5):
        mask = drawing.rasterise(outline, size, tilt=size - 25)
        assert sum(map(drawing.polygon_area, drawing.trace(mask))) == mask.sum()


def test_trace_gives_each_part_and_hole_and_pycocotools_gives_back_the_mask():
    rng = np.random.RandomState(0)
    with_holes = 0
    for _ in range(400):
        height, width = rng.randint(1, 9, size=2)
        mask = rng.random_sample((height, width)) < rng.random_sample()
        polygons = drawing.trace(mask)
        parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
        outside = (~np.pad(mask, 1)).astype(np.uint8)
        holes = cv2.connectedComponents(outside, connectivity=8)[0] - 2
        assert len(polygons) == parts + holes
        assert (sum(map(drawing.polygon_area, polygons)) == mask.sum()) == (holes == 0)
        with_holes += holes > 0
        if polygons and not holes:
            rles = coco_mask.frPyObjects(polygons, int(height), int(width))
            assert np.array_equal(coco_mask.decode(coco_mask.merge(rles)), mask)
    assert with_holes > 20


def test_stroke_has_the_given_width():
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:18, 2:18] = True
    core = np.zeros_like(mask)
    core[5:15, 5:15] = True
    assert np.array_equal(drawing.stroke_of(mask, 3), mask & ~core)


@pytest.mark.parametrize("size", [5, 12, 15, 16])
def test_beacons_have_the_same_colours_and_survive_a_flip(size):
    a, b = drawing.beacon_patch(size, "a"), drawing.beacon_patch(size, "b")
    assert np.array_equal(a.transpose(1, 0, 2), b)
    assert not np.array_equal(a, b)
    assert np.array_equal(a[:, ::-1], a)  # a flipped image keeps its class
    if size % 5 == 0:
        assert np.array_equal(b[:, ::-1], b)


# --- the same bytes everywhere ---------------------------------------------------------------


def test_bytes_never_change(small):
    assert tree_digest(small) == "553867e6acfed0ab1536759c4e8422b38ec79ac6b3998aa6938327c4bc74b1e3"


def test_image_k_does_not_depend_on_how_many_are_made(small, tmp_path):
    more = tmp_path / "more"
    write_shapes(more, replace(SMALL, num_train=4), progress=False)
    short, long = (
        json.loads((folder / "annotations/instances_train.json").read_text())
        for folder in (small, more)
    )
    assert len(short["images"]) == 3
    assert len(long["images"]) == 4
    assert long["images"][:3] == short["images"]
    assert long["annotations"][: len(short["annotations"])] == short["annotations"]
    for name in ("000001.bmp", "000002.bmp", "000003.bmp"):
        assert (small / "train" / name).read_bytes() == (more / "train" / name).read_bytes()


def test_seed_split_and_index_each_give_another_image():
    images = [
        make_scene(replace(SMALL, seed=seed), split, index).image.tobytes()
        for seed in (0, 1)
        for split in ("train", "val")
        for index in (0, 1)
    ]
    assert len(set(images)) == 8


# --- COCO's format ---------------------------------------------------------------------------


def test_categories_are_these(small):
    data = json.loads((small / "annotations/instances_val.json").read_text())
    assert [(c["id"], c["name"], c["supercategory"]) for c in data["categories"]] == [
        (1, "circle_black", "tag"),
        (2, "circle_white", "tag"),
        (3, "square_black", "tag"),
        (4, "square_white", "tag"),
        (5, "triangle_a", "beacon"),
        (6, "triangle_b", "beacon"),
        (7, "star_a", "beacon"),
        (8, "star_b", "beacon"),
        (9, "cross", "plain"),
        (10, "moon", "plain"),
    ]
    assert [c["name"] for c in data["categories"]] == list(THING_CLASSES)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pycocotools_reads_back_what_was_drawn(small, split, capsys):
    coco = COCO(str(small / f"annotations/instances_{split}.json"))
    assert sorted(coco.imgs) == list(range(1, getattr(SMALL, f"num_{split}") + 1))
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for image_id, entry in coco.imgs.items():
        scene = make_scene(SMALL, split, image_id - 1)
        stored = read_image(str(small / split / entry["file_name"]), format="RGB")
        assert np.array_equal(stored, scene.image)
        assert (entry["width"], entry["height"]) == stored.shape[1::-1]
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(scene.objects)
        for annotation, item in zip(annotations, scene.objects, strict=True):
            assert annotation["category_id"] == CATEGORY_IDS[item.category]
            assert annotation["iscrowd"] == 0
            assert np.array_equal(coco.annToMask(annotation), item.visible)
            rle = coco.annToRLE(annotation)
            assert annotation["area"] == coco_mask.area(rle)
            assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
    capsys.readouterr()


@pytest.mark.parametrize("split", ["train", "val"])
def test_label_maps_are_what_was_drawn(small, split):
    count = getattr(SMALL, f"num_{split}")
    assert len(list((small / f"labels_{split}").iterdir())) == count
    for index in range(count):
        expected = np.zeros((128, 128), dtype=np.uint8)
        for item in make_scene(SMALL, split, index).objects:
            expected[item.visible] = CATEGORY_IDS[item.category]
        with Image.open(small / f"labels_{split}/{index + 1:06d}.png") as image:
            assert image.mode == "L"
            assert np.array_equal(image, expected)


def test_context_is_recorded(small):
    data = json.loads((small / "annotations/instances_train.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    by_id = {annotation["id"]: annotation for annotation in data["annotations"]}
    told = 0
    for image in data["images"]:
        for tag in image["tags"]:
            if tag["annotation_id"] is None:
                continue
            annotation = by_id[tag["annotation_id"]]
            assert annotation["image_id"] == image["id"]
            assert annotation["colour"] == tag["colour"]
            assert names[annotation["category_id"]].endswith("_" + tag["centre"])
            told += 1
        for annotation in data["annotations"]:
            name = names[annotation["category_id"]]
            if annotation["image_id"] == image["id"] and name.startswith(("triangle", "star")):
                assert name.endswith("_" + image["beacon"]["pattern"])
                told += 1
    assert told == sum("_" in names[annotation["category_id"]] for annotation in by_id.values()) > 4


def test_visible_regions_are_what_later_objects_leave():
    options = ShapesOptions(image_size=80, max_overlap=0.3)
    shares = []
    for index in range(20):
        layout = _make_layout(np.random.RandomState(index), options, ["star", "circle", "moon"], [])
        back, middle, front = layout.whole
        assert np.array_equal(layout.visible[0], back & ~middle & ~front)
        assert np.array_equal(layout.visible[1], middle & ~front)
        assert np.array_equal(layout.visible[2], front)
        shares += [
            1 - visible.sum() / whole.sum()
            for visible, whole in zip(layout.visible, layout.whole, strict=True)
        ]
    assert 0.1 < max(shares) <= 0.3
    separate = replace(options, max_overlap=0)
    for index in range(20):
        layout = _make_layout(np.random.RandomState(index), separate, ["star", "circle"], [])
        assert not (layout.whole[0] & layout.whole[1]).any()


# --- the classes need context, and context tells them ----------------------------------------


def box(item) -> tuple[int, int, int, int]:
    y, x = np.nonzero(item.visible)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def test_context_lies_outside_all_boxes_and_apart(scenes):
    options = ShapesOptions()
    for scene in scenes:
        used = np.zeros((128, 128), dtype=int)
        for item in scene.objects:
            left, top, right, bottom = box(item)
            used[top:bottom, left:right] = 1
        places = [(tag, options.tag_size) for tag in scene.tags]
        for place, size in [*places, (scene.beacon, options.beacon_size)]:
            window = used[place.y : place.y + size, place.x : place.x + size]
            assert window.shape == (size, size)
            assert not window.any()
            window += 1


def test_colours_are_distinct_tags_balanced_and_far(scenes):
    far = []
    for scene in scenes:
        colours = [item.colour for item in scene.objects]
        assert len(set(colours)) == len(colours)
        assert len({tag.colour for tag in scene.tags}) == len(scene.tags)
        assert sum(tag.centre == "black" for tag in scene.tags) * 2 == len(scene.tags)
        owners = [tag.owner for tag in scene.tags if tag.owner is not None]
        assert owners == [
            k for k, item in enumerate(scene.objects) if item.category[:6] in ("circle", "square")
        ]
        for tag in scene.tags:
            if tag.owner is None:
                assert tag.colour not in colours
            else:
                assert tag.colour == colours[tag.owner]
                left, top, right, bottom = box(scene.objects[tag.owner])
                far.append(
                    np.hypot(tag.x + 4.5 - (left + right) / 2, tag.y + 4.5 - (top + bottom) / 2)
                )
    assert np.mean(np.array(far) > 128 / 3 - 6) > 0.98


def test_a_reader_of_the_pixels_who_knows_the_rule_is_always_right(scenes):
    """The class follows from pixels: the tag by colour alone, and the stripes of the beacon."""
    palette = np.array(list(PALETTE.values()))
    asked = 0
    for scene in scenes[:100]:
        image = scene.image.astype(int)

        def colour_of(pixels):
            return int(((palette - np.median(pixels, axis=0)) ** 2).sum(axis=1).argmin())

        centres = {}
        for tag in scene.tags:
            patch = image[tag.y : tag.y + 9, tag.x : tag.x + 9]
            centres[colour_of(patch[[0, 1, 7, 8]].reshape(-1, 3))] = patch[3:6, 3:6].mean()
        x, y = scene.beacon.x, scene.beacon.y
        beacon = image[y : y + 15, x : x + 15].mean(axis=2)
        pattern = "a" if beacon.mean(axis=1).std() > beacon.mean(axis=0).std() else "b"
        for item in scene.objects:
            outline, _, ending = item.category.partition("_")
            if outline in ("circle", "square"):
                edge = item.visible & ~cv2.erode(
                    item.visible.astype(np.uint8), np.ones((3, 3)), borderValue=0
                ).astype(bool)
                light = centres[colour_of(image[edge])]
                assert ending == ("white" if light > 127 else "black")
                asked += 1
            elif ending:
                assert ending == pattern
                asked += 1
    assert asked > 200


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a ridge regression on the first half, tested on the second."""
    half = len(labels) // 2
    features = (features - features[:half].mean(0)) / (features[:half].std(0) + 1e-9)
    features = np.c_[features, np.ones(len(features))]
    known, target = features[:half], 2.0 * labels[:half] - 1
    weights = np.linalg.solve(known.T @ known + 100 * np.eye(known.shape[1]), known.T @ target)
    return float((((features[half:] @ weights) > 0) == labels[half:]).mean())


@pytest.mark.parametrize("endings", [("black", "white"), ("a", "b")])
def test_the_box_around_an_object_does_not_tell_its_ending(scenes, endings):
    crops, endings_seen, first_outline, places = [], [], [], []
    for scene in scenes:
        for item in scene.objects:
            outline, _, ending = item.category.partition("_")
            if ending in endings:
                left, top, right, bottom = box(item)
                crop = scene.image[top:bottom, left:right].astype(np.float32)
                crop = cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA)
                # The distance from the usual colour shows the outline whatever its own colour is.
                outlined = np.abs(crop - np.median(crop, axis=(0, 1))).sum(axis=2)
                crops.append(np.r_[crop.reshape(-1), outlined.reshape(-1)])
                places.append((left, top, right - left, bottom - top, len(scene.objects)))
                endings_seen.append(ending == endings[0])
                first_outline.append(outline in ("circle", "triangle"))
    features = np.c_[np.array(crops), np.array(places)]
    assert len(features) > 300
    assert accuracy(features, np.array(first_outline)) > 0.85  # what a box does tell
    assert 0.4 < accuracy(features, np.array(endings_seen)) < 0.6
    assert 0.42 < np.mean(endings_seen) < 0.58


@pytest.mark.parametrize("endings", [("black", "white"), ("a", "b")])
def test_colours_say_nothing_about_the_ending(scenes, endings):
    counts = np.zeros((2, len(PALETTE)))
    for scene in scenes:
        for item in scene.objects:
            ending = item.category.partition("_")[2]
            if ending in endings:
                counts[endings.index(ending), list(PALETTE).index(item.colour)] += 1
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    assert expected.min() > 10
    # The 99.9 % quantile of chi-squared with 8 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 26.12


# --- options ---------------------------------------------------------------------------------


def test_shares_decide_the_cues(scenes):
    cues = {"tag": 0, "beacon": 0, "plain": 0}
    for scene in scenes:
        for item in scene.objects:
            number = CATEGORY_IDS[item.category]
            cues["tag" if number < 5 else "beacon" if number < 9 else "plain"] += 1
    total = sum(cues.values())
    assert cues["tag"] / total == pytest.approx(0.4, abs=0.05)
    assert cues["beacon"] / total == pytest.approx(0.4, abs=0.05)
    only_beacon = ShapesOptions(tag_share=0, beacon_share=3, plain_share=0)
    for index in range(10):
        scene = make_scene(only_beacon, "val", index)
        assert {CATEGORY_IDS[item.category] for item in scene.objects} <= {5, 6, 7, 8}
        assert scene.tags == []


def test_counts_sizes_and_image_size_are_as_asked():
    options = ShapesOptions(
        image_size=200, min_objects=6, max_objects=8, min_size=20, max_size=30, max_overlap=0
    )
    numbers = set()
    for index in range(12):
        scene = make_scene(options, "train", index)
        assert scene.image.shape == (200, 200, 3)
        assert scene.image.dtype == np.uint8
        numbers.add(len(scene.objects))
        for item in scene.objects:
            left, top, right, bottom = box(item)
            assert max(right - left, bottom - top) <= 30
            assert max(right - left, bottom - top) >= 0.6 * 20
    assert numbers == {6, 7, 8}


def test_noise_can_be_switched_off():
    scene = make_scene(ShapesOptions(noise=0, tag_share=0, beacon_share=0), "train", 0)
    allowed = {PALETTE[item.colour] for item in scene.objects} | {(0, 0, 0), (255, 255, 255)}
    found = {tuple(pixel) for pixel in np.unique(scene.image.reshape(-1, 3), axis=0).tolist()}
    assert allowed < found
    assert len(found - allowed) == 1


def test_unbalanced_tags_belong_to_objects_alone():
    counts = set()
    for index in range(20):
        scene = make_scene(ShapesOptions(balance_tags=False), "train", index)
        assert all(tag.owner is not None for tag in scene.tags)
        counts.add(sum(tag.centre == "black" for tag in scene.tags) * 2 - len(scene.tags))
    assert len(counts) > 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 31}, "image_size is 31: must be between 32 and 4096"),
        ({"num_train": 0}, "num_train is 0"),
        ({"max_objects": 9}, "max_objects is 9: must be between 1 and 8"),
        ({"min_objects": 6}, "min_objects is 6: must be between 1 and 5"),
        ({"max_size": 65}, "max_size is 65: must be between 12 and 64"),
        ({"min_size": 41}, "min_size is 41: must be between 12 and 40"),
        ({"stroke": 5}, "stroke is 5: must be between 1 and 4"),
        ({"tag_size": 4}, "tag_size is 4"),
        ({"beacon_size": 33}, "beacon_size is 33: must be between 5 and 32"),
        ({"noise": -1}, "noise is -1"),
        ({"max_overlap": 0.6}, "max_overlap is 0.6: must be between 0 and 0.5"),
        ({"max_overlap": float("nan")}, "max_overlap is nan"),
        ({"tag_share": -0.1}, "tag_share is -0.1"),
        ({"tag_share": 0, "beacon_share": 0, "plain_share": 0}, "are all 0"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"noise": 1.5}, "noise is 1.5: must be of type int"),
        ({"seed": True}, "seed is True: must be of type int"),
        ({"balance_tags": 1}, "balance_tags is 1: must be of type bool"),
    ],
)
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        ShapesOptions(**wrong)


def test_no_room_says_what_to_change():
    crowded = ShapesOptions(
        image_size=64, min_objects=5, max_objects=5, min_size=32, max_size=32, max_overlap=0
    )
    with pytest.raises(ValueError, match="5 objects of 32 to 32 pixels.*raise image_size"):
        make_scene(crowded, "train", 0)


# --- writing ---------------------------------------------------------------------------------


def test_the_same_data_set_is_reused(small, capsys):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert not write_shapes(small, SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert capsys.readouterr().err == ""


def test_label_maps_are_added_to_a_data_set_without_them(small, tmp_path):
    folder = tmp_path / "shapes"
    shutil.copytree(small, folder)
    shutil.rmtree(folder / "labels_val")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert not write_shapes(folder, SMALL)
    for path in (small / "labels_val").iterdir():
        assert (folder / "labels_val" / path.name).read_bytes() == path.read_bytes()
    shutil.rmtree(folder / "labels_val")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_options_need_overwrite(tmp_path):
    folder = tmp_path / "shapes"
    options = ShapesOptions(num_train=1, num_val=1)
    other = replace(options, noise=3)
    write_shapes(folder, options, progress=False)
    digest = tree_digest(folder)
    with pytest.raises(ValueError, match=r"noise 24, not 3.*--overwrite"):
        write_shapes(folder, other, progress=False)
    assert tree_digest(folder) == digest
    assert write_shapes(folder, other, overwrite=True, progress=False)
    info = json.loads((folder / "annotations/instances_val.json").read_text())["info"]
    assert info["options"] == asdict(other)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_an_incomplete_data_set_is_noticed(tmp_path):
    options = ShapesOptions(num_train=1, num_val=1)
    write_shapes(tmp_path / "shapes", options, progress=False)
    (tmp_path / "shapes/val/000001.bmp").unlink()
    with pytest.raises(ValueError, match=r"incomplete: 0 images in val, not 1.*--overwrite"):
        write_shapes(tmp_path / "shapes", options, progress=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not a Shapes data set"):
        write_shapes(tmp_path, SMALL, overwrite=overwrite, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(options, split, index):
        if index == 1:
            raise KeyboardInterrupt
        return make_scene(options, split, index)

    monkeypatch.setattr(shapes_module, "make_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes", SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_progress_goes_to_stderr(tmp_path, capsys):
    write_shapes(tmp_path, ShapesOptions(num_train=1, num_val=1))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Shapes train: 100%" in captured.err
    counts = count_categories(tmp_path / "annotations/instances_train.json")
    assert list(counts) == list(THING_CLASSES)
    assert sum(counts.values()) == len(make_scene(ShapesOptions(), "train", 0).objects)
