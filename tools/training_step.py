#!/usr/bin/env python3
"""Compare a training step of the paper's configs with the authors' own, number by number.

    python tools/training_step.py ../shared/official_training [--model baseline] [--float32]

The folder holds what the authors' code computed in float64 for one batch: make_batch.py, which
makes the images, and MODEL.json and MODEL.npz with the losses, decisions and gradients. The
weights are those of ../official/make_checkpoint.py, seen from that folder. Three steps take about
a minute on a CPU.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.solver import build_lr_scheduler
from detectron2.structures import Boxes, BoxMode
from detectron2.utils.events import EventStorage
from torch import Tensor

from dnl_det.checkpoint.conversion import recognise
from dnl_det.checkpoint.layouts import Entry, sync_abn_scale
from dnl_det.engine import Trainer, build_optimizer, load_config
from dnl_det.mmdet1.masks import PixelMasks

ROOT = Path(__file__).resolve().parents[1]
LOSSES = {  # theirs: ours
    "loss_rpn_cls": "loss_rpn_cls",
    "loss_rpn_bbox": "loss_rpn_loc",
    "loss_cls": "loss_cls",
    "loss_bbox": "loss_box_reg",
    "loss_mask": "loss_mask",
}


def load_module(file: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Step:
    """The first training steps of a model on the recorded batch.

    Args:
        folder: with the recordings.
        official: with the layouts and the weights.
        name: of the recorded model: ``baseline`` or ``dnl_c4c5all``.
        dtype: float64 as recorded, or float32.
        device: ``cpu`` or ``cuda``.

    Attributes:
        recorded: of all recorded steps; see the folder's README.
        theirs: what else was recorded of the first step, by name.
        entries: of the authors' parameters, by their names.
        model: after the steps that were run.
        losses, grad_norms: of each step that was run.
        ours: what stands beside ``theirs``, by the same names.
        gradients: of the first step, by our names.
    """

    def __init__(
        self,
        folder: Path,
        official: Path,
        name: str,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ):
        self.recorded = json.loads((folder / f"{name}.json").read_text())
        with np.load(folder / f"{name}.npz") as arrays:
            self.theirs = {key: arrays[key] for key in arrays}
        layout = json.loads((official / f"layout_{name}.json").read_text())
        with mock.patch.object(Tensor, "float", lambda value: value):
            # Recorded with these values in float64, before the file rounds them to float32.
            self.state = load_module(official / "make_checkpoint.py").make_state_dict(layout)
        found = recognise(self.state)
        assert found is not None
        self.entries = {entry.theirs: entry for entry in found.entries}
        self.cfg = load_config(str(ROOT / found.config))
        self.cfg.MODEL.DEVICE = device
        self.dtype = dtype
        self.model = cast(Any, Trainer.build_model(self.cfg))
        self.model.to(dtype)
        values = {
            entry.ours or "": self.in_our_layout(entry, self.state[name].to(dtype))
            for name, entry in self.entries.items()
        }
        missing = self.model.load_state_dict(values, strict=False)
        assert not missing.unexpected_keys, missing
        # Normalised in float32, as recorded.
        self.model.pixel_mean, self.model.pixel_std = (
            buffer.float() for buffer in (self.model.pixel_mean, self.model.pixel_std)
        )
        self.model.backbone.register_forward_pre_hook(lambda _, images: images[0].to(dtype))
        self.batch = [
            _inputs(image)
            for image in load_module(folder / "make_batch.py").make_batch(self.recorded["seed"])
        ]
        self.losses: list[dict[str, float]] = []
        self.grad_norms: list[float] = []
        self.ours: dict[str, Any] = {}
        self.gradients: dict[str, Tensor] = {}

    @staticmethod
    def in_our_layout(entry: Entry, value: Tensor) -> Tensor:
        """A tensor of the authors' model in the rows that ours has."""
        return value if entry.change is None else entry.change(value)

    def gradient_in_our_layout(self, entry: Entry, gradient: Tensor) -> Tensor:
        """A gradient of the authors', by the scale itself where SyncABN's is ``|weight| + eps``."""
        if entry.change is sync_abn_scale:
            return gradient * self.state[entry.theirs].sign()
        return self.in_our_layout(entry, gradient)

    def run(self, steps: int = 1) -> "Step":
        """Train on the batch from the converted weights on."""
        optimizer = build_optimizer(self.cfg, self.model)
        scheduler = build_lr_scheduler(self.cfg, optimizer)
        self.model.train()
        for step in range(steps):
            found: dict[str, Any] = {}
            recorded = self.theirs if step == 0 else {}
            in_type = _all_in_float64() if self.dtype == torch.float64 else nullcontext()
            with EventStorage(step), in_type, _recorded_samplers(self.model, found, recorded):
                losses = self.model(self.batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            gradients = {
                n: p.grad.clone().cpu() for n, p in self.model.named_parameters() if p.requires_grad
            }
            self.losses.append({theirs: losses[ours].item() for theirs, ours in LOSSES.items()})
            self.grad_norms.append(
                torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
            )
            if step == 0:
                self.gradients = gradients
                self.ours = {key: value.cpu() for key, value in found.items()}
            optimizer.step()
            if step == 0:
                self.after = {
                    k: v.clone().cpu() for k, v in self.model.state_dict().items() if "running" in k
                }
            scheduler.step()
        return self


def _inputs(image: dict[str, Any]) -> dict[str, Any]:
    """An image of the batch as detectron2's models take it; crowds are left out."""
    annotations = [
        {
            "bbox": BoxMode.convert(annotation["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS),
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": annotation["category"],
            "segmentation": annotation["segmentation"],
        }
        for annotation in image["annotations"]
        if not annotation["iscrowd"]
    ]
    pixels = torch.from_numpy(np.ascontiguousarray(image["image"].transpose(2, 0, 1)))
    return {
        "image": pixels,
        "instances": annotations_to_instances(annotations, image["image"].shape[:2]),
    }


@contextmanager
def _all_in_float64() -> Iterator[None]:
    """Keep float64 where detectron2 asks for float32: boxes, deltas, targets of the losses."""

    def keep_type(boxes: Boxes, tensor: Tensor) -> None:
        boxes.tensor = torch.as_tensor(tensor).reshape(-1, 4)

    def cross_entropy(logits: Tensor, targets: Tensor, **kwargs: Any) -> Tensor:
        return binary_cross_entropy(logits, targets.to(logits.dtype), **kwargs)

    binary_cross_entropy = F.binary_cross_entropy_with_logits
    with (
        mock.patch.object(Boxes, "__init__", keep_type),
        mock.patch.object(Tensor, "float", lambda values: values),
        mock.patch.object(F, "binary_cross_entropy_with_logits", cross_entropy),
    ):
        yield


@contextmanager
def _recorded_samplers(
    model: Any, found: dict[str, Any], recorded: Mapping[str, np.ndarray]
) -> Iterator[None]:
    """Sample by the rule of the recordings, and note what was matched, sampled and aimed at.

    Proposals have the numbers of the recorded ones, which are sorted by score: in float32, two of
    nearly the same score change places from one kind of processor to another.
    """
    rpn, heads = model.proposal_generator, model.roi_heads
    images: dict[str, int] = {"rpn": 0, "roi": 0}
    objects: list[int] = []
    numbers: list[Tensor] = []
    targets: list[Tensor] = []

    def sample(
        labels: Tensor, num: int, fraction: float, background: int, order: Callable
    ) -> tuple:
        positive = ((labels != -1) & (labels != background)).nonzero()[:, 0]
        negative = (labels == background).nonzero()[:, 0]
        positive = positive[order(positive).argsort(stable=True)][: int(num * fraction)]
        return positive, negative[order(negative).argsort(stable=True)][: num - len(positive)]

    def sample_anchors(labels: Tensor, num: int, fraction: float, background: int) -> tuple:
        key = f"rpn{images['rpn']}"
        images["rpn"] += 1
        found[f"{key}/cand_pos"] = (labels == 1).nonzero()[:, 0]
        chosen = sample(labels, num, fraction, background, lambda i: i * 2654435761 % 2**32)
        found[f"{key}/pos"], found[f"{key}/neg"] = (indices.sort()[0] for indices in chosen)
        return chosen

    def sample_proposals(labels: Tensor, num: int, fraction: float, background: int) -> tuple:
        key, added, total = f"roi{images['roi']}", objects[-1], len(labels)
        number = torch.cat(
            [numbers[images["roi"]] + added, torch.arange(added, device=labels.device)]
        )
        assert len(number) == total
        images["roi"] += 1

        def theirs(i: Tensor) -> Tensor:  # their objects come first, ours last
            return number[i]

        chosen = sample(labels, num, fraction, background, theirs)
        found[f"{key}/pos"], found[f"{key}/neg"] = map(theirs, chosen)
        found[f"{key}/pos_labels"] = labels[chosen[0]] + 1
        return chosen

    def label_anchors(anchors: list, gt_instances: list) -> tuple:
        labels, matched = type(rpn).label_and_sample_anchors(rpn, anchors, gt_instances)
        for i, (boxes, image) in enumerate(zip(matched, gt_instances, strict=True)):
            of = (boxes[:, None] == image.gt_boxes.tensor).all(dim=2).int().argmax(dim=1)
            for kind in ("cand_pos", "pos"):
                found[f"rpn{i}/{kind}_gt"] = of[found[f"rpn{i}/{kind}"]]
        return labels, matched

    def label_proposals(proposals: list, gt_instances: list) -> list:
        for i, image in enumerate(proposals):
            scores = image.objectness_logits.sigmoid()[:, None]
            last = image.proposal_boxes.tensor.new_tensor([0, 0, 1, 1])
            found[f"proposals{i}"] = torch.cat([image.proposal_boxes.tensor - last, scores], dim=1)
            number = torch.arange(len(scores), device=scores.device)
            if recorded:
                boxes = found[f"proposals{i}"][:, None, :4]
                theirs = torch.from_numpy(recorded[f"proposals{i}"]).to(boxes)[:, :4]
                number = (boxes - theirs).abs().amax(dim=2).argmin(dim=1)
            numbers.append(number)
        sampled = type(heads).label_and_sample_proposals(heads, proposals, gt_instances)
        classes = torch.cat([image.gt_classes for image in sampled])
        found["box_labels"] = torch.where(classes == heads.num_classes, 0, classes + 1)
        found["box_deltas_pos"] = torch.cat(
            [
                heads.box_predictor.box2box_transform.get_deltas(
                    image.proposal_boxes.tensor, image.gt_boxes.tensor
                )[image.gt_classes < heads.num_classes]
                for image in sampled
            ]
        )
        return sampled

    def match(matches: Tensor, labels: Tensor, classes: Tensor) -> tuple:
        objects.append(len(classes))
        key = f"roi{images['roi']}"
        indices, classes = type(heads)._sample_proposals(heads, matches, labels, classes)
        found[f"{key}/pos_gt"] = matches[indices[classes < heads.num_classes]]
        return indices, classes

    crop_and_resize = PixelMasks.crop_and_resize

    def crop(masks: PixelMasks, boxes: Tensor, size: int) -> Tensor:
        targets.append(crop_and_resize(masks, boxes, size))
        found["mask_targets"] = torch.cat(targets)
        return targets[-1]

    modules = "detectron2.modeling."
    with (
        mock.patch(f"{modules}proposal_generator.rpn.subsample_labels", sample_anchors),
        mock.patch(f"{modules}roi_heads.roi_heads.subsample_labels", sample_proposals),
        mock.patch.object(rpn, "label_and_sample_anchors", label_anchors),
        mock.patch.object(heads, "label_and_sample_proposals", label_proposals),
        mock.patch.object(heads, "_sample_proposals", match),
        mock.patch.object(PixelMasks, "crop_and_resize", crop),
    ):
        yield


def relative(ours: float, theirs: float) -> float:
    """``|ours - theirs| / |theirs|``, 0 where both are 0."""
    return abs(ours - theirs) / abs(theirs) if theirs else abs(ours)


def is_decision(values: np.ndarray) -> bool:
    """Whether an array holds indices, labels or pixels, which have to be equal."""
    return bool(np.issubdtype(values.dtype, np.integer))


def gradient_norms(step: Step) -> dict[str, tuple[float, float]]:
    """Of each of the authors' parameters, the norm of its gradient: theirs, and ours."""
    return {
        name: (norm, step.gradients[step.entries[name].ours or ""].norm().item())
        for name, norm in step.recorded["gradient_norms"].items()
    }


def report(step: Step) -> Iterator[str]:
    """The lines of the comparison."""
    yield f"{'':28}{'theirs':>22}{'ours':>22}   relative difference"
    for number, (losses, norm) in enumerate(zip(step.losses, step.grad_norms, strict=True)):
        recorded = step.recorded["steps"][number]
        rows = {**recorded["losses"], "norm of the gradient": recorded["grad_norm"]}
        for name, theirs in rows.items():
            ours = losses.get(name, norm)
            yield (
                f"step {number + 1} {name:21}{theirs:22.15f}{ours:22.15f}"
                f"   {relative(ours, theirs):.1e}"
            )
    yield ""
    yield "Decisions of step 1"
    for name, theirs in step.theirs.items():
        if name in step.ours and is_decision(theirs):
            ours = step.ours[name].numpy()
            same = ours.shape == theirs.shape and (ours == theirs).all()
            yield f"  {name:24}{theirs.shape!s:>16}   {'equal' if same else 'DIFFERENT'}"
    norms = gradient_norms(step)
    # What rounding alone leaves of a gradient that is 0.
    differences = {name: relative(b, a) for name, (a, b) in norms.items() if a > 1e-12}
    worst = max(differences, key=lambda name: differences[name])
    yield ""
    yield f"Norms of the gradients of {len(differences)} parameters that are not 0"
    yield f"  largest relative difference {differences[worst]:.1e}, of {worst}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with make_batch.py, MODEL.json and MODEL.npz")
    parser.add_argument("--official", type=Path, help="with make_checkpoint.py, if not beside it")
    parser.add_argument("--model", default="dnl_c4c5all", help="baseline or dnl_c4c5all (default)")
    parser.add_argument("--steps", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--float32", action="store_true", help="as in training; else float64")
    args = parser.parse_args()
    official = args.official or args.folder.parent / "official"
    for file in (args.folder / f"{args.model}.json", official / "make_checkpoint.py"):
        if not file.exists():
            parser.error(f"there is no {file}")
    step = Step(args.folder, official, args.model, torch.float32 if args.float32 else torch.float64)
    for line in report(step.run(args.steps)):
        print(line)


if __name__ == "__main__":
    main()
