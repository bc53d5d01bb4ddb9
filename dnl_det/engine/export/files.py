"""Files of exported detectors: a graph, and what it needs to know of its config and classes."""

import io
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from ...checkpoint.tensor_files import require
from ..config.command_line import load_config
from .graph import OUTPUTS, capture, trace

ENDINGS = {"torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}
"""The ending of a file by its format."""
_ABOUT = "dnl_det.json"
_INPUTS = ("image", "scale")


@dataclass(frozen=True)
class About:
    """What an exported detector knows of itself.

    Attributes:
        config: of the model, YAML.
        classes: their names, by the model's index.
        category_ids: their ids in the data, likewise.
        image_format: the order of the image's channels, ``BGR`` or ``RGB``.
        min_side: the shortest side in pixels of an image that the graph takes.
        inputs, outputs: their names, in their order.
    """

    config: str
    classes: Sequence[str]
    category_ids: Sequence[int]
    image_format: str
    min_side: int
    inputs: Sequence[str]
    outputs: Sequence[str]

    def cfg(self) -> CfgNode:
        """The config, checked as any other.

        Raises:
            ValueError: it is not one of this version.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(self.config)
            file.flush()
            return load_config(file.name)


def format_of(path: str | os.PathLike[str], option: str) -> str:
    """The format that a file's ending says.

    Raises:
        ValueError: none of them; the message names the option.
    """
    ending = os.path.splitext(path)[1]
    for name, known in ENDINGS.items():
        if ending == known:
            return name
    allowed = ", ".join(f"{known} ({name})" for name, known in ENDINGS.items())
    raise ValueError(f"{option}: {path} must end in one of {allowed}")


def write_graph(
    model: nn.Module, arguments: tuple[Tensor, ...], kind: str, about: About, file: BinaryIO
) -> None:
    """Export a detector.

    Args:
        model: the detector, see :class:`TensorDetector`.
        arguments: those of an example image.
        kind: a format of :data:`ENDINGS`.

    Raises:
        ValueError: a package is missing, or torch cannot export this model.
    """
    text = json.dumps(asdict(about))
    if kind == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "a .onnx file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants in the graph: see `agreement`
            graph: Any = (
                trace(model, arguments) if kind == "torchscript" else capture(model, arguments)
            )
        if kind == "torchscript":
            torch.jit.save(graph, file, _extra_files={_ABOUT: text})
        elif kind == "torch-export":
            torch.export.save(graph, file, extra_files={_ABOUT: text})
        else:
            content = torch.onnx.export(
                graph,
                dynamo=True,
                verbose=False,
                input_names=[*about.inputs],
                output_names=[*about.outputs],
            ).model_proto  # type: ignore[union-attr]
            content.metadata_props.add(key=_ABOUT, value=text)
            file.write(content.SerializeToString())
    except (OSError, MemoryError):
        raise
    except Exception as error:
        last = str(error).strip().partition("\n")[0][:300]
        others = " or ".join(name for name in ENDINGS if name != kind)
        raise ValueError(
            f"--format {kind}: torch {torch.__version__} cannot export this model "
            f"({type(error).__name__}: {last}): take {others}, or another version of torch"
        ) from error


class Graph:
    """A file of :func:`write_graph`, ready to run.

    Args:
        path: the file.
        kind: its format.
        device: where it runs; onnxruntime takes what it has been built for.

    Attributes:
        about: what is known of it.

    Raises:
        ValueError: it is not such a file, or a package is missing.
        FileNotFoundError: it is not there.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str, device: str):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"--model: there is no file {path}")
        self.device = torch.device(device)
        load = {"torchscript": self._script, "torch-export": self._program, "onnx": self._session}
        if kind == "onnx":
            require("onnxruntime", path)
        try:
            self._run, text = load[kind](os.fspath(path))
            self.about = About(**json.loads(text))
        except Exception as error:
            last = str(error).strip().partition("\n")[0][:300]
            raise ValueError(
                f"--model: {path} is no detector that `dnl-det export` has written as {kind} "
                f"({type(error).__name__}: {last})"
            ) from error

    def __call__(self, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by their names, see :class:`TensorDetector`."""
        return dict(zip(self.about.outputs, self._run(arguments), strict=True))

    def _script(self, path: str) -> Any:
        extra = {_ABOUT: ""}
        script = torch.jit.load(path, map_location=self.device, _extra_files=extra)
        return lambda arguments: script(*(x.to(self.device) for x in arguments)), extra[_ABOUT]

    def _program(self, path: str) -> Any:
        extra = {_ABOUT: ""}
        with open(path, "rb") as file:
            program = torch.export.load(io.BytesIO(file.read()), extra_files=extra)
        program = move_to_device_pass(program, str(self.device))
        module = program.module()
        return lambda arguments: module(*(x.to(self.device) for x in arguments)), extra[_ABOUT]

    def _session(self, path: str) -> Any:
        import onnxruntime as runtime

        session = runtime.InferenceSession(path, providers=runtime.get_available_providers())

        def run(arguments: Sequence[Tensor]) -> list[Tensor]:
            arrays = dict(zip(_INPUTS, (x.cpu().numpy() for x in arguments), strict=False))
            return [torch.from_numpy(np.asarray(array)) for array in session.run(None, arrays)]

        return run, session.get_modelmeta().custom_metadata_map[_ABOUT]


def describe(
    cfg: CfgNode, model: Any, classes: Sequence[str], ids: Sequence[int], kind: str
) -> About:
    """What a graph of this model and format will know of itself."""
    strides = [shape.stride for shape in model.backbone.output_shape().values()]
    min_side = 1 if kind == "torchscript" else max(strides) + 1
    has_masks = getattr(getattr(model, "roi_heads", None), "mask_on", False)
    outputs = tuple(OUTPUTS)[: 4 if has_masks else 3]
    inputs = _INPUTS[: 2 if cfg.MODEL.META_ARCHITECTURE == "MMDet1RCNN" else 1]
    cfg = cfg.clone()
    cfg.MODEL.pop("PYTHON_CONFIG", None)
    return About(cfg.dump(), [*classes], [*ids], cfg.INPUT.FORMAT, min_side, inputs, outputs)
