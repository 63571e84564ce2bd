"""Features against their formulas, and the precision of the debiasing."""

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.per_parameter import _adafactor_mlp, _mlp
from learned_opt.per_parameter.features import (
    FEATURE_KINDS,
    NORMALIZED,
    check_features,
    feature_rows,
    num_rows,
    time_features,
)
from learned_opt.per_parameter.group_update import over_tensors
from learned_opt.trees.averages import (
    Averages,
    Debias,
    Decays,
    FactoredMoments,
    debias_factor,
    running_averages,
)


def averages(num_second):
    """Of two parameters, two momenta and as many factored as other second moments;
    and what debiases them.
    """

    def rows(n, start):
        return [jnp.array([start + i, 0.5]) for i in range(n)]

    def ones(n, x):
        return [jnp.asarray(x)] * n

    factored = FactoredMoments(rows(num_second, 4.0), rows(num_second, 6.0), rows(num_second, 8.0))
    seen = Averages(
        jnp.array([2.0, -1.0]), jnp.ones(2), rows(2, 1.0), rows(num_second, 4.0), factored
    )
    return seen, Debias(ones(2, 3.0), ones(num_second, 4.0), ones(num_second, 4.0))


def test_each_kind():
    for prefix in ("adam", "log_adam", "adafactor"):
        want = [[2 / 4, -1 / np.sqrt(2)]]
        np.testing.assert_allclose(
            feature_rows([f"{prefix}_gradient"], *averages(1)), want, rtol=1e-6
        )
        want = [[3 / 4, 1.5 / np.sqrt(2)], [6 / 4, 1.5 / np.sqrt(2)]]
        np.testing.assert_allclose(
            feature_rows([f"{prefix}_momentum"], *averages(1)), want, rtol=1e-6
        )
    inverse = 1 / np.sqrt(np.array([[4.0, 0.5], [5.0, 0.5]]) + 1e-6)
    np.testing.assert_allclose(feature_rows(["inverse_rms"], *averages(2)), inverse, rtol=1e-6)
    np.testing.assert_allclose(
        feature_rows(["factored_gradient"], *averages(2)), inverse * [2.0, -1.0], rtol=1e-6
    )
    want = inverse * np.array([[1.0, 0.5], [2.0, 0.5]])
    for kind in ("momentum_over_rms", "factored_momentum"):
        np.testing.assert_allclose(feature_rows([kind], *averages(2)), want, rtol=1e-6)
    inverse = 1 / np.sqrt(np.array([[8.0, 0.5], [9.0, 0.5]]) + 1e-6)
    np.testing.assert_allclose(
        feature_rows(["inverse_column_rms"], *averages(2)), inverse, rtol=1e-6
    )


@pytest.mark.parametrize("kind", FEATURE_KINDS)
def test_counts_are_right(kind):
    for num_second in (1, 2):
        decays = Decays((0.9,) * 2, (0.9,) * num_second, (0.9,) * num_second)
        assert len(feature_rows([kind], *averages(num_second))) == num_rows([kind], decays)


def test_each_kind_is_some_optimizers():
    assert {*_mlp.FEATURES, *_adafactor_mlp.FEATURES} == set(FEATURE_KINDS)
    # What one optimizer may use it has the averages for.
    for module, decays in (
        (_mlp, Decays((0.9,), (0.9,))),
        (_adafactor_mlp, Decays((0.9,), (0.9,), (0.9,))),
    ):
        assert num_rows(module.FEATURES, decays) == len(module.FEATURES)
        check_features(module.FEATURES, module.FEATURES, decays)


def test_debias_is_exact_for_a_decay_near_one():
    for steps in (1, 7, 10_000):
        np.testing.assert_allclose(
            debias_factor(0.9999, jnp.float32(steps)), 1 / (1 - 0.9999**steps), rtol=1e-6
        )
    assert float(debias_factor(0.0, jnp.float32(3))) == 1.0


def test_debiased_average_of_a_constant_is_the_constant():
    average = jnp.zeros((2, 1))
    for _ in range(5):
        average = running_averages(average, jnp.full(1, 3.0), (0.9, 0.9999))
    factor = jnp.stack([debias_factor(decay, jnp.float32(5)) for decay in (0.9, 0.9999)])
    np.testing.assert_allclose(average[:, 0] * factor, 3.0, rtol=1e-6)


def test_normalization_is_per_tensor_and_time_is_not_normalized():
    row = jnp.array([3.0, 4.0, 100.0])
    want = np.array([3, 4, 100.0]) / np.sqrt(1e-5 + np.array([12.5, 12.5, 10_000.0]))
    np.testing.assert_allclose(over_tensors(row, NORMALIZED, (2, 1)), want, rtol=1e-6)
    np.testing.assert_allclose(
        time_features(jnp.int32(30), (10.0, 30.0), jnp.float32), np.tanh([2.0, 0.0]), rtol=1e-6
    )
