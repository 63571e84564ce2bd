"""The toy surfaces against their known minima and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from tasks.analytic import surfaces


def loss_of(task):
    return lambda params: task.loss(
        params, jax.random.key(0), task.sample_batch((), jax.random.key(0), "train")
    )[0]


@pytest.mark.parametrize(
    ("task", "point", "value"),
    [
        (surfaces.beale(), (3.0, 0.5), 0.0),
        (surfaces.beale(), (0.0, 7.0), 1.5**2 + 2.25**2 + 2.625**2),
        (surfaces.smoothed_bukin(epsilon=1e-3), (-8.0, -0.08), (1e-3**0.5 + 1e-3) ** 0.5),
        (surfaces.smoothed_bukin(epsilon=1e-12), (2.0, 4.02), 2.0),
        (surfaces.double_well(), 1.0, 6.0),
    ],
)
def test_losses_by_hand(task, point, value):
    assert float(loss_of(task)(jnp.asarray(point, jnp.float32))) == pytest.approx(value, abs=2e-5)


def test_double_well_has_the_minima_and_the_barrier_of_the_figure():
    with jax.enable_x64(True):
        loss = loss_of(surfaces.double_well())
        slope = jax.grad(loss)
        minimum = scipy.optimize.brentq(lambda w: float(slope(w)), 3.0, 4.0)
        barrier = scipy.optimize.brentq(lambda w: float(slope(w)), 1.0, 2.0)
        lowest = float(loss(minimum))
        assert float(slope(0.0)) == 0
    assert minimum == pytest.approx(3.5687, abs=5e-5)
    assert lowest == pytest.approx(-3.1238, abs=5e-5)
    assert barrier == pytest.approx(1.6813, abs=5e-5)


@pytest.mark.parametrize("factory", [surfaces.beale, surfaces.smoothed_bukin])
def test_gradients_against_finite_differences(factory):
    with jax.enable_x64(True):
        task = factory()
        loss, start = loss_of(task), task.init(jax.random.key(0))
        expected = scipy.optimize.approx_fprime(
            np.asarray(start), lambda x: float(loss(jnp.asarray(x))), 1e-7
        )
        np.testing.assert_allclose(jax.grad(loss)(start), expected, rtol=1e-4, atol=1e-6)


def test_starts_are_those_asked_for():
    np.testing.assert_array_equal(surfaces.beale().init(jax.random.key(0)), [1, 1])
    np.testing.assert_array_equal(
        surfaces.smoothed_bukin((1.0, 2.0)).init(jax.random.key(1)), [1, 2]
    )
    assert surfaces.double_well().init(jax.random.key(0)) == pytest.approx(-1.2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: surfaces.beale((1.0, 2.0, 3.0)), r"start must have shape \(2,\), got \(3,\)"),
        (lambda: surfaces.double_well((1.0,)), r"start must have shape \(\), got \(1,\)"),
        (lambda: surfaces.smoothed_bukin(epsilon=0.0), "epsilon must be > 0 and finite, got 0.0"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
