"""Outputs equal a loop over positions written from the equations, in NumPy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray

Parameters = dict[str, ndarray]
TAU = 0.05


def _conv(p: Parameters, name: str, x: ndarray) -> ndarray:
    y = np.einsum("oc,cl->ol", p[f"{name}.weight"][:, :, 0, 0], x)
    return y + p[f"{name}.bias"][:, None] if f"{name}.bias" in p else y


def _softmax(logits: ndarray) -> ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


def _attend(query: ndarray, key: ndarray, value: ndarray, scale: float) -> ndarray:
    out = np.zeros((value.shape[0], query.shape[1]))
    for i in range(query.shape[1]):
        weights = _softmax(np.array([scale * query[:, i] @ k for k in key.T]))
        for j, weight in enumerate(weights):
            out[:, i] += weight * value[:, j]
    return out


def _centred(x: ndarray) -> ndarray:
    return x - x.mean(axis=1, keepdims=True)


def _pool2x2(x: ndarray) -> ndarray:
    channels, height, width = x.shape
    out = np.empty((channels, height // 2, width // 2))
    for row in range(height // 2):
        for column in range(width // 2):
            window = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            out[:, row, column] = window.max(axis=(1, 2))
    return out


def _attend_by_dot_product(q: ndarray, k: ndarray, v: ndarray) -> ndarray:
    weights = np.array([[a @ b for b in k.T] for a in q.T]) / k.shape[1]  # (L, S)
    return v @ weights.T


def _standardised(x: ndarray) -> ndarray:
    return (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-5)


def _dnl(p: Parameters, x: ndarray, mode: str = "disentangled", **options: Any) -> ndarray:
    tokens = x.reshape(len(x), -1)
    keys = _pool2x2(x).reshape(len(x), -1) if options.get("downsample") else tokens
    q, k, v = (
        _conv(p, "conv_query", tokens),
        _conv(p, "conv_key", keys),
        _conv(p, "conv_value", keys),
    )
    root = np.sqrt(len(q)) if options.get("scale", True) else 1.0
    scale = 1 / (root * options.get("temperature", TAU))
    context = np.zeros((len(v), q.shape[1]))

    gamma = p.get("gamma", 1.0)
    attend = partial(_attend, scale=scale)
    if options.get("kernel") == "dot_product":
        attend = _attend_by_dot_product
    if mode == "joint" or not options.get("whiten", True):
        context += gamma * attend(q, k, v)
    elif mode != "unary":
        whiten = _standardised if options.get("whitening") == "ln" else _centred
        context += gamma * attend(whiten(q), whiten(k), v)
    if mode == "disentangled":
        context += (v @ _softmax(_conv(p, "conv_mask", keys)[0]))[:, None]
    elif mode in ("unary", "add_shared"):
        context += _attend(q.mean(axis=1, keepdims=True), k, v, scale)

    if options.get("use_out"):
        context = _conv(p, "conv_out", context)
    return tokens + context


def _nl(
    p: Parameters, x: ndarray, kernel: str = "embedded_gaussian", legacy_scale: bool = False
) -> ndarray:
    tokens = x.reshape(len(x), -1)
    g = _conv(p, "g", tokens)
    if kernel == "gaussian":
        return tokens + _conv(p, "conv_out", _attend(tokens, tokens, g, 1.0))
    theta, phi = _conv(p, "theta", tokens), _conv(p, "phi", tokens)
    if kernel == "dot_product":
        context = np.zeros_like(g)
        for i in range(g.shape[1]):
            for j in range(g.shape[1]):
                context[:, i] += theta[:, i] @ phi[:, j] / g.shape[1] * g[:, j]
    else:
        root = np.sqrt(len(theta))
        context = _attend(theta, phi, g, root if legacy_scale else 1 / root)
    return tokens + _conv(p, "conv_out", context)


def _snl(p: Parameters, x: ndarray) -> ndarray:
    tokens = x.reshape(len(x), -1)
    weights = _softmax(_conv(p, "conv_mask", tokens)[0])
    context = sum(w * v for w, v in zip(weights, _conv(p, "conv_value", tokens).T, strict=True))
    return tokens + context[:, None]


def _gc(
    p: Parameters, x: ndarray, pooling: str = "attention", fusion: tuple[str, ...] = ("add",)
) -> ndarray:
    tokens = x.reshape(len(x), -1)
    context = tokens.mean(axis=1)
    if pooling == "attention":
        context = tokens @ _softmax(_conv(p, "conv_mask", tokens)[0])

    def transform(name: str) -> ndarray:
        hidden = _conv(p, f"{name}.0", context[:, None])
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        hidden = hidden * p[f"{name}.1.weight"][:, 0] + p[f"{name}.1.bias"][:, 0]
        return _conv(p, f"{name}.3", np.maximum(hidden, 0))

    y = tokens
    if "mul" in fusion:
        y = y / (1 + np.exp(-transform("channel_mul_conv")))
    if "add" in fusion:
        y = y + transform("channel_add_conv")
    return y


REFERENCES: dict[str, Callable[..., ndarray]] = {"dnl": _dnl, "nl": _nl, "snl": _snl, "gc": _gc}


@pytest.mark.parametrize("size", [(3, 4), (4, 5)])
def test_output_equals_a_loop_over_positions(
    variant: tuple[str, dict[str, Any]],
    size: tuple[int, int],
    build: Any,
    features: Any,
    device: str,
) -> None:
    name, kwargs = variant
    block = build(name, **kwargs)
    x = features(2, 8, *size)
    p = {key: value.numpy() for key, value in block.state_dict().items()}
    kwargs = {key: value for key, value in kwargs.items() if key != "backend"}

    expected = np.stack([REFERENCES[name](p, image.numpy(), **kwargs) for image in x])
    y = block.to(device)(x.to(device)).cpu()
    torch.testing.assert_close(
        y.flatten(2).detach(), torch.from_numpy(expected), rtol=0, atol=1e-12
    )
    # The blocks must do something here, or the comparison would say nothing.
    assert (y - x).abs().max() > 0.05


def test_output_of_one_position_is_its_own_value(build: Any, features: Any) -> None:
    block = build("dnl")
    x = features(1, 8, 1, 1)
    expected = x + (1 + block.gamma) * block.conv_value(x)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-14)
