"""Products in the dtype of their inputs, whatever ``torch.autocast`` is set to."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast; on a device that has none, as ``meta``, it does nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
