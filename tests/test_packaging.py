"""The wheel, built and installed; the import without detectron2, whose installer checks hashes."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import dnl_det
from dnl_det.__main__ import COMMANDS

PACKAGED = ["pyproject.toml", "setup.py", "LICENSE", "README.md", "configs", "dnl_det", "tests"]
BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel_file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source distribution of this checkout, as ``python -m build`` makes it.

    Both are built from a copy, because setuptools writes beside its input.
    """
    pytest.importorskip("setuptools", "77", reason="building needs setuptools 77 or later")
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, source / name, ignore=ignored)
        else:
            shutil.copy(root / name, source)
    python = [sys.executable, "-W", "ignore"]
    subprocess.run([*python, "-c", BUILD_SDIST, str(output)], cwd=source, check=True)
    (archive,) = output.glob("*.tar.gz")
    build = [*python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(output), str(archive)], check=True)
    (path,) = output.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


class Installed:
    """The wheel in an environment of its own, with this one's other packages and no checkout.

    Programs run in a folder that is empty at first, which is DETECTRON2_DATASETS too.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        environment = folder / "environment"
        self.folder = folder / "work"
        self.folder.mkdir()
        self.programs = environment / "bin"
        venv.create(environment)
        (self.site_packages,) = environment.glob("lib/python*/site-packages")
        others = [path for path in sys.path if path.endswith("-packages")]
        (self.site_packages / "others.pth").write_text("\n".join(others))
        install = ["python", "-m", "pip", "install", "--no-deps", "--no-index"]
        # The dnl_det of the other packages must stay there.
        self.run(*install, "--ignore-installed", str(wheel))

    def run(self, program: str, *words: str) -> str:
        """Run a program of the environment to its end; what it printed."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_USER")}
        given = {"DETECTRON2_DATASETS": str(self.folder), "PYTHONWARNINGS": "ignore"}
        result = subprocess.run(
            [str(self.programs / program), *words],
            cwd=self.folder,
            env={**kept, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout


@pytest.fixture(scope="module")
def installed(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel_file, tmp_path_factory.mktemp("installed"))


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
    page = {
        str(path.relative_to(root)) for path in (root / "dnl_det/analysis/page/assets").iterdir()
    }
    assert len(page) > 5
    files = [*(root / "configs").rglob("*.yaml"), *(root / "configs").rglob("*.py")]
    configs = {f"dnl_det/model_zoo/{path.relative_to(root)}" for path in files}
    assert len(configs) > 30
    others = {"py.typed", "data/checks/FAULTS.md", "evaluation/report/report.html"}
    assert packed == modules | page | configs | {f"dnl_det/{name}" for name in others}
    licence = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(*licence) == (root / "LICENSE").read_bytes()


def test_the_installed_command_has_every_command(installed: Installed) -> None:
    output = installed.run("dnl-det", "--help")
    assert output.startswith("usage: dnl-det ")
    for command in (*COMMANDS, "train"):
        assert f"\n    {command}" in output


@pytest.mark.slow
def test_installed_without_a_checkout_it_trains_and_predicts(
    installed: Installed, tiny: list[str]
) -> None:
    code = (
        "from dnl_det import model_zoo; name = 'Shapes/disentangled.yaml'; "
        "print(model_zoo.get_config_file(name), model_zoo.get_config(name).MODEL.DNL.BLOCK)"
    )
    config, block = installed.run("python", "-c", code).split()
    assert Path(config).is_relative_to(installed.site_packages)
    assert block == "dnl"

    installed.run("dnl-det", "shapes", "--num-train", "4", "--num-val", "2")
    own = installed.folder / "own.yaml"
    own.write_text(f"_BASE_: {config}\nSOLVER:\n  MAX_ITER: 2\nOUTPUT_DIR: output\n")
    output = installed.run("dnl-det", "train", "--config-file", "own.yaml", *tiny)
    assert "Task: segm" in output
    trained = ("--config-file", "output/config.yaml", "--weights", "output/model_final.pth")
    installed.run("dnl-det", "predict", *trained, "shapes/val/000001.bmp", "--output", "found")
    assert (installed.folder / "found" / "000001.png").is_file()
    assert isinstance(
        json.loads((installed.folder / "found" / "detections.json").read_text()), list
    )


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
    """As under setuptools 82: the wheel asks for an earlier one, and the docs say so."""
    code = (
        "import sys; sys.modules['pkg_resources'] = None; "
        "import dnl_det.cli.train, dnl_det.cli.predict, dnl_det.cli.explore, dnl_det.cli.diagnose; "
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
    troubleshooting = (root / "docs/TROUBLESHOOTING.md").read_text()
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
        [sys.executable, str(root / "tools/setup/install_detectron2.py"), *arguments],
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
