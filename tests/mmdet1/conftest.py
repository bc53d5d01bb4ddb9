"""The authors' checkpoints, as far as their layouts and reproducible values stand in for them."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

LAYOUTS = {  # file of the layout: the config's name
    "baseline": "1x",
    "nl_c4": "nl_c4_1x",
    "snl_c4": "snl_c4_1x",
    "gc_c4": "gc_c4_1x",
    "dnl_c4": "dnl_c4_1x",
    "dnl_c4c5all": "dnl_c4_c5all_1x",
}


@pytest.fixture(scope="session")
def official(shared) -> Path:
    return shared / "official"


@pytest.fixture(scope="session")
def official_state(official):
    """From the name of a layout to a ``state_dict`` with reproducible values."""
    spec = importlib.util.spec_from_file_location(
        "make_checkpoint", official / "make_checkpoint.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(name: str) -> dict[str, torch.Tensor]:
        return module.make_state_dict(json.loads((official / f"layout_{name}.json").read_text()))

    return make


@pytest.fixture
def official_file(official_state, tmp_path):
    """From the name of a layout to a checkpoint as mmdetection writes it."""

    def write(name: str) -> Path:
        file = tmp_path / f"{name}.pth"
        meta = {"mmdet_version": "1.0.rc0", "epoch": 12, "CLASSES": ("person", "bicycle")}
        content = {"meta": meta, "state_dict": official_state(name), "optimizer": {"state": {}}}
        # The authors used PyTorch 1.1, which wrote no zip files.
        torch.save(content, file, _use_new_zipfile_serialization=False)
        return file

    return write
