"""The explorer: one HTML page that shows where each query of an image attends, block by block.

What its parts mean: docs/EXPLORE.md. The page itself is in ``assets/``: HTML, CSS and scripts that
are put into one file, so that it opens without a server or a network.
"""

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
from detectron2.structures import Instances
from matplotlib import colormaps
from PIL import Image
from torch import nn

from ...layers import BLOCKS
from ..recording.geometry import Frame
from ..recording.record import AttentionRecord, BlockRecord, attention_blocks, short_name
from ..statistics.block_statistics import block_statistics
from .detections import describe_detections
from .query_maps import QueryMaps, query_maps

PAGE_BUDGET = 4_500_000
"""Bytes of all maps in a page, encoded."""
# Pixels of the longest side of the picture in the page.
LONGEST_SIDE = 1600
GENERATOR = '<meta name="generator" content="dnl_det explore">'
"""What marks a page as ours, so that nothing else is overwritten."""
# Sequential ones first; the last is for maps that have negative weights.
_COLOUR_MAPS = ("magma", "viridis", "cividis", "RdBu_r")
_SCRIPTS = ("geometry", "weights", "colours", "state", "drawing", "panels", "page", "controls")
_LOSSLESS = 300_000  # bytes up to which the picture is a PNG


def explore_image(
    record: AttentionRecord,
    image: np.ndarray,
    instances: Instances | None,
    class_names: Sequence[str],
    *,
    blocks: Mapping[str, str],
    title: str,
    model: str,
    threshold: float = 0.5,
    budget: int = PAGE_BUDGET,
) -> str:
    """The page of one image.

    Args:
        record: of the model's forward pass on this image alone.
        image: the original image, RGB uint8 ``(H, W, 3)``.
        instances: what was detected, in its pixels, or None.
        class_names: by class index.
        blocks: those shown, as :func:`block_names` gives them.
        title: of the page, such as the file's name.
        model: a line about the model.
        threshold: the lowest score drawn at first; the page has a slider.
        budget: bytes that the maps of all blocks take at most. A block whose maps are larger has
            only every second, third, ... query across and down.

    Returns:
        HTML.

    Raises:
        ValueError: attention that is not finite.
    """
    frame = record.frames[0]
    recorded = {short: record[name] for short, name in blocks.items()}
    maps = _share_budget(recorded, frame, budget)
    content = {
        "title": title,
        "model": model,
        "image": {"width": image.shape[1], "height": image.shape[0], "source": _data_uri(image)},
        "frame": asdict(frame),
        "threshold": threshold,
        "detections": describe_detections(instances, class_names, max(image.shape[:2])),
        "blocks": [
            _describe(name, block, maps[name])
            | {"statistics": _plain(asdict(block_statistics(block, 0, frame)))}
            for name, block in recorded.items()
        ],
        "colours": {name: _table(name) for name in _COLOUR_MAPS},
    }
    return render_page(content, [maps[name].encoded for name in recorded])


def render_page(content: Mapping[str, Any], codes: Sequence[str]) -> str:
    """Put the page together.

    Args:
        content: what ``page/page.js`` reads, see :func:`explore_image`.
        codes: of each block, :attr:`QueryMaps.encoded`.
    """
    # In a script element, "</" would end it, and "<!--" change how it is read.
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(content["title"]),
        "generator": GENERATOR,
        "style": _page_file("page.css"),
        "data": data,
        "codes": "\n".join(
            f'<script type="text/plain" id="codes-{index}">{text}</script>'
            for index, text in enumerate(codes)
        ),
        "script": "\n".join(_page_file(f"{name}.js") for name in _SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _page_file("page.html"))


def block_names(model: nn.Module) -> dict[str, str]:
    """The attention blocks of a model: from a short name, such as ``res4.4``, to the module's."""
    return {short_name(name): name for name in attention_blocks(model)}


def _share_budget(
    blocks: Mapping[str, BlockRecord], frame: Frame, budget: int
) -> dict[str, QueryMaps]:
    """Small blocks first: what they leave is for the large ones."""
    maps: dict[str, QueryMaps] = {}
    for name in sorted(blocks, key=lambda name: blocks[name].key_positions):
        share = budget // (len(blocks) - len(maps))
        maps[name] = query_maps(blocks[name], 0, frame, share)
        budget -= len(maps[name].encoded)
    return maps


def _describe(name: str, block: BlockRecord, maps: QueryMaps) -> dict[str, Any]:
    gamma = getattr(block.block, "gamma", None)
    kinds = {kind: name for name, kind in BLOCKS.items()}
    return {
        "name": name,
        "module": block.name,
        "kind": kinds[type(block.block)],
        "mode": getattr(block.block, "mode", None) or getattr(block.block, "kernel", None),
        "gamma": 1.0 if gamma is None else gamma.item(),
        "hasGamma": gamma is not None,
        "stride": block.stride,
        "positions": [block.grid.height, block.grid.width],
        "uniform": 1 / block.key_positions,
        "step": maps.step,
        "pool": maps.pool,
        "queries": asdict(maps.queries),
        "keys": asdict(maps.keys),
        "pairwise": maps.codes is not None,
        "signed": maps.signed,
        "maxima": _floats(maps.maxima),
        "inside": _floats(maps.inside),
        "spread": _floats(maps.spread),
        "unary": None if maps.unary is None else _floats(maps.unary),
        "unaryInside": maps.unary_inside,
    }


def _floats(values: np.ndarray) -> str:
    """float32, little-endian, in base64."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no nan or infinity: None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in numbers.items()
    }


def _data_uri(image: np.ndarray) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88})):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        if buffer.tell() <= _LOSSLESS:
            break
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _table(name: str) -> str:
    """256 colours as hexadecimal digits, six each."""
    colours = colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]
    return colours.astype(np.uint8).tobytes().hex()


def _page_file(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
