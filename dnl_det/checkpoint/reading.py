"""Reading checkpoint files without running what they carry.

A pickle can call any function of any module while it is read, so that opening somebody's weights
can run their code. Here only tensors, arrays and plain containers are ever built.
"""

import contextlib
import logging
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .tensor_files import SUFFIX, read_tensors, require

TRUST_VARIABLE = "DNL_DET_TRUST_WEIGHTS"

# What a pickle of arrays needs from NumPy; "core" became "_core" in NumPy 2.
_NUMPY_GLOBALS = {
    f"numpy.{core}.{name}"
    for core in ("core", "_core")
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
} | {"numpy.ndarray", "numpy.dtype"}
# How the unpicklers of torch and Python word that the bytes end too early.
_CUT_OFF = re.compile(
    r"truncated|Ran out of input|unexpected EOF|EOF|failed finding central directory|exhausted",
    re.IGNORECASE,
)


class UnsafeCheckpointError(ValueError):
    """A file that would run code, or build foreign objects, if it were read."""


class DamagedCheckpointError(ValueError):
    """A file whose bytes are not a whole checkpoint."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint file holds: tensors, arrays, numbers, strings and plain containers.

    Args:
        path: ``.pkl`` as in detectron2's model zoo is read by Python's unpickler, restricted to
            arrays; ``.safetensors`` by safetensors; any other name by
            ``torch.load(weights_only=True)``. With ``DNL_DET_TRUST_WEIGHTS=1`` in the environment
            the first and the last unpickle everything.

    Returns:
        The file's dictionary, as it is; tensors on the CPU.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: it refers to something that is not data.
        DamagedCheckpointError: it is empty, cut off, or not a checkpoint.
        ValueError: it holds no dictionary, or is a .safetensors and that package is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == SUFFIX:
        require("safetensors", path)
    try:
        content = _read(path)
    except Exception as error:  # unpickling raises whatever the bytes make it raise
        raise _explain(path, error) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a dictionary of parameters; give a "
            "state_dict or a training checkpoint"
        )
    return content


def check_sums(path: str | os.PathLike[str]) -> None:
    """Compare a file of ``torch.save`` with the checksums in it, which torch itself does not.

    Raises:
        DamagedCheckpointError: bytes were changed after it was written.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
        if changed is not None:
            raise DamagedCheckpointError(
                f"{path} is damaged: {changed} in it does not match its checksum"
            )


def _read(path: Path) -> Any:
    if path.suffix == SUFFIX:
        return read_tensors(path)
    trusted = os.environ.get(TRUST_VARIABLE) == "1"
    if trusted:
        logging.getLogger(__name__).warning(
            f"{path} is unpickled without restrictions ({TRUST_VARIABLE}=1): it can run any code."
        )
    if path.suffix == ".pkl":
        with path.open("rb") as file:
            unpickler: type[pickle.Unpickler] = pickle.Unpickler if trusted else _ArrayUnpickler
            return unpickler(file, encoding="latin1").load()
    if trusted:
        return torch.load(path, map_location="cpu", weights_only=False)
    with _numpy_allowed():
        return torch.load(path, map_location="cpu", weights_only=True)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and scalars and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name in _NUMPY_GLOBALS or _is_dtype_class(module, name):
            return super().find_class(module, name)
        if full_name == "collections.OrderedDict":
            return OrderedDict
        if full_name == "_codecs.encode":  # how bytes look in pickles of protocol 2
            return _encode_latin1
        raise pickle.UnpicklingError(f"GLOBAL {full_name}")


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"GLOBAL _codecs.encode({encoding})")
    return text.encode("latin1")


def _is_dtype_class(module: str, name: str) -> bool:
    return module == "numpy.dtypes" and name.endswith("DType")


def _numpy_allowed() -> contextlib.AbstractContextManager[Any]:
    """Within it, ``torch.load(weights_only=True)`` builds NumPy arrays and scalars too."""
    if not hasattr(torch.serialization, "safe_globals"):  # torch before 2.5
        return contextlib.nullcontext()
    multiarray = getattr(np, "_core", None) or np.core
    functions = [multiarray.multiarray._reconstruct, multiarray.multiarray.scalar]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return torch.serialization.safe_globals([np.ndarray, np.dtype, *functions, *dtypes])


def _explain(path: Path, error: Exception) -> ValueError:
    """The error of an unpickler in words that say what to do."""
    size = path.stat().st_size
    if size == 0:
        return DamagedCheckpointError(f"{path} is empty (0 bytes); fetch it again")
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if head.startswith(b"<"):
        return DamagedCheckpointError(
            f"{path} is a web page, not a checkpoint: its address asks for a browser or a login. "
            "Download the file with a browser."
        )
    # Both unpicklers name what they refuse in this way.
    if foreign := re.search(r"GLOBAL (\S+)", str(error)):
        return UnsafeCheckpointError(
            f"{path} is refused: it refers to {foreign[1]}, which is not a tensor, an array or a "
            "plain container, so that reading it could run code. Get the weights as a plain "
            f"state_dict; if you trust whoever made the file, set {TRUST_VARIABLE}=1."
        )
    cut_zip = head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path)
    if cut_zip or isinstance(error, EOFError | IndexError) or _CUT_OFF.search(str(error)):
        return DamagedCheckpointError(
            f"{path} is truncated: it ends after {size:,} bytes, in the middle of its data, as an "
            "interrupted download does; fetch it again"
        )
    # torch puts advice to read the file without restrictions before the reason.
    reason = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")[0]
    return DamagedCheckpointError(
        f"{path} cannot be read as a checkpoint ({type(error).__name__}: {reason[:200]}). It "
        "must be a file of torch.save, such as a .pth, a .safetensors, or a .pkl of arrays as in "
        "detectron2's model zoo; a damaged download has to be fetched again"
    )
