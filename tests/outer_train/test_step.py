"""The outer step: what it does to theta, several families, donation, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from outer_train import PARTICLES, estimators, outer_step, particle_mesh, truncation
from tests.support.outer_train.systems import linear_quadratic

KEY = jax.random.key(0)


def _backprop(seed):
    problem, _ = linear_quadratic(num_steps=8, noise=0.0, seed=seed)
    return estimators.truncated_backprop(problem, 4, axis_name=PARTICLES)


def _change(made):
    """Minus the gradient of one step, as plain descent at rate 1 shows it."""
    run = outer_step(made, optax.sgd(1.0), truncation.constant(5), particle_mesh(4, 2))
    theta = jnp.asarray([0.3, -0.5, 0.2, 0.4], jnp.float32)
    state, metrics = run.step(run.init(theta, KEY), KEY, ((),) * len(made))
    # The caller's is not donated.
    np.testing.assert_array_equal(theta, jnp.asarray([0.3, -0.5, 0.2, 0.4], jnp.float32))
    return np.asarray(state.theta) - np.asarray(theta), metrics


def test_families_gradients_are_averaged():
    (one, metrics_one), (two, metrics_two) = _change([_backprop(0)]), _change([_backprop(1)])
    both, metrics = _change([_backprop(0), _backprop(1)])
    assert np.abs(one - two).max() > 0.1
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-5)
    losses = [metrics_one["outer_loss"], metrics_two["outer_loss"]]
    np.testing.assert_allclose(
        [metrics["outer_loss_0"], metrics["outer_loss_1"]], losses, rtol=1e-5
    )
    np.testing.assert_allclose(metrics["outer_loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(both), rtol=1e-5)
    assert int(metrics["num_live_inner_steps"]) == 2 * 4 * 5


def test_one_compilation_serves_a_curriculum():
    problem, _ = linear_quadratic(num_steps=50)
    merged = estimators.merged(problem, 4, axis_name=PARTICLES, chunk_size=4, stagger=True)
    run = outer_step([merged], optax.adam(1e-2), truncation.linear(1, 40, 10), particle_mesh(4, 2))
    state, lengths = run.init(jnp.zeros(4, jnp.float32), KEY), []
    for _ in range(12):
        state, metrics = run.step(state, KEY, ((),))
        lengths.append(int(metrics["truncation_length"]))
    assert run.step._cache_size() == 1
    assert len(set(lengths)) > 8
    assert int(state.step) == 12


def test_no_estimator_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        outer_step([], optax.sgd(1.0), truncation.constant(5), particle_mesh(4, 1))
