"""Make the environment that ``make`` runs everything in. Needs Python's standard library alone.

A virtual environment that this script made holds ``dnl_det-setup.json``, which says what was asked
for and which steps are done: the next call does only what is missing, be it after an interruption,
a new pin, or another choice of torch or detectron2. In an environment made by somebody else nothing
is changed, save that ``dnl_det`` is added to it.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(
        f"The set-up needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one: make PYTHON=python3.11"
    )

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
INSTALLER = ROOT / "tools" / "install_detectron2.py"
STATE = "dnl_det-setup.json"
STEPS = {
    "venv": "creating the virtual environment",
    "torch": "installing torch (the longest step: 2 minutes and more, once)",
    "packages": "installing the other packages",
    "detectron2": "installing detectron2",
    "dnl_det": "installing dnl_det itself, editable",
}
# Module names and the distributions that provide them.
REQUIRED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "detectron2": "detectron2",
    "fvcore": "fvcore",
    "pycocotools": "pycocotools",
    "numpy": "numpy",
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "matplotlib": "matplotlib",
    "tqdm": "tqdm",
    "shapely": "shapely",
}
FOR_TESTS = {
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "pytest_timeout": "pytest-timeout",
    "hypothesis": "hypothesis",
}


def say(message: str) -> None:
    print(message, flush=True)


def run(*command: object) -> None:
    """Run a command, its output on the terminal; leave with its status when it fails."""
    # pip's hint about its own newer release would have users replace what is pinned.
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    status = subprocess.run([str(part) for part in command], env=environment).returncode
    if status:
        say("The set-up stopped at the error above. The same command again goes on from there.")
        sys.exit(status)


def fingerprint() -> str:
    """What the steps depend on besides the user's choices: the pins, the metadata, the place."""
    digest = hashlib.sha256(str(ROOT).encode())
    for file in [*sorted(REQUIREMENTS.glob("*.txt")), ROOT / "pyproject.toml", INSTALLER]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def has_pip(python: Path) -> bool:
    if not python.exists():
        return False
    command = [str(python), "-m", "pip", "--version"]
    return subprocess.call(command, stdout=subprocess.DEVNULL) == 0


def do_step(step: str, venv: Path, torch: str, detectron2: str) -> None:
    python = venv / "bin" / "python"
    pip_install = (python, "-m", "pip", "install")
    if step == "venv":
        if not has_pip(python):
            run(sys.executable, "-m", "venv", venv)
    elif step == "torch":
        run(*pip_install, *(shlex.split(torch) or ["-r", str(REQUIREMENTS / "torch.txt")]))
    elif step == "packages":
        run(*pip_install, "-r", REQUIREMENTS / "base.txt", "-r", REQUIREMENTS / "dev.txt")
    elif step == "detectron2":
        run(python, INSTALLER, "--replace", *([detectron2] if detectron2 else []))
        run(python, "-W", "ignore", "-c", "import detectron2.modeling")
    elif step == "dnl_det":
        # The pinned setuptools is there by now, so nothing has to be fetched for the build.
        run(*pip_install, "--no-deps", "--no-build-isolation", "--editable", ROOT)


def fill(venv: Path, torch: str, detectron2: str) -> None:
    """Do what is missing in the environment that this script makes or made."""
    state_file = venv / STATE
    state = json.loads(state_file.read_text()) if state_file.is_file() else {}
    choice = {
        # A choice once made stays: it need not be repeated with every make.
        "torch": torch or state.get("torch", ""),
        "detectron2": detectron2 or state.get("detectron2", ""),
        "inputs": fingerprint(),
    }
    unchanged = all(state.get(key) == choice[key] for key in choice)
    done: list[str] = state["done"] if unchanged else []
    missing = [step for step in STEPS if step not in done]
    if not missing:
        return

    if find_spec("venv") is None or find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: its venv or ensurepip module is "
            "missing. On Debian and Ubuntu: apt install python3-venv"
        )
    say(f"Setting up {venv}: a few minutes, once, and 6 GB on disk with the default torch.")
    venv.mkdir(parents=True, exist_ok=True)
    for step in missing:
        # Written before the first step too: when that one is interrupted, the folder must not
        # look like an environment of somebody else.
        state_file.write_text(json.dumps({**choice, "done": done}, indent=1))
        say(f"[{list(STEPS).index(step) + 1}/{len(STEPS)}] {STEPS[step]}")
        do_step(step, venv, choice["torch"], choice["detectron2"])
        done.append(step)
    state_file.write_text(json.dumps({**choice, "done": done}, indent=1))
    say(f"{venv} is ready.")


def missing_modules(venv: Path) -> set[str]:
    """Names of ``REQUIRED``, ``FOR_TESTS`` and ``dnl_det`` that ``venv`` does not have."""
    names = [*REQUIRED, *FOR_TESTS, "dnl_det"]
    code = (
        "import json, sys; from importlib.util import find_spec; "
        "print(json.dumps([name for name in sys.argv[1:] if find_spec(name) is None]))"
    )
    command = [str(venv / "bin" / "python"), "-c", code, *names]
    # Run elsewhere: in the checkout Python would find dnl_det without it being installed.
    result = subprocess.run(command, cwd=venv, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{command[0]} does not run. Remove {venv} or name another one: make VENV=...")
    return set(json.loads(result.stdout))


def check_foreign(venv: Path, missing: set[str]) -> None:
    """Leave an environment of the user's as it is, after a check that all needed is there."""
    pip = f"{venv}/bin/python -m pip install"
    if "detectron2" in missing:
        sys.exit(
            f"{venv} has torch but no detectron2, and make fills no environment it did not make. "
            "Install detectron2 there, all of it,\n"
            f"  {pip} --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
            "\nor its pure Python part and the pinned packages (they may replace yours),\n"
            f"  {pip} -r requirements/base.txt && {venv}/bin/python tools/install_detectron2.py\n"
            "or leave VENV out and have make create .venv."
        )
    absent = [REQUIRED[name] for name in REQUIRED if name in missing]
    if absent:
        sys.exit(f"{venv} lacks {', '.join(absent)}. Install with: {pip} {' '.join(absent)}")
    absent = [FOR_TESTS[name] for name in FOR_TESTS if name in missing]
    if absent:
        say(f"For make test, {venv} lacks {', '.join(absent)}: {pip} {' '.join(absent)}")
    if "dnl_det" in missing:
        say(f"Adding dnl_det to {venv}, editable; nothing else there is changed.")
        run(venv / "bin" / "python", "-m", "pip", "install", "--no-deps", "--editable", ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    parser.add_argument("--torch", default="", help="what pip is to install as torch instead")
    parser.add_argument("--detectron2", default="", help="... and as detectron2")
    args = parser.parse_args()
    venv = args.venv.absolute()

    made_elsewhere = (venv / "bin" / "python").exists() and not (venv / STATE).is_file()
    if made_elsewhere:
        missing = missing_modules(venv)
        if not {"torch", "detectron2"} <= missing:
            check_foreign(venv, missing)
            return
    fill(venv, args.torch, args.detectron2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
