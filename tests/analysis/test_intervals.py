"""Confidence intervals cover the true mean as often as they say."""

import numpy as np
import pytest

from dnl_det.analysis import Mean, mean_over_images


def test_the_interval_is_the_normal_one_where_that_applies():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = mean_over_images(values)
    error = values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_about_95_of_100_intervals_hold_the_truth():
    generator = np.random.default_rng(0)
    found = [mean_over_images(generator.uniform(size=40)) for _ in range(100)]
    assert 88 <= sum(mean.low <= 0.5 <= mean.high for mean in found) <= 99


def test_images_without_a_value_are_left_out():
    found = mean_over_images([1.0, None, 2.0, None, 3.0])
    assert (found.value, found.images) == (2.0, 3)
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0
    assert mean_over_images([None, 1.5]) == Mean(1.5, None, None, 1)
    assert mean_over_images([None]) is None
    assert found == mean_over_images([1.0, 2.0, 3.0])
