"""``tools/setup``, ``make`` and ``.ci/run``, with a pip that notes what it is asked for."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REQUIRED = ["torch", "torchvision", "fvcore", "pycocotools", "numpy", "PIL", "cv2", "matplotlib"]
REQUIRED += ["tqdm", "shapely", "pytest", "xdist", "pytest_timeout", "hypothesis"]

# Stands in for pip: notes its arguments, fails where it is told to, and lays down a detectron2.
PIP = """
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
for argument in sys.argv:
    if os.environ.get("PIP_FAILS_ON", "\\0") in argument:
        sys.exit(3)
    if argument.startswith("--target="):
        folder = pathlib.Path(argument.split("=")[1], "detectron2", "modeling")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
"""


class Environment:
    """A virtual environment with a recording pip, and the script under test."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.script = root / "tools/setup/environment.py"
        self.folder = folder / "env"
        self.log = folder / "pip.log"
        venv.create(self.folder, with_pip=False)
        (self.site_packages,) = self.folder.glob("lib/python*/site-packages")
        self.add("pip")
        (self.site_packages / "pip" / "__main__.py").write_text(PIP.format(log=str(self.log)))

    def add(self, *modules: str) -> None:
        for module in modules:
            (self.site_packages / module).mkdir()
            (self.site_packages / module / "__init__.py").touch()

    def set_up(self, *arguments: str, fails_on: str = "\0") -> tuple[int, str, list[list[str]]]:
        """Run the script; return its status, what it printed and what pip was asked to install."""
        self.log.write_text("")
        command = [sys.executable, str(self.script), "--venv", str(self.folder), *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if fails_on != "\0":
            environment["PIP_FAILS_ON"] = fails_on
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120
        )
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        installs = [call[1:] for call in calls if call[0] == "install"]
        return result.returncode, result.stdout + result.stderr, installs


@pytest.fixture
def environment(root: Path, tmp_path: Path) -> Environment:
    return Environment(root, tmp_path)


def test_empty_environment_is_filled_once(environment: Environment, root: Path) -> None:
    status, output, installs = environment.set_up()
    assert status == 0, output
    pins = root / "requirements"
    torch, packages, detectron2, dnl_det = installs
    assert torch == ["-r", str(pins / "torch.txt")]
    assert packages == ["-r", str(pins / "base.txt"), "-r", str(pins / "dev.txt")]
    assert {"--no-deps", "--require-hashes", "--python-version=3.10"} < set(detectron2)
    assert f"--requirement={pins / 'detectron2.txt'}" in detectron2
    assert f"--target={environment.site_packages}" in detectron2
    assert dnl_det == ["--no-deps", "--no-build-isolation", "--editable", str(root)]
    assert "[2/5] installing torch" in output

    assert environment.set_up() == (0, "", [])


def test_interrupted_set_up_goes_on_where_it_stopped(environment: Environment) -> None:
    status, output, installs = environment.set_up(fails_on="base.txt")
    assert (status, len(installs)) == (3, 2)
    assert "goes on from there" in output

    status, output, installs = environment.set_up()
    assert (status, len(installs)) == (0, 3)
    assert "base.txt" in installs[0][1]


def test_choice_of_torch_is_followed_and_remembered(environment: Environment) -> None:
    environment.set_up("--torch", "torch==2.9 --index-url https://example.org/cpu")
    (state,) = environment.folder.glob("*.json")
    state.write_text(state.read_text().replace('"inputs": "', '"inputs": "older '))

    _, _, installs = environment.set_up()
    assert installs[0] == ["torch==2.9", "--index-url", "https://example.org/cpu"]
    assert len(installs) == 4


def test_choice_of_detectron2_is_built_against_the_installed_torch(
    environment: Environment,
) -> None:
    environment.add("detectron2")
    (environment.folder / "dnl_det-setup.json").write_text("{}")
    (environment.site_packages / "detectron2" / "modeling.py").touch()
    _, _, installs = environment.set_up("--detectron2", "/some/detectron2")
    assert installs[2] == ["--no-build-isolation", "/some/detectron2"]


def test_environment_of_the_user_gets_dnl_det_alone(environment: Environment, root: Path) -> None:
    environment.add("detectron2", *REQUIRED)
    before = sorted(environment.folder.rglob("*"))
    expected = ["--no-deps", "--editable", str(root)]
    assert environment.set_up()[::2] == (0, [expected])
    assert sorted(environment.folder.rglob("*")) == before

    environment.add("dnl_det")
    assert environment.set_up() == (0, "", [])


def test_environment_of_the_user_must_be_complete(environment: Environment) -> None:
    environment.add("detectron2", *(set(REQUIRED) - {"PIL", "cv2", "xdist"}))
    status, output, installs = environment.set_up()
    assert (status, installs) == (1, [])
    assert "lacks Pillow, opencv-python-headless. Install with:" in output

    environment.add("PIL", "cv2")
    status, output, _ = environment.set_up()
    assert status == 0
    assert "For make test" in output
    assert "lacks pytest-xdist:" in output


def test_torch_of_the_user_is_not_replaced(environment: Environment) -> None:
    environment.add("torch")
    status, output, installs = environment.set_up()
    assert (status, installs) == (1, [])
    assert "no detectron2" in output
    assert "git+https://github.com/facebookresearch/detectron2.git" in output
    assert "tools/setup/install_detectron2.py" in output


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        ("sys.version_info = (3, 9, 2)", "needs Python 3.10 or later"),
        ("sys.modules['ensurepip'] = None", "apt install python3-venv"),
    ],
)
def test_unfit_python_is_named(root: Path, tmp_path: Path, preparation: str, message: str) -> None:
    folder = tmp_path / "env"
    script = root / "tools/setup/environment.py"
    code = (
        f"import runpy, sys; {preparation}; sys.argv[1:] = ['--venv', {str(folder)!r}]; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not folder.exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lists_its_targets_and_names_a_missing_python(root: Path) -> None:
    def make(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True)

    listing = make().stdout
    for target in ("demo", "study", "test", "lint", "format", "docs", "clean"):
        assert f"  make {target} " in listing
    for variable in ("VENV=", "PYTHON=", "TORCH=", "DETECTRON2=", "ARGS="):
        assert variable in listing

    result = make("setup", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "no-such-python was not found. Install Python 3.10" in result.stdout


@pytest.mark.parametrize(
    ("pytest_says", "status", "passes"),
    [
        ("== 12 passed, 1 skipped in 3.00s ==", 0, True),
        ("== 12 passed, 1 failed in 3.00s ==", 2, False),
        ("== 40 skipped in 3.00s ==", 0, False),
        ("", 0, False),
    ],
)
def test_ci_fails_unless_tests_passed(
    root: Path, tmp_path: Path, pytest_says: str, status: int, passes: bool
) -> None:
    script = f'case $1 in lint|docs) exit 0; esac\necho "{pytest_says}"\nexit {status}\n'
    commands = {"make": script, "chromium": "", "chromedriver": "", "apt-get": "exit 9"}
    result = run_ci(root, tmp_path, commands)
    assert (result.returncode == 0) is passes
    assert "chromium" not in result.stdout


@pytest.mark.parametrize(
    ("user", "apt", "said"),
    [
        (0, 'echo "apt-get $*"', "apt-get install -y -qq --no-install-recommends chromium"),
        (0, "exit 1", "It cannot be installed here"),
        (1000, "exit 1", "It takes root and apt-get"),
        (0, None, "It takes root and apt-get"),
    ],
)
def test_ci_installs_the_browser_where_it_can(
    root: Path, tmp_path: Path, user: int, apt: str | None, said: str
) -> None:
    commands = {"make": 'echo "== 1 passed =="', "id": f"echo {user}"}
    if apt is not None:
        commands["apt-get"] = apt
    result = run_ci(root, tmp_path, commands)
    assert result.returncode == 0, result.stderr
    assert said in result.stdout


def run_ci(root: Path, folder: Path, commands: dict[str, str]) -> subprocess.CompletedProcess:
    """Run .ci/run where, of what it may install or start, only these commands exist."""
    for name in ("dirname", "mktemp", "rm", "tee", "grep"):
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, script in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    bash = shutil.which("bash") or "bash"
    return subprocess.run(
        [bash, str(root / ".ci" / "run")],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
    )
