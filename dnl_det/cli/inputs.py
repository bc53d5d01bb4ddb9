"""Options and inputs that commands share: a trained detector, and image files."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from ..data.augmentations import is_semantic
from ..data.checks import class_count
from ..data.images import read_image
from ..data.own_data import set_classes, use_own_data
from ..engine import ExportedDetector, Predictor, config_inputs, fall_back_to_cpu, load_config


@dataclass(frozen=True)
class Inputs:
    """A detector and images, read and checked.

    Attributes:
        predictor: the detector with its weights.
        metadata: for the names of the classes, see :func:`class_metadata`.
        files: of the images, as they were given.
        sizes: of the images, height and width in pixels.
        names: one of its own for each image, the file's without its ending.
    """

    predictor: Predictor
    metadata: Metadata
    files: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    names: Sequence[str]

    @property
    def segments(self) -> bool:
        """Whether it is a model for semantic segmentation: it finds classes of pixels."""
        return is_semantic(self.predictor.cfg)

    @property
    def class_names(self) -> Sequence[str]:
        """By the index of a class of the model."""
        names: Sequence[str] = self.metadata.get(_names_key(self.predictor.cfg))
        return names

    def image(self, index: int) -> np.ndarray:
        """An image, BGR uint8 ``(H, W, 3)``, read anew: only those in use are in memory."""
        return _read(self.predictor.cfg, self.files[index])


def add_model_arguments(
    parser: argparse.ArgumentParser, required: bool = True, output: str = "folder for the results"
) -> None:
    """Config, weights, where results go, and config overrides."""
    add = parser.add_argument
    add("--config-file", required=required, metavar="FILE", help="config of the model")
    add("--weights", required=required, metavar="FILE", help="checkpoint of the trained model")
    add("--output", required=True, metavar="PATH", help=output)
    add_opts_argument(parser)


def add_opts_argument(parser: argparse.ArgumentParser) -> None:
    """Config overrides, of any command that takes a config."""
    text = "config overrides, after all other options: KEY VALUE ..."
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help=text)


def add_input_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Images, and :func:`add_model_arguments`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    add_model_arguments(parser, required)


def add_exported_argument(parser: argparse.ArgumentParser) -> None:
    """A file of ``export`` in place of config and weights, which are then not required."""
    add_input_arguments(parser, required=False)
    text = "what `export` has written, in place of --config-file and --weights: .pt, .pt2, .onnx"
    parser.add_argument("--model", metavar="FILE", help=text)


def files_read(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    """The files that :func:`add_input_arguments` names, for ``refuse_to_overwrite``."""
    if _exported(args):
        return [*args.images, args.model]
    return [*args.images, args.weights, *config_inputs(cfg, args.config_file)]


def read_inputs(args: argparse.Namespace, device: str = "") -> Inputs:
    """Read and check all that :func:`add_input_arguments` asks for.

    Args:
        args: of that parser.
        device: of the model; by default the config's, or the CPU where there is no GPU.

    Raises:
        ValueError, KeyError, OSError: what is wrong with the config, an image or the weights.
    """
    predictor: Predictor
    if exported := _exported(args):
        predictor = ExportedDetector(exported)
        cfg, about = predictor.cfg, predictor.about
        metadata = _metadata(cfg, about.classes, about.category_ids)
        sizes = [_read(cfg, file).shape[:2] for file in args.images]
    else:
        cfg = load_config(args.config_file, args.opts)
        sizes = [_read(cfg, file).shape[:2] for file in args.images]
        cfg.MODEL.WEIGHTS = args.weights
        cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
        fall_back_to_cpu(cfg)
        metadata = class_metadata(cfg)
        predictor = Predictor(cfg)
    return Inputs(predictor, metadata, args.images, sizes, unique_stems(args.images))


def _exported(args: argparse.Namespace) -> str:
    """The exported model, or nothing: config and weights.

    Raises:
        ValueError: neither, or both.
    """
    model = getattr(args, "model", None) or ""
    others = {"--config-file": args.config_file, "--weights": args.weights, "--opts": args.opts}
    given = [option for option, value in others.items() if value]
    if model and given:
        raise ValueError(f"--model has its config and weights: leave {', '.join(given)} away")
    if not model and not (args.config_file and args.weights):
        raise ValueError("give --config-file and --weights, or --model")
    return model


def class_metadata(cfg: CfgNode) -> Metadata:
    """Class names and ids of the data that a config was trained on, as far as they are known.

    Those of a model for semantic segmentation are ``stuff_classes``.
    """
    try:
        # The names of semantic classes are in the config.
        use_own_data(cfg, will_be_checked=is_semantic(cfg))
        names = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
        metadata = MetadataCatalog.get(names[0])
        if not hasattr(metadata, "thing_dataset_id_to_contiguous_id") and not is_semantic(cfg):
            set_classes(names[0], cfg.DATASETS.MAX_JSON_MB)
        known = len(metadata.get(_names_key(cfg)) or ())
        if class_count(cfg) in (None, known):
            return metadata
        why = f"The model has {class_count(cfg)} classes and {names[0]}, the config's data, {known}"
    except (FileNotFoundError, IndexError):
        why = "The data this model was trained on are not here"
    count = class_count(cfg) or cfg.MODEL.ROI_HEADS.NUM_CLASSES
    logging.getLogger(__name__).warning(
        f"{why}, so its classes are named class_1 to class_{count}."
    )
    return _metadata(cfg, [f"class_{k + 1}" for k in range(count)], range(1, count + 1))


def _metadata(cfg: CfgNode, classes: Sequence[str], ids: Sequence[int]) -> Metadata:
    metadata = Metadata(name="unnamed")
    metadata.set(**{_names_key(cfg): list(classes)})
    metadata.thing_dataset_id_to_contiguous_id = {identity: k for k, identity in enumerate(ids)}
    return metadata


def _names_key(cfg: CfgNode) -> str:
    return "stuff_classes" if is_semantic(cfg) else "thing_classes"


def unique_stems(files: Sequence[str]) -> list[str]:
    """One name a file; files of the same name in several folders get a number."""
    stems = [Path(file).stem for file in files]
    names = []
    for number, stem in enumerate(stems, 1):
        name = stem if stems.count(stem) == 1 else f"{stem}_{number}"
        while name != stem and name in stems:  # another file has this name
            name += "_"
        names.append(name)
    return names


def _read(cfg: CfgNode, file: str) -> np.ndarray:
    try:
        return read_image(cfg, file, "BGR")
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"IMAGE: {error}") from error
