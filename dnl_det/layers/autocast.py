"""Products in the dtype of their inputs, whatever ``torch.autocast`` is set to."""

from contextlib import AbstractContextManager, nullcontext

import torch


@torch.compiler.assume_constant_result  # torch.compile of 2.11 cannot look into it
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast; on a device that has none, as ``meta``, it does nothing."""
    if _has_autocast(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
