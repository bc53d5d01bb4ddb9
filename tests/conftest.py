"""What every test may use."""

import importlib.util
import logging
import os
import socket
from pathlib import Path
from types import ModuleType

import pytest
import torch
from gpu import NEEDS_GPU
from programs import Program

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that is not marked ``gpu`` sees no GPU, nor do its programs: the same everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("gpu"):
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.cuda, "device_count", lambda: 0)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return (yield)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test that takes it runs on the CPU, and once more on a GPU where there is one.

    There, convolutions are in float32 and not in TF32, whose rounding is that of float16.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return request.param


@pytest.fixture(autouse=True)
def logs_reach_caplog() -> None:
    """Undo what setting up detectron2's logger in an earlier test did to propagation."""
    for name in ("dnl_det", "detectron2", "fvcore"):
        logging.getLogger(name).propagate = True


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout, where ``train_net.py`` and ``configs`` are."""
    return ROOT


@pytest.fixture(scope="session")
def load_tool(root: Path):
    """From the name of a script in ``tools`` to the script as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, root / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the authors' numbers and the real COCO images, beside the checkout."""
    folder = Path(os.environ.get("DNL_DET_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs {folder} (the authors' numbers, COCO images), which is absent")
    return folder


@pytest.fixture
def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``DETECTRON2_DATASETS`` with a Shapes data set of 12 and 6 images in it."""
    from dnl_det.data import ShapesOptions, write_shapes

    folder = tmp_path_factory.mktemp("datasets")
    write_shapes(folder / "shapes", ShapesOptions(num_train=12, num_val=6), progress=False)
    return folder


@pytest.fixture
def shapes(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, registered as ``shapes_train`` and ``shapes_val`` in this process."""
    from dnl_det.data import register_shapes

    monkeypatch.setenv("DETECTRON2_DATASETS", str(data_root))
    register_shapes(data_root)
    return data_root / "shapes"


@pytest.fixture
def tiny() -> list[str]:
    """Overrides that make a Shapes model train in a fraction of a second an iteration."""
    return [
        *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
        *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", "0"),
    ]


@pytest.fixture(scope="session")
def start(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """Start Python programs in the checkout: ``SCRIPT ARGUMENT ...``."""
    started = []

    def program(*words, fork=False, **environment) -> Program:
        output = tmp_path_factory.mktemp("program") / "printed"
        started.append(Program(words, output, root, environment, fork))
        return started[-1]

    yield program
    for each in started:
        each.kill()
