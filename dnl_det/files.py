"""Writing files: whole or not at all, and never over what a command was given to read."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name once it is complete and on the disk.

    Args:
        path: what was there before stays until then, and whatever error ends the writing.

    Raises:
        OSError: it cannot be written, as on a full disk; the message names the file.
    """
    path = Path(path)
    # In the same folder, since only there renaming is one step. One name a process.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError | RuntimeError):  # torch wraps the errors of its writer
            raise OSError(
                f"{path} could not be written ({error}). What was there before is whole. Free "
                "space or make the folder writable, then go on (a training: --resume)."
            ) from error
        raise


def refuse_to_overwrite(
    outputs: Iterable[str | os.PathLike[str]], inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Check, before any work, that no file to write is one that is read, by whatever name.

    Args:
        outputs: files that a command will write.
        inputs: files that it reads; empty names and files that are not there are passed over.

    Raises:
        ValueError: names the file.
    """
    known = {_identity(path): path for path in inputs if path}
    for output in outputs:
        identity = _identity(output)
        if identity and identity in known:
            raise ValueError(
                f"{output} would be overwritten, and it is an input, {known[identity]}: name "
                "another folder or file for the output"
            )


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove what :func:`write_whole` has left in a folder where its process was killed."""
    for partial in Path(folder).glob(".*.partial"):
        if partial.is_file():
            partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Put a renaming on the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
