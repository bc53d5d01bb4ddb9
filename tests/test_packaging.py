"""The built wheel, the import without detectron2, and the hash check of its installation."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import dnl_det

PACKAGED = ["pyproject.toml", "LICENSE", "README.md", "dnl_det", "tests"]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built from a copy because setuptools writes beside its input."""
    pytest.importorskip("setuptools", "77", reason="building needs setuptools 77 or later")
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, source / name, ignore=ignored)
        else:
            shutil.copy(root / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(output), str(source)], check=True)
    (path,) = output.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata_lines(wheel: zipfile.ZipFile) -> list[str]:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return wheel.read(name).decode().splitlines()


def test_metadata_has_version_and_licence(wheel: zipfile.ZipFile) -> None:
    lines = metadata_lines(wheel)
    assert "Name: dnl-det" in lines
    assert f"Version: {dnl_det.__version__}" in lines
    assert "License-Expression: Apache-2.0" in lines
    assert not any(line.startswith("Requires-Dist: detectron2") for line in lines)


def test_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile, root: Path) -> None:
    modules = {str(path.relative_to(root)) for path in (root / "dnl_det").rglob("*.py")}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert len(modules) > 5
    page = {str(path.relative_to(root)) for path in (root / "dnl_det/analysis/page").iterdir()}
    assert len(page) > 5
    assert modules | page | {"dnl_det/py.typed"} <= packed
    assert {name.split("/")[0] for name in packed} == {"dnl_det"}
    licence = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(*licence) == (root / "LICENSE").read_bytes()


def test_import_without_detectron2_says_what_to_do(root: Path) -> None:
    code = "import sys; sys.modules['detectron2'] = None; import dnl_det"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ")
    for part in ("detectron2", "make", "pip install"):
        assert part in message


def test_without_pkg_resources_only_detectron2_s_zoo_is_missing(
    root: Path, wheel: zipfile.ZipFile
) -> None:
    """As under setuptools 82: the wheel asks for an earlier one, and the README says so."""
    code = (
        "import sys; sys.modules['pkg_resources'] = None; "
        "import train_net, dnl_det.cli.predict, dnl_det.cli.explore, dnl_det.cli.diagnose; "
        "print('all else is there', flush=True); from detectron2 import model_zoo"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == "all else is there\n"
    assert "pkg_resources" in result.stderr.strip().splitlines()[-1]
    assert "Requires-Dist: setuptools<82" in metadata_lines(wheel)
    troubleshooting = (root / "README.md").read_text().split("## Troubleshooting")[1]
    assert "`No module named 'pkg_resources'`" in troubleshooting
    assert "`pip install 'setuptools<82'`" in troubleshooting


def write_cp310_wheel(folder: Path) -> str:
    """Write a wheel named and tagged like the redistribution; return its sha256."""
    info = "sal_detectron2-0.7.2.dist-info"
    files = {
        "detectron2/__init__.py": b"marker = 'redistribution'\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: sal-detectron2\nVersion: 0.7.2\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp310-none-any\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = folder / "sal_detectron2-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install_detectron2(root: Path, *arguments: str, wheels: Path) -> subprocess.CompletedProcess:
    """Run the installer where pip sees the files in ``wheels`` and no package index."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return subprocess.run(
        [sys.executable, str(root / "tools" / "install_detectron2.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(
    any(d.metadata["Name"] == "detectron2" for d in metadata.distributions()),
    reason="detectron2 itself is installed, which the installer keeps",
)
@pytest.mark.parametrize("hash_is_right", [True, False])
def test_redistribution_needs_the_right_hash(
    root: Path, tmp_path: Path, hash_is_right: bool
) -> None:
    digest = write_cp310_wheel(tmp_path)
    if not hash_is_right:
        digest = "0" * 64
    requirement = tmp_path / "detectron2.txt"
    requirement.write_text(f"sal-detectron2==0.7.2 --hash=sha256:{digest}\n")
    target = tmp_path / "site-packages"
    arguments = ("--requirement", str(requirement), "--target", str(target))
    result = install_detectron2(root, *arguments, wheels=tmp_path)
    if not hash_is_right:
        assert result.returncode != 0
        assert "DO NOT MATCH THE HASHES" in result.stderr
        assert not target.exists()
        return
    assert result.returncode == 0, result.stderr
    module = target / "detectron2" / "__init__.py"
    module.write_text("half of a file")

    install_detectron2(root, *arguments, wheels=tmp_path)
    assert module.read_text() == "marker = 'redistribution'\n"


def test_pinned_hash_is_the_known_one(root: Path) -> None:
    lines = (root / "requirements" / "detectron2.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "sal-detectron2==0.7.2 "
        "--hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
    ]


def test_installer_keeps_the_detectron2_that_is_there(root: Path, tmp_path: Path) -> None:
    present = {d.metadata["Name"] for d in metadata.distributions()}
    # Asking for the kind that is not installed: a source, or the redistribution.
    arguments = [str(tmp_path / "none")] if "sal-detectron2" in present else []
    result = install_detectron2(root, *arguments, wheels=tmp_path)
    assert result.returncode == 1
    assert "was kept" in result.stderr
    assert "--replace" in result.stderr
