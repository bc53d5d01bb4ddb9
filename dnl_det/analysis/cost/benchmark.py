"""Time, memory and multiply-adds of the attention by backend, and of whole models.

L: positions of a stage's features; C: channels; D = C / 4: of query and key.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.modeling import SemanticSegmentor
from torch import Tensor, nn

from ...layers import attend, build_attention
from .measure import Run, count_multiply_adds, extra_peak_memory, time_together


class _Stage(NamedTuple):
    """Where a block is: stride, channels, those of query and key and of the value; its options."""

    stride: int
    channels: int
    projected: int
    value: int
    options: dict[str, Any]


STAGES = {f"res{k}": _Stage(2**k, 64 * 2**k, 16 * 2**k, 64 * 2**k, {}) for k in (2, 3, 4, 5)} | {
    "head": _Stage(
        *(8, 512, 256, 256),
        {"reduction": 2, "use_out": True, "use_gamma": False, "out_norm": nn.BatchNorm2d},
    )
}
"""Stages of a bottleneck ResNet, and the segmentation head of mmsegmentation's models."""

Row = dict[str, Any]


class _Case(NamedTuple):
    what: str
    backend: str
    run: Run
    multiply_adds: int


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
        backends: of :func:`dnl_det.layers.attend`; the others are compared to ``plain``.
        training: forward and backward; else inference.
        repeats: calls that are timed.
        device: ``cpu`` or ``cuda``.

    Returns:
        Rows of a table, with seconds, bytes and multiply-adds. In inference there is also the
        backend ``bare``: the two matrix products of the attention alone, into allocated memory.
    """
    of = STAGES[stage]
    h, w = (-(-side // of.stride) for side in size)
    make = partial(torch.randn, device=device, generator=torch.Generator(device).manual_seed(0))
    x = make(1, of.channels, h, w, requires_grad=training)
    # As the block's convolutions give them: positions last in memory.
    inputs = [
        make(1, c, h * w).transpose(1, 2).requires_grad_(training)
        for c in (of.projected, of.projected, of.value)
    ]
    products = (h * w) ** 2 * (of.projected + of.value)
    with torch.no_grad():  # the same for all backends; this one has no map of L x L
        count = count_multiply_adds(_block(of, "chunked", device), x)

    attention, whole = f"attention {stage}", f"block {stage}"
    cases = [] if training else [_Case(attention, "bare", _bare_products(*inputs), products)]
    query, key, value = inputs
    for name in backends:
        forward = partial(attend, query, key, value, scale=of.projected**-0.5, backend=name)
        run = partial(_call, forward, inputs if training else [])
        cases.append(_Case(attention, name, run, products))
    for name in backends:
        block = _block(of, name, device)
        run = partial(_call, partial(block, x), [x, *block.parameters()] if training else [])
        cases.append(_Case(whole, name, run, count))
    rows = _measure(cases, size, "training" if training else "inference", repeats, device)
    for what in (attention, whole):
        of_backend = {row["backend"]: row for row in rows if row["what"] == what}
        for row in of_backend.values():
            row["positions"] = h * w
            if "plain" in of_backend:
                _compare(row, of_backend["plain"])
            if "bare" in of_backend:
                row["efficiency"] = of_backend["bare"]["seconds"] / row["seconds"]
    return rows


def benchmark_models(
    models: Mapping[str, Callable[[], Any]],
    size: tuple[int, int],
    repeats: int = 7,
    device: str = "cpu",
) -> list[Row]:
    """Compare whole models, in inference on one image, to the first of them.

    An untrained detector has proposals but no detections, so it draws no masks.

    Args:
        models: from a name to a function that builds the model of detectron2.
        size: height and width of the image in pixels; it is not resized.
        repeats: see :func:`benchmark_attention`.
        device: see :func:`benchmark_attention`.

    Returns:
        As :func:`benchmark_attention`; the multiply-adds are those of a detector's backbone, and of
        the whole of a model for semantic segmentation.
    """
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0))
    inputs = [{"image": image.to(torch.uint8)}]
    cases = []
    for name, build in models.items():
        model = build().eval()
        with torch.no_grad():
            if isinstance(model, SemanticSegmentor):
                count = count_multiply_adds(model, [inputs])
            else:
                count = count_multiply_adds(model.backbone, model.preprocess_image(inputs).tensor)
        run = partial(_call, partial(model, inputs), [])
        cases.append(_Case(f"model {name}", "", run, count))
    rows = _measure(cases, size, "inference", repeats, device)
    for row in rows:
        _compare(row, rows[0])
    return rows


def _measure(
    cases: Sequence[_Case], size: tuple[int, int], mode: str, repeats: int, device: str
) -> list[Row]:
    runs = {f"{case.what} {case.backend}": case.run for case in cases}
    timings = time_together(runs, repeats, device)
    return [
        {
            "what": case.what,
            "size": f"{size[0]}x{size[1]}",
            "mode": mode,
            "backend": case.backend,
            "seconds": timing.median,
            "shortest": timing.shortest,
            "longest": timing.longest,
            # The bare products write into memory that is allocated before.
            "bytes": None if case.backend == "bare" else extra_peak_memory(case.run, device),
            "multiply_adds": case.multiply_adds,
        }
        for case, timing in zip(cases, timings.values(), strict=True)
    ]


def _compare(row: Row, reference: Row) -> None:
    row["seconds_ratio"] = row["seconds"] / reference["seconds"]
    known = row["bytes"] is not None and reference["bytes"]
    row["bytes_ratio"] = row["bytes"] / reference["bytes"] if known else None


def _block(of: _Stage, backend: str, device: str) -> nn.Module:
    with torch.device(device):
        block = build_attention("dnl", of.channels, backend=backend, **of.options)
    if block.gamma is not None:
        nn.init.constant_(block.gamma, 0.5)  # type: ignore[arg-type]
    return block.eval()


def _call(forward: Run, trained: Sequence[Tensor]) -> Any:
    """The result, with the gradients of ``trained`` if there are any."""
    with torch.set_grad_enabled(bool(trained)):
        y = forward()
    return (y, *torch.autograd.grad(y, trained, torch.ones_like(y))) if trained else y


def _bare_products(query: Tensor, key: Tensor, value: Tensor) -> Run:
    weights = query.new_empty(1, query.shape[1], key.shape[1])
    result = value.new_empty(value.shape)  # position by position: the faster way in small maps

    def run() -> None:
        torch.bmm(query, key.transpose(1, 2), out=weights)
        torch.bmm(weights, value, out=result)

    return run
