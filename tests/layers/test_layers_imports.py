"""The blocks can be copied into any project that has torch."""

import ast
import sys
from pathlib import Path


def _imported_packages(source: str) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            packages.add("." * node.level)  # leaves the folder
    return packages


def test_layers_import_torch_only(root: Path) -> None:
    files = sorted((root / "dnl_det" / "layers").rglob("*.py"))
    assert len(files) >= 5
    for file in files:
        foreign = _imported_packages(file.read_text()) - {"torch"} - set(sys.stdlib_module_names)
        assert foreign == set(), file.name


def test_the_check_sees_foreign_imports() -> None:
    source = "import math, numpy.linalg\nfrom detectron2 import layers\nfrom ..config import x\n"
    assert _imported_packages(source) == {"math", "numpy", "detectron2", ".."}
