"""Record what the attention blocks of a model attend to, without a map of L x L.

N: images, C: channels, H, W: height, width, L = H * W: positions, S: key positions (L, or a
quarter), Q: chosen queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from detectron2.modeling.backbone import ResNet
from torch import Tensor, nn

from ...layers import BLOCKS
from .geometry import Frame, Grid

# Bytes of a map that is given without choosing queries: 4,096 x 4,096 positions.
BUDGET = 64 * 2**20


@dataclass(frozen=True)
class QueryAttention:
    """What some queries of an image attend to.

    Attributes:
        pairwise: ``(Q, S)``, or None where the block has no such term.
        unary: ``(S,)``, the same for all queries, or None.
        combined: ``(Q, S)``, what the values are weighted with: ``gamma * pairwise + unary``.
    """

    pairwise: Tensor | None
    unary: Tensor | None
    combined: Tensor


@dataclass
class BlockRecord:
    """The last input of one attention block; what it attends to is computed when asked for.

    Attributes:
        name: the module's, such as ``backbone.bottom_up.res4.4.attention``.
        block: the module.
        input: ``(N, C, H, W)``, of the whole batch.
        stride: of the features in pixels, or None where it is not known: the block is neither in
            a ResNet of detectron2 nor in a head that has a ``stride``.
    """

    name: str
    block: nn.Module
    input: Tensor
    stride: int | None
    _versions: list[int] = field(repr=False)

    @property
    def grid(self) -> Grid:
        """Where the queries' positions lie in the network's input.

        Raises:
            ValueError: its stride is not known.
        """
        if self.stride is None:
            raise ValueError(
                f"{self.name} is not in a ResNet of detectron2 or a head with a stride, so where "
                "its positions lie is not known: give record_attention(model, strides={...}) its "
                "stride in pixels"
            )
        height, width = self.input.shape[2:]
        return Grid(height, width, (self.stride, self.stride))

    @property
    def key_grid(self) -> Grid:
        """Where the keys' positions lie: the queries', unless the block pools its keys."""
        return self.grid.pooled() if getattr(self.block, "downsample", False) else self.grid

    @torch.no_grad()
    def attention(
        self, image: int, queries: Sequence[int] | Tensor | None = None, budget: int = BUDGET
    ) -> QueryAttention:
        """What queries of an image attend to.

        Args:
            image: index in the batch.
            queries: Q positions, ``row * W + column``; all L if None.
            budget: bytes that Q x S numbers may take.

        Raises:
            ValueError: the maps would take more; or the block's weights were changed since.
            IndexError: no such image or query.
        """
        x = self._input_of(image)
        count = positions = x.shape[2] * x.shape[3]
        chosen = None
        if queries is not None:
            chosen = torch.as_tensor(queries, device=x.device).long()
            count = len(chosen)
            if ((chosen < 0) | (chosen >= positions)).any():
                raise IndexError(f"queries of {self.name} must be between 0 and {positions - 1}")
        size = count * self.key_positions * x.element_size()
        if self._has_pairwise and size > budget:
            raise ValueError(
                f"{count} queries x {self.key_positions} keys of {self.name} take {size} bytes, "
                f"over the budget of {budget}: choose fewer queries, or give a larger budget"
            )
        maps = self.block.attention_maps(x, queries=chosen)  # type: ignore[operator]
        pairwise, unary = (None if m is None else m[0] for m in (maps.pairwise, maps.unary))
        if pairwise is None:
            assert unary is not None  # every block has a term
            return QueryAttention(None, unary, unary.expand(count, -1))
        gamma = getattr(self.block, "gamma", None)
        combined = pairwise if gamma is None else gamma * pairwise
        return QueryAttention(pairwise, unary, combined if unary is None else combined + unary)

    @torch.no_grad()
    def output(self, image: int) -> Tensor:
        """The block's output for an image, ``(C, H, W)``, computed again."""
        # Not by calling the block: within record_attention, that would be recorded.
        result: Tensor = self.block.forward(self._input_of(image))[0]
        return result

    @property
    def key_positions(self) -> int:
        """S."""
        height, width = self.input.shape[2:]
        if getattr(self.block, "downsample", False):
            height, width = max(height // 2, 1), max(width // 2, 1)
        return int(height * width)

    @property
    def _has_pairwise(self) -> bool:
        return getattr(self.block, "mode", None) != "unary" and hasattr(self.block, "backend")

    def _input_of(self, image: int) -> Tensor:
        if not 0 <= image < len(self.input):
            raise IndexError(
                f"image {image} of {self.name}: the recorded batch has {len(self.input)}"
            )
        if self._versions != _versions(self.block):
            raise ValueError(
                f"the weights of {self.name} were changed since it was recorded: look at the "
                "record before training goes on or another checkpoint is loaded"
            )
        return self.input[image : image + 1].to(next(self.block.parameters()).dtype)


class AttentionRecord(dict[str, BlockRecord]):
    """By module name, in the model's order, the blocks that the last forward pass went through.

    Attributes:
        frames: sizes of the batch's images; empty where the model was not called on detectron2's
            list of dictionaries or on a tensor ``(N, 3, H, W)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []


@contextmanager
def record_attention(
    model: nn.Module, strides: Mapping[str, int] | None = None
) -> Iterator[AttentionRecord]:
    """Record the inputs of every attention block while the model runs in this context.

    Results stay the same. What is kept is a copy of each block's input, memory linear in L; maps
    are computed for the queries that are asked for, then or after the context::

        with record_attention(model) as record:
            model(inputs)
        block = record["backbone.bottom_up.res4.4.attention"]
        query = block.grid.nearest(record.frames[0].to_network(torch.tensor([[x, y]])))
        weights = block.attention(0, query).pairwise  # (1, S)

    Args:
        model: any module with blocks of :mod:`dnl_det.layers`, such as a detector of detectron2.
        strides: pixels, by name, of blocks whose stride is not known, see :class:`BlockRecord`.

    Yields:
        The record, of the last forward pass.

    Raises:
        ValueError: the model has no attention block.
    """
    blocks = attention_blocks(model)
    if not blocks:
        raise ValueError(
            "the model has no attention block: MODEL.DNL.RES2 to RES5 are empty, BLOCK is none, or "
            "its block is one of timm, or it is not a model of dnl_det"
        )
    known = {**_strides(model), **(strides or {})}
    record = AttentionRecord()

    def keep(name: str, block: nn.Module, args: tuple[Any, ...]) -> None:
        # A copy: what follows may write into its input.
        kept = args[0].detach().clone()
        record[name] = BlockRecord(name, block, kept, known.get(name), _versions(block))

    with ExitStack() as hooks:
        start = partial(_start, record)
        hooks.callback(model.register_forward_pre_hook(start, with_kwargs=True).remove)
        for name, block in blocks.items():
            hooks.callback(block.register_forward_pre_hook(partial(keep, name)).remove)
        yield record


def attention_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks of :mod:`dnl_det.layers` in a model, by module name."""
    kinds = tuple(BLOCKS.values())
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def short_name(name: str) -> str:
    """Of a block: ``backbone.bottom_up.res4.4.attention`` is ``res4.4``."""
    return name.removesuffix(".attention").removeprefix("backbone.").removeprefix("bottom_up.")


def _start(
    record: AttentionRecord, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    inputs = args[0] if args else next(iter(kwargs.values()), None)
    record.clear()
    record.frames = []
    if isinstance(inputs, Tensor):
        height, width = inputs.shape[-2:]
        record.frames = [Frame(height, width, height, width)] * len(inputs)
    elif isinstance(inputs, Sequence):
        for image in inputs:
            height, width = image["image"].shape[-2:]
            original = image.get("height", height), image.get("width", width)
            record.frames.append(Frame(height, width, *original))


def _versions(block: nn.Module) -> list[int]:
    """Change with every step of an optimizer and every loading of weights."""
    return [p._version for p in block.parameters() if not p.is_inference()]


def _strides(model: nn.Module) -> dict[str, int]:
    """In pixels, of the modules in every ResNet and of the blocks in heads, by their names."""
    strides: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, ResNet):
            strides.update(_strides_in(module, name))
        elif hasattr(module, "in_features") and isinstance(getattr(module, "stride", None), int):
            strides[f"{name}.attention".removeprefix(".")] = module.stride
    return strides


def _strides_in(resnet: ResNet, name: str) -> Iterator[tuple[str, int]]:
    stride = resnet.stem.stride
    for stage in resnet.stage_names:
        for index, block in enumerate(getattr(resnet, stage)):
            stride *= block.stride
            prefix = f"{name}.{stage}.{index}".removeprefix(".")
            for inner, _ in block.named_modules(prefix=prefix):
                yield inner, stride
