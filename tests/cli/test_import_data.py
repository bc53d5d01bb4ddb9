"""The same objects as YOLO, Pascal VOC, CVAT and LabelMe write them, as COCO's format."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from dnl_det.__main__ import main

pytest.importorskip("globox")

NAMES = ["car", "bus"]
# Width and height; of each object the class, x1, y1, x2, y2, and a polygon's corners or none.
TRIANGLE = [[10, 20], [50, 20], [10, 40]]
IMAGES = {
    "a": ((100, 50), [("bus", (10, 20, 50, 40), TRIANGLE), ("car", (5, 5, 25, 15), None)]),
    "sub/b": ((64, 80), [("car", (0, 0, 64, 80), None)]),
    "empty": ((32, 32), []),
}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for name, ((w, h), _) in IMAGES.items():
        file = folder / f"{name}.png"
        file.parent.mkdir(exist_ok=True, parents=True)
        noise = np.random.default_rng(w).integers(0, 256, (h, w, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    return folder


def write(file, text):
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(text)


def yolo(folder):
    """Boxes and polygons in one file, and none for the image without objects."""
    for name, ((w, h), objects) in IMAGES.items():
        lines = []
        for label, (x1, y1, x2, y2), corners in objects:
            numbers = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
            if corners:
                numbers = [v for x, y in corners for v in (x / w, y / h)]
            lines.append(" ".join(map(str, [NAMES.index(label), *numbers])))
        if lines:
            write(folder / f"{name}.txt", "\n".join(lines) + "\n")
    write(folder.parent / "data.yaml", "names: {0: car, 1: bus}\nnc: 2\n")
    return folder


def voc(folder):
    for name, ((w, h), objects) in IMAGES.items():
        boxes = "".join(
            f"<object><name>{label}</name><difficult>1</difficult><bndbox><xmin>{x1}</xmin>"
            f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2), _ in objects
        )
        size = f"<size><width>{w}</width><height>{h}</height><depth>3</depth></size>"
        file = f"<filename>{name.split('/')[-1]}.png</filename>"
        write(folder / f"{name}.xml", f"<annotation>{file}{size}{boxes}</annotation>")
    return folder


def cvat(folder):
    text = ""
    for name, ((w, h), objects) in IMAGES.items():
        text += f'<image id="0" name="{name}.png" width="{w}" height="{h}">'
        for label, (x1, y1, x2, y2), corners in objects:
            if corners:
                points = ";".join(f"{x},{y}" for x, y in corners)
                text += f'<polygon label="{label}" points="{points}"/>'
            else:
                text += f'<box label="{label}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>'
        text += "</image>"
    file = folder / "annotations.xml"
    write(file, f"<annotations><version>1.1</version>{text}</annotations>")
    return file


def labelme(folder):
    for name, ((w, h), objects) in IMAGES.items():
        shapes = [
            {
                "label": label,
                "shape_type": "polygon" if corners else "rectangle",
                "points": corners or [[x2, y1], [x1, y2]],  # any two opposite corners
                "group_id": None,
            }
            for label, (x1, y1, x2, y2), corners in objects
        ]
        above = "../" * (name.count("/") + 1)
        content = {
            "shapes": shapes,
            "imagePath": f"{above}images/{name}.png".replace("/", "\\"),
            "imageData": None,
            "imageWidth": w,
            "imageHeight": h,
        }
        write(folder / f"{name}.json", json.dumps(content))
    return folder


FORMATS = {"yolo": yolo, "voc": voc, "cvat": cvat, "labelme": labelme}


def run(kind, path, images, output, *words):
    words = ["--format", kind, "--images", images, "--output", output, *words]
    return main([str(word) for word in ("import-data", path, *words)])


def objects(data):
    """By image: class, box as corners, and polygons, in any order."""
    names = {category["id"]: category["name"] for category in data["categories"]}
    found = {}
    for image in data["images"]:
        found[image["file_name"]] = sorted(
            (names[a["category_id"]], a["bbox"], a.get("segmentation"), a["area"])
            for a in data["annotations"]
            if a["image_id"] == image["id"]
        )
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_objects(kind, images, tmp_path, capsys):
    path, output = FORMATS[kind](tmp_path / "labels"), tmp_path / "train.json"
    words = [] if kind == "yolo" else ["--classes", "car,bus"]
    assert run(kind, path, images, output, *words) == 0
    printed = capsys.readouterr().out
    assert "3 images, 3 annotations, 2 categories" in printed
    assert printed.endswith(
        f"Wrote {output}: --train-json {output} --train-images {images} of train_net.py\n"
    )
    data = json.loads(output.read_text())
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "car"), (2, "bus")]
    found = objects(data)
    assert found.keys() == {f"{name}.png" for name in IMAGES}
    for name, ((w, h), expected) in IMAGES.items():
        (image,) = [i for i in data["images"] if i["file_name"] == f"{name}.png"]
        assert (image["width"], image["height"]) == (w, h)
        wanted = sorted((label, box, corners) for label, box, corners in expected)
        for one, (label, (x1, y1, x2, y2), corners) in zip(
            found[f"{name}.png"], wanted, strict=True
        ):
            has_polygon = corners and kind != "voc"
            area = 0.5 * 40 * 20 if has_polygon else (x2 - x1) * (y2 - y1)
            assert one[0] == label
            assert one[1] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-6)
            assert one[3] == pytest.approx(area)
            if has_polygon:
                assert one[2] == [pytest.approx([v for c in corners for v in c], abs=1e-6)]
            else:
                assert one[2] is None
    assert len(COCO(str(output)).getAnnIds()) == 3


def test_classes_are_in_the_order_of_the_alphabet_or_as_given(images, tmp_path):
    path, output = cvat(tmp_path / "labels"), tmp_path / "train.json"
    run("cvat", path, images, output)
    assert [c["name"] for c in json.loads(output.read_text())["categories"]] == ["bus", "car"]
    with pytest.raises(SystemExit) as error:
        run("cvat", path, images, output, "--classes", "car,van")
    assert "a.png: class 'bus' is none of car, van: add it to --classes" in str(error.value.code)
    assert [c["name"] for c in json.loads(output.read_text())["categories"]] == ["bus", "car"]


def test_yolo_refers_to_the_turned_image(tmp_path):
    """As its trainers read it: turned by its EXIF."""
    images = tmp_path / "images"
    images.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (100, 50)).save(images / "a.jpg", exif=exif)
    write(tmp_path / "labels/a.txt", "1 0.5 0.25 0.2 0.1\n")
    write(tmp_path / "labels/classes.txt", "car\nbus\n")
    output = tmp_path / "train.json"
    assert run("yolo", tmp_path / "labels", images, output) == 0
    data = json.loads(output.read_text())
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (50, 100)
    assert data["annotations"][0]["bbox"] == pytest.approx([20, 20, 10, 10])
    assert data["annotations"][0]["category_id"] == 2


def test_parts_of_a_group_are_one_object(images, tmp_path):
    file = labelme(tmp_path / "labels") / "a.json"
    content = json.loads(file.read_text())
    part = {"label": "car", "shape_type": "polygon", "group_id": 7}
    square = [[60, 10], [70, 10], [70, 20], [60, 20]]
    content["shapes"] = [
        {**part, "points": TRIANGLE},
        {**part, "points": square},
        {**part, "points": square, "group_id": None},
        {**part, "points": square, "label": "bus"},
    ]
    file.write_text(json.dumps(content))
    output = tmp_path / "train.json"
    run("labelme", tmp_path / "labels", images, output)
    found = objects(json.loads(output.read_text()))["a.png"]
    assert [(label, len(polygons), area) for label, _, polygons, area in found] == [
        ("bus", 1, 100),
        ("car", 2, 400 + 100),
        ("car", 1, 100),
    ]
    assert found[1][1] == [10, 10, 60, 30]


def test_a_turned_box_of_cvat_is_a_polygon(images, tmp_path):
    """By a quarter turn clockwise around its centre: (30, 10) to (70, 30) becomes upright."""
    text = (
        '<annotations><image name="a.png" width="100" height="50"><box label="car" xtl="30" '
        'ytl="10" xbr="70" ybr="30" rotation="{}"/></image></annotations>'
    )
    output = tmp_path / "train.json"
    cos, sin = 0.984808, 0.173648  # of ten degrees
    for degrees, lower_right in (
        (90, [40, 40]),
        (10, [50 + 20 * cos - 10 * sin, 20 + 20 * sin + 10 * cos]),
    ):
        write(tmp_path / "annotations.xml", text.format(degrees))
        run("cvat", tmp_path / "annotations.xml", images, output)
        (annotation,) = json.loads(output.read_text())["annotations"]
        (polygon,) = annotation["segmentation"]
        assert len(polygon) == 8
        corners = [polygon[i : i + 2] for i in range(0, 8, 2)]
        # Of the box before it was turned, wherever the polygon begins.
        assert any(corner == pytest.approx(lower_right, abs=1e-3) for corner in corners)
        assert annotation["area"] == pytest.approx(800)


def test_what_is_passed_over_is_counted(images, tmp_path, capsys):
    path = cvat(tmp_path / "labels")
    output = tmp_path / "train.json"
    path.write_text(
        '<annotations><image name="a.png" width="100" height="50"><points label="car" '
        'points="1,2"/><polyline label="car" points="1,2"/><points label="car" points="1,2"/>'
        '<tag label="night"/></image></annotations>'
    )
    run("cvat", path, images, output)
    printed = capsys.readouterr().out
    assert "not read: 2 points shapes\nnot read: 1 polyline shapes\n" in printed
    assert "not read: 2 images without annotations, such as empty.png\n" in printed
    yolo(tmp_path / "yolo/labels")
    write(tmp_path / "yolo/labels/other.txt", "")
    run("yolo", tmp_path / "yolo/labels", images, output)
    other = tmp_path / "yolo/labels/other.txt"
    assert f"1 label files without an image, such as {other}" in capsys.readouterr().out


def test_the_check_of_the_data_follows(images, tmp_path, capsys):
    """An image that is not there is an error; the exit status is that of check-data."""
    path = voc(tmp_path / "labels")
    (images / "a.png").unlink()
    output = tmp_path / "train.json"
    status = run("voc", path, images, output)
    printed = capsys.readouterr().out
    assert "image-missing x 1" in printed
    assert status == main(["check-data", "--json", str(output), "--images", str(images)])


YOLO_FAULTS = {
    "7 0.5 0.5 0.1 0.1": "class 7 is none of 0 to 1: correct it, or --classes",
    "-1 0.5 0.5 0.1 0.1": "class -1 is none of 0 to 1",
    "0 50 50 10 10": "a coordinate is not a share of the image's side, from 0 to 1",
    "0 nan 0.5 0.1 0.1": "a coordinate is not a share",
    "0 0.5 0.5": "a polygon needs x and y of three or more corners",
    "0 0.5 0.5 0.1 0.1 0.9": "a polygon needs x and y of three or more corners",
    "0 0.5 0.5 0.1 0.1 0.2 0.3 0.4": "a polygon needs x and y of three or more corners",
    "0 0.5 half 0.1 0.1": "could not convert string to float: 'half'",
}


@pytest.mark.parametrize("line", YOLO_FAULTS)
def test_a_wrong_line_of_yolo_is_named(line, images, tmp_path):
    folder = yolo(tmp_path / "labels")
    write(folder / "a.txt", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(SystemExit) as error:
        run("yolo", folder, images, tmp_path / "train.json")
    text = str(error.value.code)
    assert f"error: {folder / 'a.txt'}, line 3: {line!r}: " in text
    assert YOLO_FAULTS[line] in text
    assert not (tmp_path / "train.json").exists()


def box_without(name):
    fields = "".join(f"<{k}>1</{k}>" for k in ("xmin", "ymin", "xmax", "ymax") if k != name)
    size = "<size><width>9</width><height>9</height></size>"
    box = f"<object><name>car</name><bndbox>{fields}</bndbox></object>"
    return f"<annotation><filename>a.png</filename>{size}{box}</annotation>"


@pytest.mark.parametrize(
    ("kind", "file", "text", "message"),
    [
        ("voc", "a.xml", "<annotation>", "Syntax error"),
        ("voc", "a.xml", box_without("xmax"), "Syntax error"),
        ("voc", "a.xml", box_without("").replace("9", "0"), "'(0, 0)' should be positive"),
        ("cvat", "annotations.xml", "<annotations/>", "has no <image>: export it as CVAT for"),
        (
            "cvat",
            "annotations.xml",
            '<a><image name="x" width="9" height="9"><polygon label="car" points="1,2"/></image>'
            "</a>",
            "image x: a polygon needs x and y of three or more corners",
        ),
        ("labelme", "a.json", "{", "Expecting property name"),
        ("labelme", "a.json", "[]", "list indices must be integers"),
        ("labelme", "a.json", '{"shapes": []}', "no 'imageWidth'"),
        ("labelme", "a.json", "\x00\xff", "Expecting value"),
    ],
)
def test_a_wrong_file_is_named(kind, file, text, message, images, tmp_path):
    path = tmp_path / "labels" / file
    write(path, text)
    with pytest.raises(SystemExit) as error:
        run(kind, path if kind == "cvat" else path.parent, images, tmp_path / "train.json")
    assert str(error.value.code).startswith(f"error: {path}")
    assert message in str(error.value.code)


def test_what_the_command_refuses(images, tmp_path, monkeypatch):
    folder, output = yolo(tmp_path / "labels"), tmp_path / "train.json"
    other = tmp_path / "other"
    other.mkdir()
    for kind, path, folder_of_images, out, words, message in (
        ("yolo", other, images, output, [], f"{other} has no .txt files"),
        ("yolo", folder, other / "x", output, [], f"--images: there is no folder {other / 'x'}"),
        ("yolo", other / "x", images, output, [], f"PATH: there is no folder {other / 'x'}"),
        ("cvat", folder, images, output, [], f"PATH: there is no file {folder}"),
        ("yolo", folder, images, tmp_path / "train.txt", [], "train.txt must end in .json"),
        ("labelme", folder, images, folder / "train.json", [], "lies among the annotations"),
        ("yolo", tmp_path, images, output, [], f"no file of {tmp_path} is named as an image of"),
        ("yolo", folder, images, output, ["--classes", "a,a"], "'a' stands there twice"),
    ):
        with pytest.raises(SystemExit) as error:
            run(kind, path, folder_of_images, out, *words)
        assert message in str(error.value.code)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(SystemExit, match="has no data.yaml or classes.txt, in it or above"):
        run("yolo", folder, images, output)
    write(tmp_path / "data.yaml", "train: images\n")
    with pytest.raises(SystemExit, match=r"data.yaml: no 'names'"):
        run("yolo", folder, images, output)
    monkeypatch.setattr("dnl_det.checkpoint.tensor_files.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="import-data needs the package globox: pip install glob"):
        run("yolo", folder, images, output)
    assert not output.exists()
