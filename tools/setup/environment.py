"""Make the environment in which ``make`` runs everything. Needs Python's standard library alone.

An environment made here holds ``dnl_det-setup.json``: what was asked for, and how many steps are
done. The next call does the missing ones, or all of them where pins or choices have changed.
An environment made by somebody else is left as it is, except that ``dnl_det`` is added to it.
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

if sys.version_info < (3, 10):  # noqa: UP036  what make finds may be older
    sys.exit(
        f"The set-up needs Python 3.10 or later; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one: make PYTHON=python3.10"
    )

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "requirements"
INSTALLER = Path(__file__).with_name("install_detectron2.py")
STATE = "dnl_det-setup.json"
# What somebody else's environment has to have: names of modules.
REQUIRED = "torch torchvision detectron2 fvcore pycocotools numpy PIL cv2 matplotlib tqdm shapely"
FOR_TESTS = "pytest xdist pytest_timeout hypothesis"
DISTRIBUTIONS = {
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "xdist": "pytest-xdist",
    "pytest_timeout": "pytest-timeout",
}


def run(*command: object) -> None:
    """Run a command, its output on the terminal; exit with its status where it fails."""
    # pip's hint about its own newer release would have users replace what is pinned.
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    status = subprocess.run([str(part) for part in command], env=environment).returncode
    if status:
        print("The set-up stopped at the error above. The same command again goes on from there.")
        sys.exit(status)


def fill(venv: Path, torch: str, detectron2: str) -> None:
    """Do the missing steps in an environment made here; a choice once made stays."""
    state_file, python = venv / STATE, venv / "bin" / "python"
    known = json.loads(state_file.read_text()) if state_file.is_file() else {}
    inputs = hashlib.sha256(str(ROOT).encode())
    for file in [*sorted(PINS.glob("*.txt")), ROOT / "pyproject.toml", INSTALLER]:
        inputs.update(file.read_bytes())
    state = {
        "torch": torch or known.get("torch", ""),
        "detectron2": detectron2 or known.get("detectron2", ""),
        "inputs": inputs.hexdigest(),
    }
    done = known["done"] if state.items() <= known.items() else 0

    pip = (python, "-m", "pip", "install")
    torch_itself = shlex.split(state["torch"]) or ["-r", f"{PINS}/torch.txt"]
    source = [state["detectron2"]] if state["detectron2"] else []
    # The pinned setuptools is there at the end, so nothing has to be fetched for dnl_det's build.
    editable = ("--no-deps", "--no-build-isolation", "--editable", ROOT)
    steps: list[tuple[str, tuple[object, ...]]] = [
        ("creating the virtual environment", (sys.executable, "-m", "venv", venv)),
        ("installing torch (the longest step: 2 minutes and more, once)", (*pip, *torch_itself)),
        ("installing the packages", (*pip, "-r", PINS / "base.txt", "-r", PINS / "dev.txt")),
        ("installing detectron2", (python, INSTALLER, "--replace", *source)),
        ("installing dnl_det itself, editable", (*pip, *editable)),
    ]
    if done == len(steps):
        return
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: its venv or ensurepip module is "
            "missing. On Debian and Ubuntu: apt install python3-venv"
        )
    print(f"Setting up {venv}: a few minutes, once, and 6 GB on disk with the default torch.")
    venv.mkdir(parents=True, exist_ok=True)
    for number, (title, command) in enumerate(steps[done:], start=done):
        # Written before the first step: an interrupted one must not look like somebody else's.
        state_file.write_text(json.dumps({**state, "done": number}, indent=1))
        print(f"[{number + 1}/{len(steps)}] {title}", flush=True)
        if number > 0 or not has_pip(python):
            run(*command)
    run(python, "-W", "ignore", "-c", "import detectron2.modeling")
    state_file.write_text(json.dumps({**state, "done": len(steps)}, indent=1))
    print(f"{venv} is ready.")


def has_pip(python: Path) -> bool:
    command = [str(python), "-m", "pip", "--version"]
    return python.exists() and subprocess.call(command, stdout=subprocess.DEVNULL) == 0


def missing_modules(venv: Path) -> list[str]:
    """Names of ``REQUIRED``, ``FOR_TESTS`` and ``dnl_det`` that ``venv`` does not have."""
    code = (
        "import sys; from importlib.util import find_spec; "
        "print(*(name for name in sys.argv[1:] if find_spec(name) is None))"
    )
    command = [str(venv / "bin" / "python"), "-c", code]
    command += f"{REQUIRED} {FOR_TESTS} dnl_det".split()
    # Run elsewhere: in the checkout Python would find dnl_det without it being installed.
    result = subprocess.run(command, cwd=venv, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{command[0]} does not run. Remove {venv} or name another one: make VENV=...")
    return result.stdout.split()


def add_to(venv: Path, missing: list[str]) -> None:
    """Check an environment made by somebody else, and add ``dnl_det`` to it."""
    pip = f"{venv}/bin/python -m pip install"
    if "detectron2" in missing:
        sys.exit(
            f"{venv} has torch but no detectron2, and make fills no environment it did not make. "
            "Install detectron2 there, all of it,\n"
            f"  {pip} --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
            "\nor its pure Python part and the pinned packages (they may replace yours),\n"
            f"  {pip} -r requirements/base.txt && "
            f"{venv}/bin/python {INSTALLER.relative_to(ROOT)}\n"
            "or leave VENV out and have make create .venv."
        )
    required, for_tests = (
        [DISTRIBUTIONS.get(name, name) for name in names.split() if name in missing]
        for names in (REQUIRED, FOR_TESTS)
    )
    if required:
        sys.exit(f"{venv} lacks {', '.join(required)}. Install with: {pip} {' '.join(required)}")
    if for_tests:
        print(f"For make test, {venv} lacks {', '.join(for_tests)}: {pip} {' '.join(for_tests)}")
    if "dnl_det" in missing:
        print(f"Adding dnl_det to {venv}, editable; nothing else there is changed.", flush=True)
        run(venv / "bin" / "python", "-m", "pip", "install", "--no-deps", "--editable", ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    parser.add_argument("--torch", default="", help="what pip is to install as torch instead")
    parser.add_argument("--detectron2", default="", help="... and as detectron2")
    args = parser.parse_args()
    venv = args.venv.absolute()
    if (venv / "bin" / "python").exists() and not (venv / STATE).is_file():
        missing = missing_modules(venv)
        if not {"torch", "detectron2"} <= set(missing):
            return add_to(venv, missing)
    fill(venv, args.torch, args.detectron2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
