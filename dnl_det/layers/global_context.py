"""Blocks whose attention is the same for every query: SNL and GC.

N: images, C: channels, H, W: height, width, L = H * W: positions.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .attention import (
    INIT_STD,
    AttentionMaps,
    PointwiseConv2d,
    check_choice,
    check_positive,
    reduced_channels,
    softmax32,
    to_map,
    to_tokens,
    weighted_sum,
)

POOLINGS = ("attention", "average")
FUSIONS = ("add", "mul")


def _pool(x: Tensor, weights: Tensor) -> Tensor:
    return to_map(weighted_sum(weights.unsqueeze(1), to_tokens(x)), 1, 1)  # (N, C, 1, 1)


class SimplifiedNonLocal2d(nn.Module):
    """``y_i = x_i + sum_j softmax_j(conv_mask(x)_j) conv_value(x)_j``: the simplified NL.

    ``conv_value`` has no bias and is linear, so it is applied to the pooled ``x``: the same sum
    at 1 / L of the cost.

    Reference: Cao et al., "GCNet", ICCV Workshops 2019, equation 3.

    Args:
        in_channels: C.
        init_std: standard deviation of ``conv_value``'s weights at the start.

    Raises:
        ValueError: ``init_std`` is not above 0.
    """

    def __init__(self, in_channels: int, *, init_std: float = INIT_STD):
        super().__init__()
        check_positive("init_std", init_std)
        self.init_std = init_std
        self.conv_mask = PointwiseConv2d(in_channels, 1)
        self.conv_value = nn.Conv2d(in_channels, in_channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """``conv_mask`` as GC's; ``conv_value`` from N(0, init_std), as DNL's."""
        _init_mask(self.conv_mask)
        nn.init.normal_(self.conv_value.weight, std=self.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H, W)``; H, W >= 1, N >= 0."""
        return x + self.conv_value(_pool(x, self._weights(x))).to(x.dtype)

    def attention_maps(self, x: Tensor, queries: Tensor | None = None) -> AttentionMaps:
        """unary ``(N, L)`` for ``x`` ``(N, C, H, W)``, whatever the queries; pairwise is None."""
        return AttentionMaps(None, self._weights(x))

    def _weights(self, x: Tensor) -> Tensor:
        return softmax32(self.conv_mask(x).flatten(1))  # (N, L)


class GlobalContext2d(nn.Module):
    """``y = x * sigmoid(channel_mul_conv(c)) + channel_add_conv(c)`` of one context ``c``.

    ``c = sum_j softmax_j(conv_mask(x)_j) x_j``, or the mean of ``x``; each transform is
    ``conv C -> C / r, LayerNorm, ReLU, conv C / r -> C``.

    Reference: Cao et al., "GCNet", ICCV Workshops 2019, equation 5.

    Args:
        in_channels: C.
        reduction: r.
        pooling: one of :data:`POOLINGS`.
        fusion: any of :data:`FUSIONS`, at least one.

    Raises:
        ValueError: an argument out of its range; the message says which and what is allowed.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 4,
        pooling: str = "attention",
        fusion: Sequence[str] = ("add",),
    ):
        super().__init__()
        check_choice("pooling", pooling, POOLINGS)
        if not fusion or not set(fusion) <= set(FUSIONS):
            raise ValueError(f"fusion={fusion!r}: must be a list of any of {', '.join(FUSIONS)}")
        inner = reduced_channels(in_channels, reduction)
        self.conv_mask = PointwiseConv2d(in_channels, 1) if pooling == "attention" else None
        self.channel_add_conv = _bottleneck(in_channels, inner) if "add" in fusion else None
        self.channel_mul_conv = _bottleneck(in_channels, inner) if "mul" in fusion else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each transform's last convolution starts at 0; the others as torch starts them."""
        if self.conv_mask is not None:
            _init_mask(self.conv_mask)
        for transform in (self.channel_add_conv, self.channel_mul_conv):
            if transform is not None:
                for layer in transform:
                    if isinstance(layer, nn.Conv2d | nn.LayerNorm):
                        layer.reset_parameters()
                for parameter in transform[-1].parameters():
                    nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H, W)``; H, W >= 1, N >= 0."""
        context = _pool(x, self._weights(x))  # (N, C, 1, 1)
        y = x
        if self.channel_mul_conv is not None:
            y = y * self.channel_mul_conv(context).sigmoid().to(x.dtype)
        if self.channel_add_conv is not None:
            y = y + self.channel_add_conv(context).to(x.dtype)
        return y

    def attention_maps(self, x: Tensor, queries: Tensor | None = None) -> AttentionMaps:
        """unary ``(N, L)`` for ``x`` ``(N, C, H, W)``, whatever the queries; pairwise is None."""
        return AttentionMaps(None, self._weights(x))

    def _weights(self, x: Tensor) -> Tensor:
        if self.conv_mask is None:
            return softmax32(x.new_zeros(x[:, 0].shape).flatten(1))  # the mean's, (N, L)
        return softmax32(self.conv_mask(x).flatten(1))


def _bottleneck(channels: int, inner: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1),
        nn.LayerNorm([inner, 1, 1]),
        nn.ReLU(),
        nn.Conv2d(inner, channels, 1),
    )


def _init_mask(conv: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
