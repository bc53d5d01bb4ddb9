"""Install detectron2 into the environment whose Python runs this script.

    python tools/install_detectron2.py           the pinned redistribution, its hash checked
    python tools/install_detectron2.py SOURCE    a folder, a wheel or git+https://..., built
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

PINNED = Path(__file__).resolve().parents[1] / "requirements" / "detectron2.txt"
REDISTRIBUTION = "sal-detectron2"
ORIGINAL = "detectron2"


def pinned_arguments(requirement: Path, target: Path) -> list[str]:
    """Arguments of ``pip install`` that put the wheel named in ``requirement`` into ``target``.

    Args:
        requirement: a requirements file; pip refuses a file whose sha256 is not the one it names.
        target: the site-packages folder to install into. An earlier copy is replaced.
    """
    return [
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.10",
        "--require-hashes",
        f"--target={target}",
        "--upgrade",
        f"--requirement={requirement}",
    ]


def source_arguments(source: str) -> list[str]:
    """Arguments of ``pip install`` for a detectron2 of the user's choice."""
    # detectron2's setup.py imports torch, which an isolated build would not have.
    return ["--no-build-isolation", source]


def is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", default="", help="what pip is to install instead")
    parser.add_argument(
        "--requirement", type=Path, default=PINNED, help="default: requirements/detectron2.txt"
    )
    parser.add_argument(
        "--target",
        type=Path,
        default=Path(sysconfig.get_path("purelib")),
        help="where the redistribution goes (default: the site-packages of this Python)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="remove a detectron2 of the other kind first"
    )
    args = parser.parse_args()

    pip = [sys.executable, "-m", "pip"]
    other = REDISTRIBUTION if args.source else ORIGINAL
    if is_installed(other):
        if not args.replace:
            print(
                f"{other} {metadata.version(other)} is installed for {sys.executable} and was "
                "kept. Add --replace to have it removed first.",
                file=sys.stderr,
            )
            return 1
        subprocess.run([*pip, "uninstall", "--yes", other], check=True)
    if args.source:
        arguments = source_arguments(args.source)
    else:
        arguments = pinned_arguments(args.requirement, args.target)
    return subprocess.run([*pip, "install", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
