"""Imports between the packages of dnl_det point one way."""

import ast

import pytest

ABOVE_LAYERS = {"layers"}
KNOWS = {
    "config": set(),
    "files": set(),
    "text": set(),
    "layers": set(),
    "modeling": ABOVE_LAYERS,
    "checkpoint": ABOVE_LAYERS | {"files"},
    "mmdet1": set(),
    "data": ABOVE_LAYERS | {"mmdet1", "files", "text"},
    "evaluation": ABOVE_LAYERS | {"data", "files", "text"},
    "analysis": ABOVE_LAYERS,
    "engine": {
        "config",
        "files",
        "layers",
        "modeling",
        "checkpoint",
        "data",
        "evaluation",
        "analysis",
        "mmdet1",
    },
    "model_zoo": {"checkpoint", "engine"},
    "cli": {
        "config",
        "files",
        "text",
        "layers",
        "modeling",
        "checkpoint",
        "data",
        "evaluation",
        "engine",
        "analysis",
        "model_zoo",
    },
}


# What the rooms within a package import of that package.
ROOMS = {
    "data.checks": {"augmentations", "label_folders", "labels", "reading", "registering"},
    "data.shapes": {"registering"},
    "modeling.semantic": {"block_keys", "norm", "rules", "timm_blocks"},
    "evaluation.report": {"pictures"},
    "engine.config": set(),
    "engine.export": {"config", "predictor"},
    "engine.monitor": set(),
    "engine.training": {"config", "monitor"},
    "analysis.cost": set(),
    "analysis.recording": set(),
    "analysis.statistics": {"recording"},
    "analysis.page": {"recording", "statistics"},
}


def imported_packages(file, package_folder):
    """The packages of dnl_det, or modules of one of its packages, that a file imports."""
    depth = len(file.relative_to(package_folder).parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            yield from names
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dnl_det"):
            yield (node.module + ".").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("dnl_det."))


@pytest.mark.parametrize("package", KNOWS)
def test_a_package_imports_only_what_is_below_it(root, package):
    folder = root / "dnl_det"
    files = list((folder / package).rglob("*.py")) or [folder / f"{package}.py"]
    assert files[0].exists()
    for file in files:
        found = set(imported_packages(file, folder)) - {package}
        assert found <= KNOWS[package], f"{file} imports {found - KNOWS[package]}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_is_below_it(root, room):
    package, name = room.split(".")
    folder = root / "dnl_det" / package
    files = list((folder / name).glob("*.py"))
    assert len(files) > 1
    for file in files:
        found = set(imported_packages(file, folder)) - {name}
        assert found <= ROOMS[room], f"{file} imports {found - ROOMS[room]}"


def test_every_package_is_in_the_tables(root):
    folders = {file.parent.name for file in (root / "dnl_det").glob("*/__init__.py")}
    assert folders == KNOWS.keys() - {"config", "files", "text"}
    rooms = {file.parent for file in (root / "dnl_det").glob("*/*/__init__.py")}
    assert {f"{room.parent.name}.{room.name}" for room in rooms} == ROOMS.keys()
