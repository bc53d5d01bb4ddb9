"""Steps of a training that are taken only where the loss and its gradient are finite."""

import logging
import math
import time
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class CheckedTrainer(SimpleTrainer):
    """detectron2's, but a step whose loss or gradient is NaN or infinite changes nothing.

    All processes decide alike. Up to ``max_bad_steps`` in the whole training, which checkpoints
    count too, are skipped and logged with their images; one more ends the training with an
    error. A gradient that a gradient scaler's scale above 1 may have made infinite is the scaler's
    to handle, and not counted.

    Args:
        args: of detectron2's trainer; the loader has ``batch``, the last samples it gave.
        max_bad_steps: how many are skipped.
    """

    def __init__(self, *args: Any, max_bad_steps: int = 0):
        super().__init__(*args)
        self.max_bad_steps = max_bad_steps
        self.bad_steps = 0
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._statistics = [
            buffer
            for m in norms
            for name in _STATISTICS
            if (buffer := getattr(m, name, None)) is not None
        ]

    def run_step(self) -> None:
        """Forward, backward and, if all is finite, the optimizer's step."""
        assert self.model.training, "the model was changed to eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        # What a bad batch would leave in the norms, where the training is to go on.
        kept = [b.clone() for b in self._statistics] if self.max_bad_steps else []
        fault, losses = self._forward(data)
        if self._anywhere(bool(fault)):
            self._refuse(fault, kept)
            return
        scaler = getattr(self, "grad_scaler", None)
        self.optimizer.zero_grad()
        total: Any = sum(losses.values())
        (scaler.scale(total) if scaler else total).backward()
        self.after_backward()
        # Averaged over the processes, but a parameter may be each process's own.
        if scaler is None and self._anywhere(bool(fault := self._bad_gradient())):
            self._refuse(fault, kept)
            return
        self._write_metrics(losses, data_time)
        if scaler:
            self._scaled_step(scaler, kept)
        else:
            self.optimizer.step()

    def _forward(self, data: Any) -> tuple[str, dict[str, torch.Tensor]]:
        """What is wrong with the losses, or "", and these."""
        half = isinstance(self, AMPTrainer)
        try:
            with torch.autocast("cuda", dtype=self.precision) if half else nullcontext():
                losses = self.model(data)
        except FloatingPointError as error:  # detectron2's RPN, where its proposals are not finite
            return str(error).rstrip("."), {}
        numbers = torch.stack([loss.detach().float() for loss in losses.values()])
        if torch.isfinite(numbers.sum()):
            return "", losses
        values = dict(zip(losses, numbers.tolist(), strict=True))
        bad = {name: value for name, value in values.items() if not math.isfinite(value)} or values
        return ", ".join(f"{name} is {value}" for name, value in bad.items()), losses

    def _scaled_step(self, scaler: torch.amp.GradScaler, kept: list[torch.Tensor]) -> None:
        before = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        after = scaler.get_scale()
        # It lowers its scale where it found an infinite gradient, and takes no step. At 1 or less
        # nothing was scaled up; without this it would go on so, and learn nothing, to the end.
        if self._anywhere(after < before <= 1):
            self._refuse(f"the gradient is not finite at a loss scale of {before:g}", kept)

    def _bad_gradient(self) -> str:
        gradients = [
            p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        norms = torch.stack(torch._foreach_norm(gradients))
        if torch.isfinite(torch.linalg.vector_norm(norms)):
            return ""
        bad = sum(not torch.isfinite(g).all() for g in gradients)
        return (
            f"the gradients of {bad} of {len(gradients)} parameters are not finite"
            if bad
            else ("the norm of the gradient is above the largest number")
        )

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if comm.get_world_size() == 1:
            return here
        flag = torch.tensor(float(here), device=next(self.model.parameters()).device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def _refuse(self, fault: str, kept: list[torch.Tensor]) -> None:
        for buffer, before in zip(self._statistics, kept, strict=False):
            buffer.copy_(before)
        self.optimizer.zero_grad()
        self.bad_steps += 1
        batch = [
            f"{sample.get('image_id', '?')} ({sample.get('file_name', '?')})"
            for sample in self.data_loader.batch
        ]
        told = comm.all_gather((fault, batch))
        faults = "; ".join(dict.fromkeys(fault for fault, _ in told if fault))
        images = ", ".join(image for _, batch in told for image in batch)
        what = f"iteration {self.iter}: {faults}. Images of the batch: {images}."
        if self.bad_steps > self.max_bad_steps:
            raise NotFiniteError(what)
        logging.getLogger(__name__).warning(
            f"Step skipped, {self.bad_steps} of SOLVER.MAX_BAD_STEPS {self.max_bad_steps}; {what}"
        )
        if comm.is_main_process():
            get_event_storage().put_scalar("bad_steps", self.bad_steps, smoothing_hint=False)

    def state_dict(self) -> dict[str, Any]:
        """With the count of bad steps."""
        return {**super().state_dict(), "bad_steps": self.bad_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        super().load_state_dict(state_dict)
        self.bad_steps = state_dict.get("bad_steps", 0)


class CheckedAMPTrainer(CheckedTrainer, AMPTrainer):
    """The same with automatic mixed precision."""


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; the message says when, which and of what images."""
