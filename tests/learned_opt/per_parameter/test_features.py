"""Features against their formulas, and the precision of the debiasing."""

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.per_parameter.blocks import normalize, running_averages
from learned_opt.per_parameter.features import (
    FEATURE_KINDS,
    Averages,
    count_features,
    debias,
    feature_rows,
    time_features,
)


def averages(num_second):
    def rows(n, start):
        return [jnp.array([start + i, 0.5]) for i in range(n)]

    def ones(n, x):
        return [jnp.asarray(x)] * n

    return Averages(
        jnp.array([2.0, -1.0]), jnp.ones(2), rows(2, 1.0), rows(num_second, 4.0), ones(2, 3.0), ones(num_second, 4.0)
    )


def test_each_kind():
    one = averages(1)
    np.testing.assert_allclose(feature_rows(["adam_gradient"], one), [[2 / 4, -1 / np.sqrt(2)]], rtol=1e-6)
    want = [[3 / 4, 1.5 / np.sqrt(2)], [6 / 4, 1.5 / np.sqrt(2)]]
    np.testing.assert_allclose(feature_rows(["adam_momentum"], one), want, rtol=1e-6)
    inverse = 1 / np.sqrt(np.array([[4.0, 0.5], [5.0, 0.5]]) + 1e-6)
    np.testing.assert_allclose(feature_rows(["inverse_rms"], averages(2)), inverse, rtol=1e-6)
    want = inverse * np.array([[1.0, 0.5], [2.0, 0.5]])
    np.testing.assert_allclose(feature_rows(["momentum_over_rms"], averages(2)), want, rtol=1e-6)


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_counts_are_right(kind):
    for num_second in (1, 2):
        assert len(feature_rows([kind], averages(num_second))) == count_features([kind], 2, num_second)


def test_debias_is_exact_for_a_decay_near_one():
    for steps in (1, 7, 10_000):
        np.testing.assert_allclose(debias(0.9999, jnp.float32(steps)), 1 / (1 - 0.9999**steps), rtol=1e-6)
    assert float(debias(0.0, jnp.float32(3))) == 1.0


def test_debiased_average_of_a_constant_is_the_constant():
    average = jnp.zeros((2, 1))
    for _ in range(5):
        average = running_averages(average, jnp.full(1, 3.0), (0.9, 0.9999))
    factor = jnp.stack([debias(decay, jnp.float32(5)) for decay in (0.9, 0.9999)])
    np.testing.assert_allclose(average[:, 0] * factor, 3.0, rtol=1e-6)


def test_normalization_is_per_tensor_and_time_is_not_normalized():
    row = jnp.array([3.0, 4.0, 100.0])
    want = np.array([3, 4, 100.0]) / np.sqrt(1e-5 + np.array([12.5, 12.5, 10_000.0]))
    np.testing.assert_allclose(normalize(row, (2, 1)), want, rtol=1e-6)
    np.testing.assert_allclose(time_features(jnp.int32(30), (10.0, 30.0), jnp.float32), np.tanh([2.0, 0.0]), rtol=1e-6)
