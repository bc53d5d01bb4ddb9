"""The non-local block (NL): self-attention over positions.

N: images, C: channels, H, W: height, width, L = H * W: positions, D = C / reduction.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from .attention import (
    BACKENDS,
    INIT_STD,
    AttentionMaps,
    PointwiseConv2d,
    attend,
    attention_weights,
    check_choice,
    check_positive,
    choose,
    dot_product,
    dot_product_weights,
    reduced_channels,
    to_map,
    to_tokens,
)

KERNELS = ("embedded_gaussian", "dot_product", "gaussian")


class NonLocal2d(nn.Module):
    """``y = x + conv_out( sum_j w_ij g_j )`` with ``theta, phi, g`` 1x1 convolutions of ``x``.

    ``embedded_gaussian``: ``w_ij = softmax_j(theta_i . phi_j / sqrt(D))``; ``gaussian``:
    ``w_ij = softmax_j(x_i . x_j)``; ``dot_product``: ``w_ij = theta_i . phi_j / L``.

    Reference: Wang et al., "Non-local Neural Networks", CVPR 2018, equations 1 to 6.

    Args:
        in_channels: C.
        reduction: ``theta``, ``phi`` and ``g`` have ``C // reduction`` channels.
        kernel: one of :data:`KERNELS`.
        legacy_scale: multiply the embedded Gaussian's logits by ``sqrt(D)`` instead of dividing
            them, as an old release did; only for checkpoints trained with it.
        out_norm: from a number of channels to a norm, which comes after ``conv_out``, and takes the
            place of its bias. Its scale starts at 0. mmsegmentation has a batch norm there.
        backend: what computes the two kernels with a softmax, see
            :func:`~dnl_det.layers.attention.attend`.
        init_std: standard deviation of the weights of ``theta``, ``phi`` and ``g`` at the start.

    Raises:
        ValueError: an argument out of its range; the message says which and what is allowed.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 4,
        kernel: str = "embedded_gaussian",
        legacy_scale: bool = False,
        out_norm: Callable[[int], nn.Module] | None = None,
        backend: str = "auto",
        init_std: float = INIT_STD,
    ):
        super().__init__()
        check_choice("kernel", kernel, KERNELS)
        check_choice("backend", backend, BACKENDS)
        check_positive("init_std", init_std)
        if legacy_scale and kernel != "embedded_gaussian":
            raise ValueError(
                f"legacy_scale=True with kernel={kernel!r}: only 'embedded_gaussian' has a scale"
            )
        inner = reduced_channels(in_channels, reduction)
        self.kernel = kernel
        self.backend = backend
        self.init_std = init_std
        self.scale = 1.0
        if kernel == "embedded_gaussian":
            self.scale = math.sqrt(inner) if legacy_scale else 1.0 / math.sqrt(inner)

        embed = kernel != "gaussian"
        self.theta = PointwiseConv2d(in_channels, inner) if embed else nn.Identity()
        self.phi = PointwiseConv2d(in_channels, inner) if embed else nn.Identity()
        self.g = PointwiseConv2d(in_channels, inner)
        self.conv_out = PointwiseConv2d(inner, in_channels, bias=out_norm is None)
        self.out_norm = out_norm(in_channels) if out_norm is not None else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from N(0, init_std), biases 0; ``conv_out``, or its norm, 0: an identity."""
        for conv in (self.theta, self.phi, self.g, self.conv_out):
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=self.init_std)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        last = self.conv_out if self.out_norm is None else self.out_norm
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H, W)``; H, W >= 1, N >= 0."""
        query, key = to_tokens(self.theta(x)), to_tokens(self.phi(x))  # (N, L, D)
        value = to_tokens(self.g(x))  # (N, L, D)
        if self.kernel == "dot_product":
            context = dot_product(query, key, value)
        else:
            context = attend(query, key, value, scale=self.scale, backend=self.backend)
        y = self.conv_out(to_map(context, x.shape[2], x.shape[3]))
        if self.out_norm is not None:
            y = self.out_norm(y)
        return x + y.to(x.dtype)

    def attention_maps(self, x: Tensor, queries: Tensor | None = None) -> AttentionMaps:
        """``w_ij`` as pairwise ``(N, Q, L)`` for ``x`` ``(N, C, H, W)``; unary is None.

        ``queries``: Q positions ``row * W + column``; all L if None.
        """
        query, key = choose(to_tokens(self.theta(x)), queries), to_tokens(self.phi(x))
        if self.kernel == "dot_product":
            return AttentionMaps(dot_product_weights(query, key), None)
        return AttentionMaps(attention_weights(query, key, scale=self.scale), None)
