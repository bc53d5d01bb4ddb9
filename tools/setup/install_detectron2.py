"""Install detectron2 into the environment whose Python runs this script.

    python tools/setup/install_detectron2.py           the pinned redistribution, its hash checked
    python tools/setup/install_detectron2.py SOURCE    a folder, a wheel or git+https://..., built
                                                       against the torch that is installed

detectron2 has no current release on PyPI under its own name. The redistribution there is its main
branch of April 2024: pure Python, but tagged for CPython 3.10, so pip has to be told to take it,
and without its dependencies, which requirements/base.txt pins. Its compiled module does not load:
deformable convolution, rotated boxes and the C++ COCO evaluation need detectron2 from SOURCE.
"""

import argparse
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", nargs="?", default="", help="what pip is to install instead")
    add("--replace", action="store_true", help="remove a detectron2 of the other kind first")
    pins = Path(__file__).resolve().parents[2] / "requirements" / "detectron2.txt"
    add("--requirement", default=pins, help="default: requirements/detectron2.txt")
    packages = sysconfig.get_path("purelib")
    add("--target", default=packages, help="of the redistribution (default: %(default)s)")
    args = parser.parse_args()

    pip = [sys.executable, "-m", "pip"]
    other = "sal-detectron2" if args.source else "detectron2"
    if found := next(iter(metadata.distributions(name=other)), None):
        if not args.replace:
            sys.exit(
                f"{other} {found.version} is installed for {sys.executable} and was kept. Add "
                "--replace to have it removed first."
            )
        subprocess.run([*pip, "uninstall", "--yes", other], check=True)
    if args.source:
        # detectron2's setup.py imports torch, which an isolated build would not have.
        install = ["--no-build-isolation", args.source]
    else:
        # pip refuses a file with another sha256 than the one required, and replaces a broken copy.
        install = ["--no-deps", "--only-binary=:all:", "--python-version=3.10", "--require-hashes"]
        install += [f"--target={args.target}", "--upgrade", f"--requirement={args.requirement}"]
    return subprocess.run([*pip, "install", *install]).returncode


if __name__ == "__main__":
    sys.exit(main())
