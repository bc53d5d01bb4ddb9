"""Time, memory and multiply-adds of the attention by backend, and of whole detectors.

L: positions of a stage's features; C: channels; D = C / 4: of query and key.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...layers import attend, build_attention
from .measure import Run, extra_peak_memory, time_together
from .multiply_adds import count_multiply_adds

# Of a bottleneck ResNet: stride and channels.
STAGES = {"res2": (4, 256), "res3": (8, 512), "res4": (16, 1024), "res5": (32, 2048)}
Row = dict[str, Any]


def benchmark_attention(
    stage: str,
    size: tuple[int, int],
    backends: Sequence[str],
    *,
    training: bool,
    repeats: int = 7,
    device: str = "cpu",
) -> list[Row]:
    """Compare backends on DNL in one stage: the attention alone, and the whole block.

    Args:
        stage: one of :data:`STAGES`.
        size: height and width of the image in pixels.
        backends: of :func:`dnl_det.layers.attend`; ``plain`` is what the others are compared to.
        training: forward and backward; else inference.
        repeats: calls that are timed.
        device: ``cpu`` or ``cuda``.

    Returns:
        Rows of a table, with seconds, bytes and multiply-adds. ``bare``, of inference, is the two
        matrix products of the attention and nothing else, into memory that is there already.
    """
    stride, channels = STAGES[stage]
    h, w = (-(-side // stride) for side in size)
    make = partial(torch.randn, device=device, generator=torch.Generator(device).manual_seed(0))
    x = make(1, channels, h, w, requires_grad=training)
    # As the block's convolutions give them: positions last in memory.
    inputs = [
        make(1, c, h * w).transpose(1, 2).requires_grad_(training)
        for c in (channels // 4, channels // 4, channels)
    ]
    blocks = {name: _block(channels, name, device) for name in backends}
    kernels = {name: partial(_attend, inputs, name, training) for name in backends}
    whole = {name: partial(_call, block, x, training) for name, block in blocks.items()}
    products = (h * w) ** 2 * (channels // 4 + channels)
    with torch.no_grad():  # all backends have the same; this one has no map of L x L
        count = count_multiply_adds(_block(channels, "chunked", device), x)

    timings = time_together(
        (bare := _bare_products(inputs) if not training else {})
        | {f"attention {name}": run for name, run in kernels.items()}
        | {f"block {name}": run for name, run in whole.items()},
        repeats,
        device,
    )
    del bare  # its map is not to stand in the way of the others' memory
    rows = []
    for name, timing in timings.items():
        what, backend = name.split()
        run = {"attention": kernels, "block": whole}.get(what, {}).get(backend)
        rows.append(
            {
                "what": f"{what} {stage}",
                "size": f"{size[0]}x{size[1]}",
                "positions": h * w,
                "mode": "training" if training else "inference",
                "backend": backend,
                "seconds": timing.median,
                "shortest": timing.shortest,
                "longest": timing.longest,
                "bytes": extra_peak_memory(run, device) if run else None,
                "multiply_adds": count if what == "block" else products,
            }
        )
    return _with_ratios(rows)


def benchmark_models(
    models: Mapping[str, Callable[[], Any]],
    size: tuple[int, int],
    repeats: int = 7,
    device: str = "cpu",
) -> list[Row]:
    """Compare whole detectors, in inference on one image; the first is what others are compared to.

    An untrained detector has proposals, but no detections to draw masks for: that is left out.

    Args:
        models: from a name to a function that builds the detector of detectron2.
        size: height and width of the image in pixels; it is not resized.
        repeats, device: see :func:`benchmark_attention`.
    """
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0))
    inputs = [{"image": image.to(torch.uint8)}]
    built = {name: build().eval() for name, build in models.items()}
    runs = {name: partial(_detect, model, inputs) for name, model in built.items()}
    timings = time_together(runs, repeats, device)
    rows: list[Row] = []
    for name, timing in timings.items():
        batch = built[name].preprocess_image(inputs).tensor
        with torch.no_grad():
            count = count_multiply_adds(built[name].backbone, batch)
        rows.append(
            {
                "what": f"model {name}",
                "size": f"{size[0]}x{size[1]}",
                "mode": "inference",
                "backend": "",
                "seconds": timing.median,
                "shortest": timing.shortest,
                "longest": timing.longest,
                "bytes": extra_peak_memory(runs[name], device),
                "multiply_adds": count,  # of the backbone
            }
        )
    for row in rows:
        row["seconds_ratio"] = row["seconds"] / rows[0]["seconds"]
        row["bytes_ratio"] = _ratio(row["bytes"], rows[0]["bytes"])
    return rows


def _block(channels: int, backend: str, device: str) -> nn.Module:
    with torch.device(device):
        block = build_attention("dnl", channels, backend=backend)
    nn.init.constant_(block.gamma, 0.5)  # type: ignore[arg-type]
    return block


def _attend(inputs: list[Tensor], backend: str, training: bool) -> Any:
    query, key, value = inputs
    scale = query.shape[2] ** -0.5
    if not training:
        with torch.no_grad():
            return attend(query, key, value, scale=scale, backend=backend)
    y = attend(query, key, value, scale=scale, backend=backend)
    return y, *torch.autograd.grad(y, inputs, torch.ones_like(y))


def _call(block: nn.Module, x: Tensor, training: bool) -> Any:
    if not training:
        with torch.no_grad():
            return block(x)
    y = block(x)
    return y, *torch.autograd.grad(y, [x, *block.parameters()], torch.ones_like(y))


def _bare_products(inputs: list[Tensor]) -> dict[str, Run]:
    query, key, value = inputs
    weights = query.new_empty(1, query.shape[1], key.shape[1])
    result = value.new_empty(value.shape)  # position by position: the faster way in small maps

    def run() -> None:
        torch.bmm(query, key.transpose(1, 2), out=weights)
        torch.bmm(weights, value, out=result)

    return {"attention bare": run}


def _detect(model: nn.Module, inputs: list[dict[str, Tensor]]) -> Any:
    with torch.no_grad():
        return model(inputs)


def _with_ratios(rows: list[Row]) -> list[Row]:
    """Add what each takes of ``plain`` and how near it is to the bare products."""
    plain = {row["what"]: row for row in rows if row["backend"] == "plain"}
    bare = {row["what"]: row["seconds"] for row in rows if row["backend"] == "bare"}
    for row in rows:
        if reference := plain.get(row["what"]):
            row["seconds_ratio"] = row["seconds"] / reference["seconds"]
            row["bytes_ratio"] = _ratio(row["bytes"], reference["bytes"])
        if row["what"] in bare:
            row["efficiency"] = bare[row["what"]] / row["seconds"]
    return rows


def _ratio(value: int | None, reference: int | None) -> float | None:
    return value / reference if value is not None and reference else None
