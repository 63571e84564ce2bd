"""Means and variances of samples that are huge, tiny,
few or not finite, on one device and on two.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from outer_train import PARTICLES, particle_mesh
from outer_train.estimators._merged import merge_moments
from outer_train.particles._moments import (
    Moments,
    first_pass,
    mean_variance,
    num_unknown,
    second_pass,
)


def found(samples, num_devices):
    """Moments, mean variance and count of unknowns, as an estimator gets them."""

    def run(samples):
        first, _ = first_pass(samples, PARTICLES)
        moments = second_pass(samples, first, PARTICLES)
        return moments, mean_variance(samples, first, PARTICLES), num_unknown([first.count])

    mesh = particle_mesh(len(samples), num_devices)
    spread = jax.shard_map(run, mesh=mesh, in_specs=P(PARTICLES), out_specs=P())
    return jax.tree.map(np.asarray, jax.jit(spread)(jnp.asarray(samples, jnp.float32)))


@pytest.mark.parametrize("num_devices", [1, 2])
def test_samples_of_any_size(num_devices):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(16, 5)).astype(np.float32)
    expected = base.astype(np.float64)
    for scale in (1.0, 2.0**-100, 2.0**120):
        moments, mean_of_variance, unknown = found(base * np.float32(scale), num_devices)
        np.testing.assert_allclose(moments.mean / scale, expected.mean(0), rtol=1e-5, atol=1e-6)
        with np.errstate(over="ignore", under="ignore"):
            variance = (expected.var(0, ddof=1) * scale**2).astype(np.float32)
        np.testing.assert_allclose(moments.variance, variance, rtol=1e-5, atol=1e-38)
        np.testing.assert_allclose(
            moments.relative / moments.relative[0], expected.var(0) / expected.var(0)[0], rtol=1e-5
        )
        np.testing.assert_allclose(
            mean_of_variance, np.float32(variance.mean(dtype=np.float64)), rtol=1e-5, atol=1e-38
        )
        assert unknown == 0
    # Sixteen finite gradients whose sum is infinite, and whose mean is not.
    moments, _, _ = found(np.full((16, 5), 6e37), num_devices)
    np.testing.assert_allclose(moments.mean, 6e37, rtol=1e-6)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_variances_of_fewer_than_two_samples_are_unknown(num_devices):
    samples = np.random.default_rng(1).normal(size=(4, 4))
    samples[:, 0] = np.nan  # none left
    samples[1:, 1] = np.inf  # one left
    samples[0, 2] = np.nan  # three left
    moments, mean_of_variance, unknown = found(samples, num_devices)
    np.testing.assert_allclose(
        moments.mean, [0, samples[0, 1], samples[1:, 2].mean(), samples[:, 3].mean()], rtol=1e-5
    )
    assert np.isnan(moments.variance[:2]).all()
    assert np.isposinf(moments.variance[2])
    np.testing.assert_allclose(moments.variance[3], samples[:, 3].var(ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(moments.count, [0, 1, 3, 4])
    assert unknown == 1
    assert np.isnan(mean_of_variance)


def moments_of(*parts):
    """Each part's moments, in the unit that they share."""
    samples = [jnp.asarray(part, jnp.float32) for part in parts]
    joint = jax.jit(lambda samples: second_pass(samples, first_pass(samples, None)[0], None))(
        samples
    )
    return [Moments(*(column[i] for column in joint)) for i in range(len(parts))]


merged = jax.jit(merge_moments, static_argnums=2)


def test_weights_where_variances_are_unknown():
    """By the samples that are left.

    A part with one left is nothing beside one with more, a part with none nothing.
    """
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, size=(6, 5)), rng.normal(3, 2, size=(6, 5))
    a[0, 1] = np.nan  # spoilt, b is not: b alone
    a[0, 2], b[1, 2] = np.inf, np.nan  # both spoilt: by the variances of what is left
    a[1:, 3], b[0, 3] = np.nan, np.nan  # one left in a, five in b: b alone
    a[:, 4], b[1:, 4] = np.nan, np.nan  # none in a, one in b: b's one
    clean = rng.normal(size=(6, 5))
    *parts, clean = moments_of(a, b, clean)
    mean, weights = merged(parts, parts, "elementwise")
    left = [[column[np.isfinite(column)] for column in part.T] for part in (a, b)]
    inverse = [[1 / x.var(ddof=1) if len(x) > 1 else 0.0 for x in part] for part in left]
    share = [inverse[0][i] / (inverse[0][i] + inverse[1][i]) for i in (0, 2)]
    np.testing.assert_allclose(weights[0], [share[0], 0, share[1], 0, 0], rtol=1e-4)
    np.testing.assert_allclose(weights[0] + weights[1], 1, rtol=1e-6)
    means = np.array([[x.mean() if len(x) else 0.0 for x in part] for part in left])
    np.testing.assert_allclose(
        mean, np.asarray(weights[0]) * means[0] + np.asarray(weights[1]) * means[1], rtol=1e-5
    )
    # One weight for all of theta needs all variances:
    # neither part has them, so both count alike where they can.
    mean, weights = merged(parts, parts, "global")
    np.testing.assert_allclose(weights[1], [0.5, 0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(mean[4], means[1, 4], rtol=1e-5)
    mean, weights = merged([parts[0], clean], [parts[0], clean], "global")
    np.testing.assert_allclose(weights[1], 1.0)
    (nothing,) = moments_of(np.full((3, 1), np.nan))
    mean, weights = merged([nothing, nothing], [nothing, nothing], "elementwise")
    assert float(mean[0]) == 0
    assert np.isnan(weights[0]).all()


def test_weights_of_variances_that_overflow():
    """Of samples near 1e20 and 1e30 the variances are infinite in float32, their ratio is not."""
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(2, 8, 3)).astype(np.float32)
    parts = moments_of(draws[0] * np.float32(1e21), draws[1] * np.float32(3e21))
    assert all(np.isposinf(part.variance).all() for part in parts)
    _, weights = merged(parts, parts, "elementwise")
    inverse = 1 / np.array([draws[0].var(0, ddof=1), 9 * draws[1].var(0, ddof=1)], np.float64)
    np.testing.assert_allclose(weights[0], inverse[0] / inverse.sum(0), rtol=1e-4)
