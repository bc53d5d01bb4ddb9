"""Annotations of other tools: boxes by globox, and the polygons that it leaves out."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import shapely
import yaml
from globox import Annotation, BoundingBox
from globox.errors import ParsingError
from shapely import affinity

from ..text import printable
from .checks.images import look_at
from .imported import Labelled, Shape
from .label_folders import IMAGE_ENDINGS, files_below, read_classes

# A share of the image's side by which YOLO's coordinates may lie outside.
_OUTSIDE = 0.01
_MALFORMED = (
    *(ParsingError, AssertionError, AttributeError, LookupError, OverflowError, TypeError),
    *(ValueError, ElementTree.ParseError),
)


@dataclass
class Source:
    """Where annotations are, and what was passed over.

    Attributes:
        path: a folder, or CVAT's file.
        images: the folder of the images.
        classes: their names in the order of their numbers, of YOLO; of the others those allowed.
        files: all that was read.
        passed: by its description, how many.
    """

    path: Path
    images: Path
    classes: Sequence[str]
    files: list[Path] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)

    def below(self, ending: str) -> Iterator[tuple[str, Path]]:
        """Names without their endings, and files, of the annotations.

        Raises:
            ValueError: there is none.
        """
        found = [(name, Path(file)) for name, file in files_below(str(self.path), (ending,))]
        if not found:
            raise ValueError(f"{self.path} has no {ending} files: give the folder that they are in")
        self.files += [file for _, file in found]
        return iter(found)


def read_yolo(source: Source) -> Iterator[Labelled]:
    """YOLO's text files: ``class x y w h`` or ``class x1 y1 x2 y2 ...``, shares of the image.

    They refer to the upright image, as it is turned by its EXIF. An image without a file has no
    objects.
    """
    source.classes = names = _yolo_names(source)
    labels = dict(source.below(".txt"))
    images = list(files_below(str(source.images), IMAGE_ENDINGS))
    if labels.keys().isdisjoint(stem for stem, _ in images):
        raise ValueError(
            f"no file of {source.path} is named as an image of {source.images}: give the folders "
            "that belong together, such as labels/train and images/train"
        )
    for stem, file in images:
        size = look_at(file, decode=False).upright
        if size is None:
            raise ValueError(f"{file} cannot be read as an image: correct or remove it")
        path, shapes = labels.pop(stem, None), []
        lines = _text(path).splitlines() if path else []
        for number, line in enumerate(lines, 1):
            if words := line.split():
                with _naming(f"{path}, line {number}: {printable(line)!r}"):
                    shapes.append(_yolo_shape(words, size, names))
        yield Labelled(_relative(file, source.images), size, shapes)
    labels = {stem: path for stem, path in labels.items() if path.name != "classes.txt"}
    if labels:
        source.passed[f"label files without an image, such as {min(labels.values())}"] = len(labels)


def _yolo_shape(words: Sequence[str], size: tuple[int, int], names: Sequence[str]) -> Shape:
    if not words[0].isdecimal() or int(words[0]) >= len(names):
        raise ValueError(
            f"class {words[0]} is none of 0 to {len(names) - 1}: correct it, or --classes"
        )
    shares = [float(word) for word in words[1:]]
    if not all(-_OUTSIDE <= share <= 1 + _OUTSIDE for share in shares):
        raise ValueError("a coordinate is not a share of the image's side, from 0 to 1")
    label = names[int(words[0])]
    if len(words) == 5:
        box = BoundingBox.from_yolo_v5(" ".join(words), image_size=size)
        return Shape(label, box.ltrb)
    return Shape.of_polygons(label, [[share * size[i % 2] for i, share in enumerate(shares)]])


def _yolo_names(source: Source) -> Sequence[str]:
    """``source.classes``, or those of the ``data.yaml`` or ``classes.txt`` nearest above."""
    if source.classes:
        return source.classes
    for folder in (source.path, *list(source.path.absolute().parents)[:3]):
        for file in (folder / "data.yaml", folder / "classes.txt"):
            if file.is_file():
                source.files.append(file)
                with _naming(str(file)):
                    return _names_in(file)
    raise ValueError(
        f"{source.path} has no data.yaml or classes.txt, in it or above: name the classes in the "
        "order of their numbers, --classes A,B,C"
    )


def _names_in(file: Path) -> Sequence[str]:
    if file.suffix == ".txt":
        return read_classes(str(file))
    names = yaml.safe_load(_text(file))["names"]
    if isinstance(names, dict):
        names = [names[number] for number in range(len(names))]
    return [str(name) for name in names]


def read_voc(source: Source) -> Iterator[Labelled]:
    """Pascal VOC's XML files. A box is xmin, ymin, xmax, ymax as it stands."""
    for stem, file in source.below(".xml"):
        with _naming(str(file)):
            found = Annotation.from_xml(file)
            shapes = [Shape(box.label, box.ltrb) for box in found.boxes]
            yield Labelled(_image(source, found.image_id, stem), _size(found.image_size), shapes)


def read_cvat(source: Source) -> Iterator[Labelled]:
    """The XML file "CVAT for images": boxes, turned ones as polygons, and polygons."""
    source.files.append(source.path)
    with _naming(str(source.path)):
        nodes = list(ElementTree.parse(source.path).getroot().iter("image"))
    if not nodes:
        raise ValueError(f"{source.path} has no <image>: export it as CVAT for images 1.1")
    for node in nodes:
        with _naming(f"{source.path}, image {printable(node.get('name'))}"):
            found = Annotation.from_cvat(node)
            shapes = []
            for child in node:
                if child.tag == "box":
                    shapes.append(_cvat_box(child))
                elif child.tag == "polygon":
                    points = child.attrib["points"].replace(";", ",").split(",")
                    shapes.append(Shape.of_polygons(child.attrib["label"], [[*map(float, points)]]))
                elif child.tag != "tag":  # of the whole image
                    source.passed[f"{child.tag} shapes"] += 1
            yield Labelled(_image(source, found.image_id), _size(found.image_size), shapes)


def _cvat_box(node: ElementTree.Element) -> Shape:
    box = BoundingBox.from_cvat(node)
    degrees = float(node.get("rotation", 0))
    if not degrees:
        return Shape(box.label, box.ltrb)
    turned = affinity.rotate(shapely.box(*box.ltrb), degrees)
    return Shape.of_polygons(box.label, [[*shapely.get_coordinates(turned)[:-1].flat]])


def read_labelme(source: Source) -> Iterator[Labelled]:
    """LabelMe's JSON files: rectangles, and polygons, of which those of a group are one object."""
    for stem, file in source.below(".json"):
        with _naming(str(file)):
            content = json.loads(_text(file))
            shapes, groups = [], []
            for number, shape in enumerate(content["shapes"]):
                kind, label = shape.get("shape_type", "polygon"), str(shape["label"])
                if kind == "rectangle":
                    shapes.append(Shape(label, BoundingBox.from_labelme(shape).ltrb))
                elif kind == "polygon":
                    group = shape.get("group_id")
                    alone = group is None
                    points = [float(value) for point in shape["points"] for value in point]
                    groups.append(((label, alone, number if alone else group), points))
                else:
                    source.passed[f"{kind} shapes"] += 1
            groups.sort(key=lambda group: group[0])
            for (label, *_), parts in groupby(groups, key=lambda group: group[0]):
                shapes.append(Shape.of_polygons(label, [points for _, points in parts]))
            size = _size((content["imageWidth"], content["imageHeight"]))
            name = content["imagePath"].replace("\\", "/")
            yield Labelled(_image(source, name, stem), size, shapes)


FORMATS: dict[str, Callable[[Source], Iterator[Labelled]]] = {
    "cvat": read_cvat,
    "labelme": read_labelme,
    "voc": read_voc,
    "yolo": read_yolo,
}


def read(kind: str, source: Source) -> list[Labelled]:
    """All labelled images of a source.

    Args:
        kind: one of ``FORMATS``.

    Raises:
        ValueError, OSError: what is wrong, with file, line or image.
    """
    found = list(FORMATS[kind](source))
    images = {
        _relative(file, source.images) for _, file in files_below(str(source.images), IMAGE_ENDINGS)
    }
    if others := images - {image.name for image in found}:
        source.passed[f"images without annotations, such as {min(others)}"] = len(others)
    return found


def _image(source: Source, name: str, stem: str = "") -> str:
    """The file that an annotation is of: by its name, or as the annotation's file is called.

    The name itself, where there is no such file; the check of the data tells.
    """
    name = str(PurePosixPath(name))
    for candidate in (name, PurePosixPath(name).name):
        if ".." not in candidate.split("/") and (source.images / candidate).is_file():
            return candidate
    for ending in IMAGE_ENDINGS if stem else ():
        if (source.images / (stem + ending)).is_file():
            return stem + ending
    return name


def _relative(file: str, folder: Path) -> str:
    return Path(file).relative_to(folder).as_posix()


def _size(size: Any) -> tuple[int, int]:
    """Width and height.

    Raises:
        ValueError: one of them is not above 0.
    """
    width, height = map(int, size)
    if min(width, height) < 1:
        raise ValueError(f"the image has {width} x {height} pixels")
    return width, height


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Say where an error is.

    Raises:
        ValueError: in place of what parsers raise.
    """
    try:
        yield
    except _MALFORMED as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{where}: {printable(what)}") from error
