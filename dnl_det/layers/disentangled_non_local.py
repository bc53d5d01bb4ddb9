"""The disentangled non-local block (DNL) and the ablation of its paper.

N: images, C: channels, H, W: height, width, L = H * W: positions, i: query, j: key,
S: key positions (L, or a quarter of it with ``downsample``), D = C / reduction.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
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
    softmax32,
    to_map,
    to_tokens,
    weighted_sum,
)

MODES = ("disentangled", "joint", "pairwise", "unary", "add_shared")
KERNELS = ("embedded_gaussian", "dot_product")
# The authors' names, and the dimensions of (N, L, D) whose mean is subtracted.
WHITENINGS = {"in_nostd": [1], "ln_nostd": [1, 2], "in": [1], "ln": [1, 2], "spatial": [2]}


class DisentangledNonLocal2d(nn.Module):
    r"""Attention split into a whitened pairwise and a unary term, which are added.

    With ``q, k, v`` the 1x1 convolutions of ``x`` and ``mu`` a mean over positions::

        y_i = x_i + gamma * sum_j P_ij v_j + sum_j U_j v_j
        P_ij = softmax_j( (q_i - mu_q) . (k_j - mu_k) / (sqrt(D) * temperature) )
        U_j  = softmax_j( conv_mask(x)_j )

    ``gamma`` starts at 0 and does not multiply the unary term. ``mode`` chooses the terms:

    | mode           | pairwise P                      | unary U              |
    | -------------- | ------------------------------- | -------------------- |
    | `disentangled` | softmax (q - mu_q) . (k - mu_k) | softmax conv_mask(x) |
    | `joint`        | softmax q . k (self-attention)  | none                 |
    | `pairwise`     | softmax (q - mu_q) . (k - mu_k) | none                 |
    | `unary`        | none                            | softmax mu_q . k     |
    | `add_shared`   | softmax (q - mu_q) . (k - mu_k) | softmax mu_q . k     |

    Every logit but ``conv_mask``'s is divided by ``sqrt(D) * temperature``, so joint equals the
    normalised product of pairwise and unary.

    Reference: Yin et al., "Disentangled Non-Local Neural Networks", ECCV 2020, equations 6 to 9;
    initialisation, temperature and gamma as in the authors' detection code. Their segmentation code
    has ``whitening="ln_nostd", scale=False, temperature=1``; mmsegmentation's block is
    ``use_out=True, use_gamma=False`` with a batch norm as ``out_norm``.

    Args:
        in_channels: C.
        reduction: query and key have ``C // reduction`` channels.
        mode: one of :data:`MODES`.
        temperature: see above.
        whiten: subtract the means in ``disentangled``'s pairwise term.
        whitening: which mean, one of :data:`WHITENINGS`: ``in_nostd``, of each channel over
            positions; ``ln_nostd``, over channels and positions; ``spatial``, over channels at each
            position. ``in`` and ``ln`` divide by the standard deviation too: the root of the
            unbiased variance plus 1e-5.
        scale: whether ``sqrt(D)`` divides the logits.
        unary_scale: whether what divides the pairwise logits divides those of ``mu_q . k``.
        kernel: of the pairwise term, one of :data:`KERNELS`: ``embedded_gaussian``, a softmax, or
            ``dot_product``, as mmsegmentation has it: the products of whitened queries and keys
            divided by the number of keys; ``scale`` and ``temperature`` have no part in it.
        use_gamma: False: 1 in its place; what is added to ``x`` then starts at 0 by the output
            norm's scale, or by ``conv_out``.
        downsample: max-pool ``x`` 2x2 with stride 2 before key, value and mask; a side of 1 stays.
            ``torch.export`` takes sides of 4 and more for free: ``Dim("height", min=4)``.
        use_out: values of D channels, with bias, and a convolution ``conv_out`` from D to C on the
            sum of the terms; it has a bias only where neither gamma nor ``out_norm`` is there.
        out_norm: from a number of channels to a norm, which comes after ``conv_out``.
        backend: what computes the pairwise term, see :func:`~dnl_det.layers.attention.attend`.
        init_std: standard deviation of the convolutions' weights at the start.
        init_gamma: gamma at the start.

    Raises:
        ValueError: an argument out of its range; the message says which and what is allowed.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 4,
        mode: str = "disentangled",
        temperature: float = 0.05,
        whiten: bool = True,
        whitening: str = "in_nostd",
        scale: bool = True,
        unary_scale: bool = True,
        kernel: str = "embedded_gaussian",
        use_gamma: bool = True,
        downsample: bool = False,
        use_out: bool = False,
        out_norm: Callable[[int], nn.Module] | None = None,
        backend: str = "auto",
        init_std: float = INIT_STD,
        init_gamma: float = 0.0,
    ):
        super().__init__()
        check_choice("mode", mode, MODES)
        check_choice("whitening", whitening, tuple(WHITENINGS))
        check_choice("kernel", kernel, KERNELS)
        check_choice("backend", backend, BACKENDS)
        check_positive("temperature", temperature)
        check_positive("init_std", init_std)
        if not whiten and mode in ("pairwise", "add_shared"):
            raise ValueError(
                f"whiten=False with mode={mode!r}: its pairwise term is the whitened one; "
                "use mode='joint' for the term without whitening"
            )
        if out_norm is not None and not use_out:
            raise ValueError("out_norm without use_out: it follows conv_out; give use_out=True")
        inner = reduced_channels(in_channels, reduction)
        self.mode = mode
        self.kernel = kernel
        self.backend = backend
        self.scale = 1.0 / ((math.sqrt(inner) if scale else 1.0) * temperature)
        self.unary_scale = self.scale if unary_scale else 1.0
        self.init_std, self.init_gamma = init_std, init_gamma
        self.whiten = whiten and mode != "joint"
        self.whiten_dims = WHITENINGS[whitening]
        self.whiten_variance = whitening in ("in", "ln")
        self.has_pairwise = mode != "unary"
        self.downsample = downsample

        self.conv_query = PointwiseConv2d(in_channels, inner)
        self.conv_key = PointwiseConv2d(in_channels, inner)
        self.conv_value = PointwiseConv2d(in_channels, inner if use_out else in_channels, use_out)
        out_bias = not use_gamma and out_norm is None
        self.conv_out = PointwiseConv2d(inner, in_channels, out_bias) if use_out else None
        self.out_norm = out_norm(in_channels) if out_norm is not None else None
        self.conv_mask = PointwiseConv2d(in_channels, 1) if mode == "disentangled" else None
        if self.has_pairwise and use_gamma:
            self.gamma = nn.Parameter(torch.zeros(1))
        else:
            self.register_parameter("gamma", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from N(0, init_std), biases 0; by default as the authors: 0.01, and gamma 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=self.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.init_gamma)
        elif self.has_pairwise and self.conv_out is not None:
            last = self.conv_out if self.out_norm is None else self.out_norm
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H, W)``; H, W >= 1, N >= 0."""
        y = self._sum_of_terms(x)
        if self.conv_out is None:
            return y
        y = self.conv_out(y)
        if self.out_norm is not None:
            y = self.out_norm(y)
        return x + y.to(x.dtype)

    def _sum_of_terms(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)``, x added; without x ``(N, E, H, W)`` where a convolution follows.

        A method of its own: query, key and value are not in memory any more when it follows.
        """
        keys = self._key_input(x)
        value = to_tokens(self.conv_value(keys))  # (N, S, E)
        query, key = self._query_and_key(x, keys)

        unary = self._unary(query, key, keys)
        # What the terms are added to: x, or nothing where a convolution follows.
        y: Tensor | None = x if self.conv_out is None else None
        if unary is not None:
            context = to_map(weighted_sum(unary.unsqueeze(1), value), 1, 1).to(x.dtype)
            y = context if y is None else y + context  # (N, E, 1, 1), (N, C, H, W)
        if self.has_pairwise:
            query, key = self._whitened(query, key)
            if self.kernel == "dot_product":
                pairwise = dot_product(query, key, value)
            else:
                pairwise = attend(query, key, value, scale=self.scale, backend=self.backend)
            pairwise = to_map(pairwise, x.shape[2], x.shape[3]).to(x.dtype)  # (N, E, H, W)
            gamma = x.new_ones(1) if self.gamma is None else self.gamma.to(x.dtype)
            if y is None:
                y = gamma * pairwise
            elif unary is None or y.shape != x.shape:
                y = torch.addcmul(y, gamma, pairwise)
            else:
                y.addcmul_(gamma, pairwise)  # the sum is ours: no third map of its size
        assert y is not None  # every mode has a term
        return y

    def attention_maps(self, x: Tensor, queries: Tensor | None = None) -> AttentionMaps:
        """The two terms' weights for ``x`` ``(N, C, H, W)``, without gamma.

        Args:
            x: the block's input.
            queries: Q positions ``row * W + column``; all L if None.

        Returns:
            pairwise ``(N, Q, S)`` and unary ``(N, S)``, each None where the mode has none.
        """
        keys = self._key_input(x)
        query, key = self._query_and_key(x, keys)
        pairwise = None
        if self.has_pairwise:
            white_query, white_key = self._whitened(query, key)
            chosen = choose(white_query, queries)
            if self.kernel == "dot_product":
                pairwise = dot_product_weights(chosen, white_key)
            else:
                pairwise = attention_weights(chosen, white_key, scale=self.scale)
        return AttentionMaps(pairwise, self._unary(query, key, keys))

    def _key_input(self, x: Tensor) -> Tensor:
        if not self.downsample:
            return x
        height, width = x.shape[2:]
        # A trace is for any size: whether a side is 1 is computed in it.
        if torch.jit.is_tracing() or height == 1 or width == 1:
            x = F.pad(x, (0, 1 // width, 0, 1 // height), value=-math.inf)
        return F.max_pool2d(x, 2)

    def _query_and_key(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return to_tokens(self.conv_query(x)), to_tokens(self.conv_key(keys))  # (N, L|S, D)

    def _whitened(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        # Centring the keys as well would add the same number to all logits of a query, which the
        # softmax over keys cancels; or nothing with "spatial", where a query's channels sum to 0.
        if not self.whiten:
            return query, key
        query = query.to(torch.promote_types(query.dtype, torch.float32))
        query = query - query.mean(self.whiten_dims, keepdim=True)
        if self.kernel == "dot_product":  # where nothing cancels it
            key = key.to(torch.promote_types(key.dtype, torch.float32))
            key = key - key.mean(self.whiten_dims, keepdim=True)
        if self.whiten_variance:
            key = key.to(torch.promote_types(key.dtype, torch.float32))
            query = query * (query.var(self.whiten_dims, keepdim=True) + 1e-5).rsqrt()
            key = key * (key.var(self.whiten_dims, keepdim=True) + 1e-5).rsqrt()
        return query, key

    def _unary(self, query: Tensor, key: Tensor, keys: Tensor) -> Tensor | None:
        if self.conv_mask is not None:
            return softmax32(self.conv_mask(keys).flatten(1))  # (N, S)
        if self.mode == "unary" or self.mode == "add_shared":
            mean = query.to(torch.promote_types(query.dtype, torch.float32)).mean(1, keepdim=True)
            return attention_weights(mean, key, scale=self.unary_scale).squeeze(1)  # (N, S)
        return None
