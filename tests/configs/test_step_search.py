"""A candidate of the search over a theta's step changes the rate and the direction by what its numbers say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base, step_search
from configs.build import build_optimizer

OPTIMIZER = base.Mlp(
    hidden_sizes=(6,),
    momentum_decays=(0.9,),
    timescales=(10.0,),
    features=("parameter", "adam_gradient", "adam_momentum", "log_parameter"),
    step_multiplier=0.01,
    exp_multiplier=0.5,
    output_init_scale=0.0,
    adam_learning_rate=1e-3,
    adam_exponents=(0.5,),
    adam_time_exponents=(0.1,),
)
PARAMETER, GRADIENT, MOMENTUM, LOG, TIME, BIAS = range(6)


def steps(numbers):
    """The first two updates of a fresh theta with these numbers."""
    optimizer = build_optimizer(OPTIMIZER)[0]
    theta = step_search.moved(
        step_search.settings_of(OPTIMIZER), optimizer.init(jax.random.key(0)), np.asarray(numbers, float)
    )
    opt = optimizer.optimizer(theta)
    params, updates = jnp.array([0.3, -0.2, 0.1]), []
    state = opt.init(params)
    for grads in (jnp.array([1.0, -2.0, 0.5]), jnp.array([0.5, 1.0, -1.0])):
        update, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, update)
        updates.append(np.asarray(update))
    return updates, np.asarray([0.3, -0.2, 0.1])


def one(index, value):
    return np.eye(6)[index] * value


def test_numbers_of_the_rate_scale_the_step():
    still, params = steps(np.zeros(6))
    log_rms = 0.5 * np.log10(1e-4 + np.mean(params**2))
    for numbers, factor in [
        (one(BIAS, 0.3), np.exp(0.3)),
        (one(LOG, 0.7), np.exp(0.7 * log_rms)),
        (one(TIME, 0.4), np.exp(0.4 * np.tanh(0.0 - 1.0))),
    ]:
        np.testing.assert_allclose(steps(numbers)[0][0], factor * still[0], rtol=1e-5)


def test_numbers_of_the_direction_add_their_input():
    (first, second), params = steps(np.zeros(6))
    normalized = params / np.sqrt(1e-5 + np.mean(params**2))
    rate = np.abs(first[0]) / 0.1  # of a direction of one: a fresh theta's is a tenth of Adam's sign at first
    np.testing.assert_allclose(steps(one(PARAMETER, 0.02))[0][0] - first, -rate * 0.02 * normalized, rtol=1e-4)
    # The gradient and Adam's momentum are the same at the first step alone.
    by_gradient, by_momentum = (steps(one(i, 0.05))[0] for i in (GRADIENT, MOMENTUM))
    np.testing.assert_allclose(by_gradient[0], by_momentum[0], rtol=1e-5)
    assert np.abs(by_gradient[1] - by_momentum[1]).max() > 1e-3 * np.abs(second).max()


def test_only_a_theta_that_starts_as_adam_is_searched():
    search = step_search.start(OPTIMIZER)
    np.testing.assert_allclose(search.std, [0.001, 0.005, 0.005, 0.25, 0.08, 0.2])
    assert not search.mean.any()
    for wrong in ({"adam_exponents": None}, {"adam_learning_rate": None}, {"hidden_sizes": (6, 6)}):
        with pytest.raises(ValueError, match="step_search needs one hidden layer"):
            step_search.start(dataclasses.replace(OPTIMIZER, **wrong))
