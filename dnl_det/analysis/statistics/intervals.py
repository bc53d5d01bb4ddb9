"""Means over images with confidence intervals."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000
_AT_ONCE = 100
_SEED = 0


@dataclass(frozen=True)
class Mean:
    """A mean over images.

    Attributes:
        value: the mean.
        low, high: of its confidence interval; None with fewer than two images.
        images: how many have the quantity.
    """

    value: float
    low: float | None
    high: float | None
    images: int


def mean_over_images(values: Iterable[float | None]) -> Mean | None:
    """The mean of the known values, with its 95 % percentile bootstrap interval over images.

    2,000 times, as many images are drawn with replacement; the interval is the middle 95 % of the
    means of these draws. The seed is fixed.

    Args:
        values: one an image; None where it has none.

    Returns:
        None where no image has a value.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    count = len(known)
    if count < 2:
        return Mean(float(known[0]), None, None, 1) if count else None
    generator = np.random.default_rng(_SEED)
    draws = (
        generator.integers(count, size=(_AT_ONCE, count)) for _ in range(0, _RESAMPLES, _AT_ONCE)
    )
    means = np.concatenate([known[drawn].mean(1) for drawn in draws])
    low, high = np.quantile(means, [0.025, 0.975])
    return Mean(float(known.mean()), float(low), float(high), count)
