"""Weights of a diverged training, told before they are used."""

from torch import nn


def check_finite(model: nn.Module) -> None:
    """Check that all parameters and buffers of a loaded model are numbers.

    With others a detector finds nothing: detectron2 drops detections that are not finite, and AP
    would be 0 without a reason.

    Raises:
        ValueError: some are NaN or infinite.
    """
    state = model.state_dict()
    bad = [name for name, values in state.items() if not values.isfinite().all()]
    if bad:
        raise ValueError(
            f"MODEL.WEIGHTS: {len(bad)} of the model's {len(state)} tensors have NaN or infinite "
            f"values once loaded, the first is {bad[0]}: the training that wrote them diverged. "
            "Name an earlier checkpoint of it"
        )
