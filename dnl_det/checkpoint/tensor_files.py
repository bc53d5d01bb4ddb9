"""Weights as .safetensors, and from the Hugging Face Hub: both where their package is installed."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager

SUFFIX = ".safetensors"
HUB = "hf://"
# In the file's metadata, whose values are texts: detectron2 matches the names by their ends.
_HEURISTICS = "matching_heuristics"


def require(package: str, what: object) -> None:
    """Raise a ValueError that says what to install, unless a package is there."""
    if find_spec(package) is None:
        raise ValueError(f"{what} needs the package {package}: pip install {package}")


def read_tensors(path: Path) -> dict[str, Any]:
    """What :func:`tensor_bytes` has written, or the tensors of any other .safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        model = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no dictionary
        heuristics = (file.metadata() or {}).get(_HEURISTICS) == "True"
    return {"model": model, _HEURISTICS: True} if heuristics else model


def tensor_bytes(checkpoint: dict[str, Any]) -> bytes:
    """The content of a .safetensors file, of ``{"model": {key: tensor}}``."""
    from safetensors.torch import save

    model = {key: tensor.contiguous() for key, tensor in checkpoint["model"].items()}
    metadata = {"format": "pt", _HEURISTICS: str(bool(checkpoint.get(_HEURISTICS)))}
    return save(model, metadata)


class HubHandler(PathHandler):
    """``hf://OWNER/NAME/FILE`` is a file of that repository, kept in the Hub's own cache."""

    def _get_supported_prefixes(self) -> list[str]:
        return [HUB]

    def _get_local_path(self, path: str, **_: Any) -> str:
        parts = path.removeprefix(HUB).split("/", 2)
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"{path} must be {HUB}OWNER/NAME/FILE")
        require("huggingface_hub", path)
        from huggingface_hub import hf_hub_download

        return os.fspath(hf_hub_download("/".join(parts[:2]), parts[2]))

    def _isfile(self, path: str, **_: Any) -> bool:
        return Path(self._get_local_path(path)).is_file()

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(HubHandler(), allow_override=True)
