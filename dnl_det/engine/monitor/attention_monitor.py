"""Follow attention in training: its statistics, detections and maps of fixed images.

What the numbers mean: docs/DIAGNOSE.md.
"""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from ...analysis import block_statistics, record_attention, short_name
from ...layers import BLOCKS
from ...modeling import whole_images
from .fixed_images import FixedImage, choose_fixed_images, draw_attention, draw_classes, draw_found
from .time_budget import TimeBudget

IMAGES = 2
_GAMMA_PERIOD = 20  # iterations, as often as detectron2 writes scalars


class AttentionMonitor(HookBase):
    """Puts into the event storage what TensorBoard then shows, by block:

    - ``attention/gamma/res4.4``, every 20 iterations;
    - ``attention/QUANTITY/res4.4``, the quantities of :class:`~dnl_det.analysis.BlockStatistics`,
      means over two fixed images of the first test data set;
    - pictures of these images' detections or predicted labels, and of what each block attends to in
      them: the pairwise term of one fixed query, ringed, and the unary term;
    - ``attention/time_share``, this hook's share of the training's time so far.

    ``MODEL.DNL.MONITOR_TIMES`` says how often in a training, evenly, and ``MONITOR_SHARE`` the
    largest share of its time: a turn that would exceed it is left out. Nothing of the training
    changes: modules' modes and the states of random numbers are put back. The hook belongs into
    the main process alone; it asks nothing of the others.

    Args:
        cfg: see above.
        model: as trained, also wrapped for several processes.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        times, share = cfg.MODEL.DNL.MONITOR_TIMES, cfg.MODEL.DNL.MONITOR_SHARE
        self.budget = TimeBudget(share)
        self.turns = 0
        self._cfg = cfg
        self._times = times
        self._model: nn.Module = getattr(model, "module", model)
        kinds = tuple(BLOCKS.values())
        self._blocks = {n: m for n, m in self._model.named_modules() if isinstance(m, kinds)}
        self._images: list[FixedImage] | None = None
        self._left_pictures: float | None = None
        self._failed = False

    def before_train(self) -> None:
        """Start the clock."""
        self.budget.start()

    def before_step(self) -> None:
        """Count the time that the hook after this one took to compress and write pictures."""
        if self._left_pictures is not None and not self._pictures_wait():
            self.budget.add(time.perf_counter() - self._left_pictures)
        self._left_pictures = None

    def after_step(self) -> None:
        """Take a turn where one is due and there is time for it."""
        self._watch()
        self._left_pictures = time.perf_counter() if self._pictures_wait() else None

    def _watch(self) -> None:
        if not self._times or not self._blocks:
            return
        done = self.trainer.iter + 1
        if done % _GAMMA_PERIOD == 0 or done == self.trainer.max_iter:
            for name, block in self._blocks.items():
                if (gamma := getattr(block, "gamma", None)) is not None:
                    self._put("gamma", name, gamma.item())
        if self._failed or done % max(1, self.trainer.max_iter // self._times):
            return
        # Until it is known, an image is taken to cost two iterations.
        iteration = self.budget.elapsed / (done - self.trainer.start_iter)
        # What it costs to write the last turn's pictures has to be known first.
        if self._pictures_wait() or not self.budget.allows(first=2 * IMAGES * iteration):
            return
        try:
            with self.budget.spend(), undisturbed(self._model):
                if self._images is None:
                    self._images = choose_fixed_images(self._cfg, IMAGES)
                self._take_turn(self._images)
        except Exception:  # what only watches must not end a training
            logging.getLogger(__name__).exception(
                "Attention is not watched any more, but for gamma; the training goes on."
            )
            self._failed = True
            return
        self.turns += 1
        share = self.budget.spent / self.budget.elapsed
        self.trainer.storage.put_scalar("attention/time_share", share, smoothing_hint=False)

    @torch.no_grad()
    def _take_turn(self, images: list[FixedImage]) -> None:
        storage = self.trainer.storage
        self._model.eval()
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for index, image in enumerate(images):
            with record_attention(self._model) as record, whole_images(self._model):
                output = self._model([image.input])[0]
            if "instances" in output:
                picture = draw_found(image, output["instances"], self._cfg.DATASETS.TEST[0])
                storage.put_image(f"attention/image{index}/detections", picture)
            elif "sem_seg" in output:
                picture = draw_classes(image, output["sem_seg"], self._cfg.DATASETS.TEST[0])
                storage.put_image(f"attention/image{index}/labels", picture)
            for name, block in record.items():
                frame = None if block.stride is None else record.frames[0]
                for quantity, value in asdict(block_statistics(block, 0, frame)).items():
                    if value is not None and quantity not in ("queries", "gamma"):
                        found[quantity, name].append(value)
                if frame is not None:
                    tag = f"attention/image{index}/{short_name(name)}"
                    storage.put_image(tag, draw_attention(image, block, frame))
        for (quantity, name), values in found.items():
            self._put(quantity, name, sum(values) / len(values))

    def _pictures_wait(self) -> bool:
        # As detectron2's TensorBoard writer reads it; there is no public access.
        return bool(self.trainer.storage._vis_data)

    def _put(self, quantity: str, block: str, value: float) -> None:
        tag = f"attention/{quantity}/{short_name(block)}"
        self.trainer.storage.put_scalar(tag, value, smoothing_hint=False)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back, afterwards, each module's mode and the states of all random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, mode in modes:
            module.training = mode
